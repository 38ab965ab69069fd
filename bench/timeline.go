package bench

import (
	"fmt"
	"slices"
	"strings"

	"steno/transcript"
)

// Placement is where a clip of speech stands in a file: seconds from its first sound to its last, and the words.
type Placement = struct {
	Start, End float64
	Text       string
}

// Tolerance is by how many seconds a time may be wrong.
const Tolerance = 0.3

// pause is the longest silence in seconds that a segment may run across: within a sentence people pause that long.
const pause = 2

// A Violation is a fault of a transcript whose truth is known.
type Violation struct {
	Kind    ViolationKind
	Segment int     // index in the transcript; -1 where the fault is of no segment
	Clip    int     // index of the placement; -1 where it is of none
	At      float64 // seconds of the file
	Detail  string
}

func (v Violation) String() string { return fmt.Sprintf("%s at %.2f s: %s", v.Kind, v.At, v.Detail) }

// ViolationKind says what is wrong.
type ViolationKind string

// The faults that CheckTimeline finds.
const (
	Disordered ViolationKind = "disordered" // a segment or word begins before the one before it, or ends before it begins
	WrongStart ViolationKind = "wrong-start"
	InSilence  ViolationKind = "in-silence" // a segment or word that touches no speech
	Overruns   ViolationKind = "overruns"   // a segment reaches into a silence
	Lost       ViolationKind = "lost"       // words missing at the beginning or end of a clip
	Doubled    ViolationKind = "doubled"    // words written twice at the beginning or end of a clip
	Invented   ViolationKind = "invented"   // words nobody said, between two clips
)

// CheckTimeline compares t with the speech that its file was made of and returns what is wrong, in the order of the file:
//
//   - A segment whose first word opens a clip starts within Tolerance of the clip; any other starts within its clip.
//   - No segment and no word lies in a silence. A segment reaches at most Tolerance into one, unless it has words on both
//     sides and the silence lasts at most 2 s.
//   - No word is lost, doubled or invented where clips meet silence, which is where a file is cut into chunks. A word that was
//     misheard, or lost in the middle of a clip, is the model's error and counts in WER alone.
func CheckTimeline(t transcript.Transcript, placements []Placement) []Violation {
	c := newTimelineCheck(t, placements)
	for i := range t.Segments {
		c.checkOrder(i)
		c.checkStart(i)
		c.checkSilence(i)
	}
	c.checkCuts()
	slices.SortStableFunc(c.found, func(a, b Violation) int {
		switch {
		case a.At < b.At:
			return -1
		case a.At > b.At:
			return 1
		}
		return 0
	})
	return c.found
}

// timelineCheck aligns the words of all clips with those of all segments.
type timelineCheck struct {
	segments   []transcript.Segment
	placements []Placement
	ref, hyp   []string
	clip       []int // of each word of ref
	first      []int // index in ref of each clip's first word; one more for the end
	segment    []int // of each word of hyp
	said       []int // index in ref that each word of hyp stands for; -1 for an insertion
	edits      []Edit
	found      []Violation
}

func newTimelineCheck(t transcript.Transcript, placements []Placement) *timelineCheck {
	c := &timelineCheck{segments: t.Segments, placements: placements}
	for i, p := range placements {
		c.first = append(c.first, len(c.ref))
		for _, word := range Normalize(t.Language, p.Text) {
			c.ref, c.clip = append(c.ref, word), append(c.clip, i)
		}
	}
	c.first = append(c.first, len(c.ref))
	for i, s := range t.Segments {
		for _, word := range Normalize(t.Language, s.Text) {
			c.hyp, c.segment = append(c.hyp, word), append(c.segment, i)
		}
	}
	c.said = slices.Repeat([]int{-1}, len(c.hyp))
	c.edits = Align(c.ref, c.hyp)
	for _, e := range c.edits {
		if e.Op == Equal || e.Op == Substituted {
			c.said[e.Hyp] = e.Ref
		}
	}
	return c
}

func (c *timelineCheck) report(kind ViolationKind, segment, clip int, at float64, format string, args ...any) {
	c.found = append(c.found, Violation{kind, segment, clip, at, fmt.Sprintf(format, args...)})
}

func (c *timelineCheck) checkOrder(i int) {
	s := c.segments[i]
	if s.End < s.Start {
		c.report(Disordered, i, -1, s.Start, "segment %q ends at %.2f s, before it begins", s.Text, s.End)
	}
	if i > 0 && s.Start < c.segments[i-1].Start {
		c.report(Disordered, i, -1, s.Start, "segment %q follows one that begins at %.2f s", s.Text, c.segments[i-1].Start)
	}
	for j, w := range s.Words {
		if w.End < w.Start || j > 0 && w.Start < s.Words[j-1].Start {
			c.report(Disordered, i, -1, w.Start, "word %q, from %.2f to %.2f s, is out of order", w.Text, w.Start, w.End)
		}
	}
}

