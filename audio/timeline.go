package audio

import "math"

// Timeline is where a file has sound. Positions are samples of the source.
type Timeline struct {
	Total int64
	// Speech are the spans that are transcribed: sorted, disjoint, everything that is not a long silence.
	Speech []Span
	// Pauses are all silences of at least 0.2 s, sorted.
	Pauses []Span
}

const (
	// minPause is the shortest silence on the timeline, in blocks: 0.2 s. Shorter ones are the closures of consonants.
	minPause = 20
	// pausePad is left of a removed silence on both sides, in samples: soft onsets lie below the threshold.
	pausePad = Rate * 2 / 10
)

// newTimeline finds the silences below threshold (dBFS of the source, before any gain) and the spans between the long ones.
func newTimeline(env envelope, total int64, plan Plan, threshold float64) Timeline {
	tl := Timeline{Total: total, Pauses: env.pauses(total, threshold)}
	if len(tl.Pauses) == 1 && tl.Pauses[0] == (Span{0, total}) {
		return tl // silent throughout
	}
	whole := total <= int64(plan.ChunkSeconds*Rate)
	if !plan.RemoveSilence || whole {
		tl.Speech = []Span{{0, total}}
		return tl
	}
	from := int64(0)
	keep := func(to int64) {
		if to > from {
			tl.Speech = append(tl.Speech, Span{from, to})
		}
	}
	for _, p := range tl.Pauses {
		lead, trail := p.Start+pausePad, p.End-pausePad
		if p.Start == 0 {
			lead = 0
		}
		if p.End == total {
			trail = total
		}
		if Seconds(p.Len()) < plan.MinSilence {
			continue
		}
		keep(lead)
		from = trail
	}
	keep(total)
	return tl
}

// pauses are the runs of blocks below threshold that are long enough.
func (e envelope) pauses(total int64, threshold float64) []Span {
	var ps []Span
	start := -1
	end := func(i int) {
		if start >= 0 && (i-start >= minPause || (start == 0 && i == len(e))) {
			ps = append(ps, Span{int64(start) * block, min(int64(i)*block, total)})
		}
		start = -1
	}
	for i := range e {
		switch quiet := e.db(i) < threshold; {
		case quiet && start < 0:
			start = i
		case !quiet:
			end(i)
		}
	}
	end(len(e))
	return ps
}

const (
	// smooth is how far around a cut the level counts, in blocks: 0.15 s each way, so that a cut falls in the middle of a
	// pause and not on the closure of a consonant.
	smooth = 15
	// lateBonus in dB is what a cut at the end of its range may be louder than one at its start: fuller chunks mean fewer cuts.
	lateBonus = 6.0
	// minTail is the least that a cut leaves over, in samples: 3 s. A window with one word in it is where Whisper invents.
	minTail = 3 * Rate
)

// cuts divides every span of speech into pieces of at most limit samples, each cut at the quietest place in range. The
// pieces cover the spans exactly.
func cuts(tl Timeline, env envelope, limit int64) []Span {
	var out []Span
	for _, s := range tl.Speech {
		for s.Len() > limit {
			// Cutting in the last two thirds keeps chunks full; the rest must not be a stump.
			lo := s.Start + limit/3
			hi := min(s.Start+limit, s.End-minTail)
			at := env.quietest(lo, max(lo, hi))
			out = append(out, Span{s.Start, at})
			s.Start = at
		}
		out = append(out, s)
	}
	return out
}

// quietest is the best sample to cut at in [lo, hi].
func (e envelope) quietest(lo, hi int64) int64 {
	best, at := math.Inf(1), hi
	a, b := int(lo/block)+1, int(hi/block)
	for i := a; i <= b && i < len(e); i++ {
		sum, n := 0.0, 0
		for k := max(0, i-smooth); k < min(len(e), i+smooth); k++ {
			sum += e.db(k)
			n++
		}
		score := sum/float64(n) - lateBonus*float64(i-a)/float64(b-a+1)
		if score <= best {
			best, at = score, int64(i)*block
		}
	}
	return at
}
