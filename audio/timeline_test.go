package audio

import (
	"bytes"
	"testing"
)

// checkSpans wants spans that hold something, in order and apart, within the source.
func checkSpans(t *testing.T, what string, spans []Span, total int64) {
	t.Helper()
	last := int64(0)
	for _, s := range spans {
		if s.Start < last || s.End <= s.Start || s.End > total {
			t.Fatalf("%s: %v after %d of %d: %v", what, s, last, total, spans)
		}
		last = s.End
	}
}

// inside counts the spans that hold a sample.
func inside(spans []Span, at int64) int {
	n := 0
	for _, s := range spans {
		if at >= s.Start && at < s.End {
			n++
		}
	}
	return n
}

// FuzzTimeline: of any recording, all that is loud is transcribed once, what is left out lies in a pause that is long enough, and
// the chunks are the speech, without a gap, a double or one that is too long. Levels are pairs of a level and how long it lasts.
func FuzzTimeline(f *testing.F) {
	loud, quiet, faint := byte(180), byte(20), byte(80)
	f.Add([]byte{}, uint8(0), uint16(0), int16(-50), false)
	f.Add([]byte{loud, 255, quiet, 90, loud, 255}, uint8(7), uint16(0), int16(-50), false)
	f.Add([]byte{quiet, 90, loud, 255, quiet, 2, loud, 255, quiet, 90}, uint8(159), uint16(5), int16(-50), false)
	f.Add([]byte{loud, 200, quiet, 60, faint, 60, quiet, 60, loud, 200}, uint8(0), uint16(12), int16(-50), false)
	f.Add([]byte{loud, 255, loud, 255, loud, 255}, uint8(1), uint16(5), int16(-50), true)
	f.Add([]byte{0, 255, 0, 255, 0, 255}, uint8(1), uint16(300), int16(-50), false)
	f.Fuzz(func(t *testing.T, levels []byte, short uint8, chunk uint16, threshold int16, keep bool) {
		if len(levels) < 2 || len(levels) > 512 {
			return
		}
		var env envelope
		for i := 0; i+1 < len(levels); i += 2 {
			env = append(env, bytes.Repeat(levels[i:i+1], 4*int(levels[i+1]))...)
		}
		total := max(0, int64(len(env))*block-int64(short)%block)
		if total == 0 {
			return // measure takes no file without a sample
		}
		want := Want{ChunkSeconds: float64(chunk), Silence: "remove"}
		if keep {
			want.Silence = "keep"
		}
		plan, err := NewPlan(Info{}, want, Resources{Slots: 1})
		if err != nil {
			return
		}
		tl := newTimeline(env, total, plan, float64(threshold))
		checkSpans(t, "pauses", tl.Pauses, total)
		checkSpans(t, "speech", tl.Speech, total)
		if keep && len(tl.Speech) > 0 && (len(tl.Speech) > 1 || tl.Speech[0] != Span{0, total}) {
			t.Fatalf("silence was to be kept, and speech is %v of %d", tl.Speech, total)
		}
		checkLoud(t, env, tl, float64(threshold))
		checkSilence(t, tl, plan.MinSilence)

		limit := int64(plan.ChunkSeconds * Rate)
		pieces := cuts(tl, env, limit)
		checkSpans(t, "chunks", pieces, total)
		for _, s := range tl.Speech {
			at := s.Start
			for ; len(pieces) > 0 && pieces[0].Start == at && at < s.End; pieces = pieces[1:] {
				if pieces[0].Len() > limit {
					t.Fatalf("a chunk of %d samples, at most %d", pieces[0].Len(), limit)
				}
				at = pieces[0].End
			}
			if at != s.End {
				t.Fatalf("of %v the chunks hold what is before %d; then comes %v", s, at, pieces)
			}
		}
		if len(pieces) > 0 {
			t.Fatalf("chunks of no speech: %v", pieces)
		}
	})
}

// checkLoud wants every block that is not quiet within speech, with all its samples.
func checkLoud(t *testing.T, env envelope, tl Timeline, threshold float64) {
	t.Helper()
	for i := range env {
		start := int64(i) * block
		end := min(start+block, tl.Total) - 1
		if env.db(i) < threshold {
			continue
		}
		if inside(tl.Speech, start) != 1 || inside(tl.Speech, end) != 1 || inside(tl.Pauses, start)+inside(tl.Pauses, end) > 0 {
			t.Fatalf("block %d of %.1f dB is not speech: %+v", i, env.db(i), tl)
		}
	}
}

// checkSilence wants every stretch outside of speech within one pause of least seconds or more.
func checkSilence(t *testing.T, tl Timeline, least float64) {
	t.Helper()
	from := int64(0)
	for _, s := range append(append([]Span{}, tl.Speech...), Span{tl.Total, tl.Total}) {
		gap := Span{from, s.Start}
		from = s.End
		held := gap.Len() == 0
		for _, p := range tl.Pauses {
			long := Seconds(p.Len()) >= least || p == Span{0, tl.Total}
			held = held || long && p.Start <= gap.Start && p.End >= gap.End
		}
		if !held {
			t.Fatalf("%v is left out and no pause: %+v", gap, tl)
		}
	}
}
