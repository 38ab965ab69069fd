package audio

import (
	"math"
	"slices"
)

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

// pauses are the runs of blocks below threshold that are long enough, but for faint sound within the long ones.
func (e envelope) pauses(total int64, threshold float64) []Span {
	var ps []Span
	keep := func(start, end int) {
		ps = append(ps, Span{int64(start) * block, min(int64(end)*block, total)})
	}
	for _, p := range e.quiet(0, len(e), threshold) {
		if n := p.end - p.start; n < minPause && n < len(e) {
			continue
		}
		from := p.start
		for _, sound := range e.faint(p, threshold) {
			if sound.start > from {
				keep(from, sound.start)
			}
			from = sound.end
		}
		if p.end > from {
			keep(from, p.end)
		}
	}
	return ps
}

// run is a half-open range of blocks.
type run struct{ start, end int }

// quiet are the runs below threshold within [from, to).
func (e envelope) quiet(from, to int, threshold float64) []run {
	var rs []run
	start := -1
	for i := from; i < to; i++ {
		switch quiet := e.db(i) < threshold; {
		case quiet && start < 0:
			start = i
		case !quiet && start >= 0:
			rs = append(rs, run{start, i})
			start = -1
		}
	}
	if start >= 0 {
		rs = append(rs, run{start, to})
	}
	return rs
}

const (
	// faintBlocks is the shortest silence that is searched for faint sound: 2 s, less holds no sentence.
	faintBlocks = 200
	// faintDepth in dB is how far below the threshold sound is still looked for, and faintRise by how much it must stand out of the
	// background of its silence. A voice in a quiet room, or one mixed in at another's level, does so by 20 dB.
	faintDepth, faintRise = 20, 15
	// minFaint and minFaintTail are how long such sound must last, in blocks, where silence is on both sides of it, and where it
	// follows or precedes what is loud: there it may be the end of an echo, or breath.
	minFaint, minFaintTail = 30, 100
)

// faint is the sound within a silence: a voice far from the microphone, which is transcribed like any other.
func (e envelope) faint(p run, threshold float64) []run {
	if p.end-p.start < faintBlocks {
		return nil
	}
	levels := envelope(slices.Sorted(slices.Values(e[p.start:p.end])))
	low := max(threshold-faintDepth, levels.db(len(levels)/10)+faintRise)
	if low >= threshold || levels.db(len(levels)-1) < low {
		return nil
	}
	var sounds []run
	from := p.start
	add := func(to int) {
		least := minFaint
		if from == p.start && from > 0 || to == p.end && to < len(e) {
			least = minFaintTail
		}
		if to-from >= least {
			sounds = append(sounds, run{from, to})
		}
	}
	for _, q := range e.quiet(p.start, p.end, low) {
		if q.end-q.start < minPause {
			continue // between two syllables
		}
		add(q.start)
		from = q.end
	}
	add(p.end)
	return sounds
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