// words are the indexes in ref of what segment i says, insertions left out.
func (c *timelineCheck) words(i int) []int {
	var said []int
	for j, segment := range c.segment {
		if segment == i && c.said[j] >= 0 {
			said = append(said, c.said[j])
		}
	}
	return said
}

func (c *timelineCheck) checkStart(i int) {
	s, said := c.segments[i], c.words(i)
	if len(said) == 0 {
		return
	}
	clip := c.clip[said[0]]
	p := c.placements[clip]
	switch opens := said[0] == c.first[clip]; {
	case opens && (s.Start < p.Start-Tolerance || s.Start > p.Start+Tolerance):
		c.report(WrongStart, i, clip, s.Start, "segment %q should start at %.2f s (%+.2f s)", s.Text, p.Start, s.Start-p.Start)
	case s.Start < p.Start-Tolerance || s.Start > p.End+Tolerance:
		c.report(WrongStart, i, clip, s.Start, "segment %q should start between %.2f and %.2f s", s.Text, p.Start, p.End)
	}
}

func (c *timelineCheck) checkSilence(i int) {
	s := c.segments[i]
	if !c.touchesSpeech(s.Start, s.End, 0) {
		c.report(InSilence, i, -1, s.Start, "nobody speaks between %.2f and %.2f s, where segment %q stands", s.Start, s.End, s.Text)
		return
	}
	for _, w := range s.Words {
		if !c.touchesSpeech(w.Start, w.End, Tolerance) {
			c.report(InSilence, i, -1, w.Start, "nobody speaks between %.2f and %.2f s, where word %q stands", w.Start, w.End, w.Text)
		}
	}
	said := c.words(i)
	for clip := 0; clip <= len(c.placements); clip++ { // the silence before each clip, and the one after the last
		from, to := 0.0, s.End
		if clip > 0 {
			from = c.placements[clip-1].End
		}
		if clip < len(c.placements) {
			to = c.placements[clip].Start
		}
		across := slices.ContainsFunc(said, func(w int) bool { return c.clip[w] < clip }) &&
			slices.ContainsFunc(said, func(w int) bool { return c.clip[w] >= clip })
		if across && to-from <= pause {
			continue
		}
		if begin, end := max(s.Start, from), min(s.End, to); end-begin > Tolerance {
			c.report(Overruns, i, clip-1, begin, "segment %q, from %.2f to %.2f s, covers %.2f s of silence",
				s.Text, s.Start, s.End, end-begin)
		}
	}
}

func (c *timelineCheck) touchesSpeech(start, end, slack float64) bool {
	return slices.ContainsFunc(c.placements, func(p Placement) bool {
		return start <= p.End+slack && end >= p.Start-slack
	})
}

// checkCuts goes over the runs of words that are missing or too many.
func (c *timelineCheck) checkCuts() {
	for from := 0; from < len(c.edits); {
		to := from + 1
		for to < len(c.edits) && c.edits[to].Op == c.edits[from].Op {
			to++
		}
		switch run := c.edits[from:to]; run[0].Op {
		case Deleted:
			c.checkLost(run)
		case Inserted:
			c.checkExtra(run)
		}
		from = to
	}
}

func (c *timelineCheck) checkLost(run []Edit) {
	begin, end := run[0].Ref, run[len(run)-1].Ref+1
	for clip, p := range c.placements {
		first, next := c.first[clip], c.first[clip+1]
		from, to := max(begin, first), min(end, next)
		if from >= to || from > first && to < next {
			continue // not of this clip, or in its middle
		}
		at := p.Start
		if from > first {
			at = p.End
		}
		c.report(Lost, -1, clip, at, "%q is missing of %q", strings.Join(c.ref[from:to], " "), p.Text)
	}
}

// checkExtra looks at words that were not said. Where they repeat their neighbours, the alignment may as well put them
// further to the left or right, so each such place is tried.
func (c *timelineCheck) checkExtra(run []Edit) {
	at, words := run[0].Ref, make([]string, len(run))
	for i, e := range run {
		words[i] = c.hyp[e.Hyp]
	}
	n := len(words)
	left, right := at, at
	for w := words; left > 0 && c.ref[left-1] == w[n-1]; left-- {
		w = append([]string{w[n-1]}, w[:n-1]...)
	}
	for w := words; right < len(c.ref) && c.ref[right] == w[0]; right++ {
		w = append(slices.Clone(w[1:]), w[0])
	}
	i, _ := slices.BinarySearch(c.first, left)
	if c.first[i] > right {
		return // in the middle of a clip wherever it is put
	}
	kind := Invented
	if right-left >= n {
		kind = Doubled
	}
	segment := c.segment[run[0].Hyp]
	clip := min(i, len(c.placements)-1)
	c.report(kind, segment, clip, c.segments[segment].Start, "%q in %q", strings.Join(words, " "), c.segments[segment].Text)
}
