package transcript

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// Part is what one chunk says. Segments and words count from the chunk's start.
type Part struct {
	Index      int
	Start, End float64 // the chunk's place in the source, seconds
	Segments   []Segment
}

// Pause is a stretch of the source without sound, in seconds.
type Pause struct{ Start, End float64 }

// Merge joins the parts of a job, in any order, to segments in source time: sorted, numbered, none overlapping, each within
// its chunk. Pauses must be sorted and disjoint; a segment that the model let start or end inside one is moved to the pause's edge, since
// Whisper's times are good to a few tenths of a second and the waveform's to a hundredth. It fails where an index is missing
// or doubled. O(n log n).
func Merge(parts []Part, pauses []Pause) ([]Segment, error) {
	parts = slices.Clone(parts)
	sort.Slice(parts, func(i, j int) bool { return parts[i].Index < parts[j].Index })
	var out []Segment
	last := 0.0
	for i, p := range parts {
		if p.Index != i {
			return nil, fmt.Errorf("merge chunks: chunk %d is missing or doubled", i)
		}
		if p.Start < last-1e-9 || p.End < p.Start {
			return nil, fmt.Errorf("merge chunks: chunk %d at %.3f–%.3f s overlaps the one before it", i, p.Start, p.End)
		}
		last = p.End
		out = p.append(out, pauses)
	}
	for i := range out {
		out[i].ID = i
	}
	return out, nil
}

// append adds the part's segments to out, in source time.
func (p Part) append(out []Segment, pauses []Pause) []Segment {
	floor := p.Start
	for _, s := range p.Segments {
		s.Text = strings.TrimSpace(s.Text)
		if s.Text == "" {
			continue
		}
		s.Start, s.End = p.place(s.Start, s.End, floor, pauses)
		s.Words = p.words(s, pauses)
		floor = s.End
		out = append(out, s)
	}
	return out
}

func (p Part) words(s Segment, pauses []Pause) []Word {
	if len(s.Words) == 0 {
		return nil
	}
	words := make([]Word, 0, len(s.Words))
	within := Part{Start: s.Start, End: s.End}
	floor := s.Start
	for _, w := range s.Words {
		// Words count from the chunk's start as segments do; within bounds them by their segment.
		w.Start, w.End = within.bound(p.Start+w.Start, p.Start+w.End, floor, pauses)
		floor = w.End
		words = append(words, w)
	}
	return words
}

func (p Part) place(start, end, floor float64, pauses []Pause) (a, b float64) {
	return p.bound(p.Start+start, p.Start+end, floor, pauses)
}

// bound brings a time range into [floor, p.End], out of pauses, and in order.
func (p Part) bound(start, end, floor float64, pauses []Pause) (a, b float64) {
	start = clamp(start, floor, p.End)
	end = clamp(end, start, p.End)
	a, b = snapStart(start, pauses), snapEnd(end, pauses)
	if b <= a {
		// It lay in one pause as a whole, or around its edge: what it says was said right after the pause, or, at the chunk's
		// end, right before it.
		b = max(a, end)
	}
	a = clamp(a, floor, p.End)
	return round(a), round(clamp(b, a, p.End))
}

// snapStart moves a start inside a pause to the pause's end.
func snapStart(t float64, pauses []Pause) float64 {
	i := sort.Search(len(pauses), func(i int) bool { return pauses[i].End > t })
	if i < len(pauses) && pauses[i].Start <= t {
		return pauses[i].End
	}
	return t
}

// snapEnd moves an end inside a pause to the pause's start.
func snapEnd(t float64, pauses []Pause) float64 {
	i := sort.Search(len(pauses), func(i int) bool { return pauses[i].End >= t })
	if i < len(pauses) && pauses[i].Start < t {
		return pauses[i].Start
	}
	return t
}

func clamp(t, lo, hi float64) float64 { return max(lo, min(t, max(lo, hi))) }

// round keeps milliseconds: finer than any model tells.
func round(t float64) float64 { return math.Round(t*1000) / 1000 }

// Text joins segments to running text: with a space between them, save where a script is written without.
func Text(segments []Segment) string {
	var b strings.Builder
	for _, s := range segments {
		if b.Len() > 0 && !(spacelessEnd(b.String()) && spacelessStart(s.Text)) {
			b.WriteByte(' ')
		}
		b.WriteString(s.Text)
	}
	return b.String()
}

func spacelessEnd(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return spaceless(r)
}

func spacelessStart(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return spaceless(r)
}

// spaceless reports whether r belongs to a script written without spaces between words: Chinese, Japanese, Thai, Lao,
// Khmer, Myanmar, or their punctuation.
func spaceless(r rune) bool {
	switch {
	case r >= 0x3000 && r <= 0x30ff, r >= 0x3400 && r <= 0x9fff, r >= 0xff00 && r <= 0xffef, r >= 0x20000 && r <= 0x2ffff,
		r >= 0x0e00 && r <= 0x0eff, r >= 0x1000 && r <= 0x109f, r >= 0x1780 && r <= 0x17ff:
		return true
	}
	return false
}
