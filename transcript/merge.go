package transcript

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
)

// Part is what one chunk says. Segments and words count from the chunk's start.
type Part struct {
	Index      int
	Start, End float64 // the chunk's place in the source, seconds
	Segments   []Segment
}

// Pause is a stretch of the source without sound, in seconds.
type Pause struct{ Start, End float64 }

// slack is by how many seconds a time may miss a pause and still belong to it. No word is that short, so a segment that starts
// 0.1 s before a pause and goes on after it really starts after it.
const slack = 0.1

// Merger joins the parts of a job, as they come and in any order, to segments in source time: sorted, numbered, none overlapping,
// each within its chunk, in milliseconds. A time that the model set inside a pause moves to its edge, since Whisper's times are
// good to a few tenths of a second and the waveform's to a hundredth; a segment that lies in one as a whole moves to the nearest
// speech of its chunk. The parts are left as they are. It is not safe for concurrent use.
type Merger struct {
	pauses  []Pause
	waiting map[int]Part // came before one that precedes them
	next    int          // index of the part that is wanted
	end     float64      // of the last part that was joined
	done    []Segment
}

// NewMerger makes a Merger. Pauses must be sorted and disjoint.
func NewMerger(pauses []Pause) *Merger { return &Merger{pauses: pauses, waiting: map[int]Part{}} }

// Add takes a part and returns the segments that are final with it: those of all parts up to the first that is missing, from
// where the last call ended. It fails where an index comes twice or parts overlap.
func (m *Merger) Add(p Part) ([]Segment, error) {
	if _, known := m.waiting[p.Index]; known || p.Index < m.next {
		return nil, fmt.Errorf("merge chunks: chunk %d is doubled", p.Index)
	}
	m.waiting[p.Index] = p
	from := len(m.done)
	for p, ok := m.waiting[m.next]; ok; p, ok = m.waiting[m.next] {
		if !(p.Start >= m.end-1e-9 && p.End >= p.Start && p.End < math.Inf(1)) {
			return nil, fmt.Errorf("merge chunks: chunk %d at %.3f–%.3f s overlaps the one before it", p.Index, p.Start, p.End)
		}
		delete(m.waiting, m.next)
		for _, s := range p.segments(m.pauses) {
			s.ID = len(m.done)
			m.done = append(m.done, s)
		}
		m.end = p.End
		m.next++
	}
	return slices.Clone(m.done[from:]), nil
}

// Segments returns those of all parts. It fails where there were not just the given number of them.
func (m *Merger) Segments(parts int) ([]Segment, error) {
	if m.next != parts || len(m.waiting) > 0 {
		return nil, fmt.Errorf("merge chunks: chunk %d of %d is missing", m.next, parts)
	}
	return m.done, nil
}

// Merge joins the parts of a job in one go. O(n log n).
func Merge(parts []Part, pauses []Pause) ([]Segment, error) {
	m := NewMerger(pauses)
	for _, p := range parts {
		if _, err := m.Add(p); err != nil {
			return nil, err
		}
	}
	return m.Segments(len(parts))
}

// segments are the part's segments that say something, in source time.
func (p Part) segments(pauses []Pause) []Segment {
	var out []Segment
	var at []stretch
	for _, s := range p.Segments {
		if s.Text = strings.TrimSpace(s.Text); s.Text != "" {
			out = append(out, s)
			at = append(at, stretch{start: p.Start + s.Start, end: p.Start + s.End})
		}
	}
	limits{p.Start, p.End, pauses}.settle(at)
	for i := range out {
		out[i].Words = p.words(out[i].Words, limits{at[i].start, at[i].end, pauses})
		out[i].Start, out[i].End = round(at[i].start), round(at[i].end)
	}
	return out
}

// words are a segment's words in source time, within the segment.
func (p Part) words(words []Word, within limits) []Word {
	var out []Word
	var at []stretch
	for _, w := range words {
		if w.Text = strings.TrimSpace(w.Text); w.Text != "" {
			out = append(out, w)
			at = append(at, stretch{start: p.Start + w.Start, end: p.Start + w.End})
		}
	}
	within.settle(at)
	for i := range out {
		out[i].Start, out[i].End = round(at[i].start), round(at[i].end)
	}
	return out
}

// stretch is a range of source time. back is set where it was moved back to before a pause: then its start is a guess.
type stretch struct {
	start, end float64
	back       bool
}

// limits are where stretches may lie: from lo to hi, out of the pauses.
type limits struct {
	lo, hi float64
	pauses []Pause
}

// settle moves stretches into the limits and makes them follow one another. Where two overlap, the second one's start counts
// and the first one's end gives way: Whisper hears beginnings better than ends.
func (l limits) settle(ts []stretch) {
	for i := range ts {
		ts[i] = l.snap(ts[i])
		if i == 0 {
			continue
		}
		prev, t := &ts[i-1], &ts[i]
		if t.back {
			t.start = max(t.start, prev.end)
		}
		t.start = max(t.start, prev.start)
		t.end = max(t.end, t.start)
		if prev.end > t.start {
			prev.end = max(prev.start, l.endBefore(t.start, 0))
		}
	}
}

func (l limits) snap(t stretch) stretch {
	t.start = l.clamp(t.start)
	t.end = max(t.start, l.clamp(t.end))
	for _, reach := range []float64{slack, 0} {
		start, end := l.startAfter(t.start, reach), l.endBefore(t.end, reach)
		if start < end || start == end && reach == 0 {
			return stretch{start: start, end: end}
		}
	}
	return l.nearest(t)
}

// nearest moves t, which lies in one pause, to the end or to the start of it, whichever is nearer and within the limits. Without
// either the limits hold no speech at all, and t stays.
func (l limits) nearest(t stretch) stretch {
	i := sort.Search(len(l.pauses), func(i int) bool { return l.pauses[i].End >= t.end })
	if i == len(l.pauses) {
		return t
	}
	p, length := l.pauses[i], t.end-t.start
	after, before := p.End < l.hi, p.Start > l.lo
	switch {
	case after && (!before || p.End-t.start <= t.end-p.Start):
		end := min(p.End+length, l.hi)
		if i+1 < len(l.pauses) {
			end = min(end, l.pauses[i+1].Start)
		}
		return stretch{start: p.End, end: end}
	case before:
		start := max(p.Start-length, l.lo)
		if i > 0 {
			start = max(start, l.pauses[i-1].End)
		}
		return stretch{start: start, end: p.Start, back: true}
	}
	return t
}

// startAfter moves a start inside a pause, or at most reach before one, to the pause's end.
func (l limits) startAfter(t, reach float64) float64 {
	i := sort.Search(len(l.pauses), func(i int) bool { return l.pauses[i].End > t })
	if i < len(l.pauses) && l.pauses[i].Start <= t+reach {
		return l.pauses[i].End
	}
	return t
}

// endBefore moves an end inside a pause, or at most reach after one, to the pause's start.
func (l limits) endBefore(t, reach float64) float64 {
	i := sort.Search(len(l.pauses), func(i int) bool { return l.pauses[i].End >= t-reach })
	if i < len(l.pauses) && l.pauses[i].Start < t {
		return l.pauses[i].Start
	}
	return t
}

// clamp brings t into the limits; what is no number becomes the lower one.
func (l limits) clamp(t float64) float64 {
	if math.IsNaN(t) {
		return l.lo
	}
	return max(l.lo, min(t, l.hi))
}

// round keeps milliseconds: finer than any model tells. It keeps order, so what does not overlap before does not after.
func round(t float64) float64 { return math.Round(t*1000) / 1000 }
