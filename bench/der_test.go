package bench_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"steno/bench"
)

// The figures are counted by hand.
func TestDiarize(t *testing.T) {
	turn := func(start, end float64, speaker string) bench.Turn {
		return bench.Turn{Start: start, End: end, Speaker: speaker}
	}
	both := []bench.Turn{turn(0, 10, "anna"), turn(8, 20, "ben")}
	for name, c := range map[string]struct {
		ref, hyp                        []bench.Turn
		collar                          float64
		speech, missed, alarm, confused float64
	}{
		"the same under other names": {both, []bench.Turn{turn(0, 10, "2"), turn(8, 20, "1")}, 0, 22, 0, 0, 0},
		"nothing found":              {both, nil, 0, 22, 22, 0, 0},
		"nobody speaks":              {nil, []bench.Turn{turn(1, 3, "1")}, 0, 0, 0, 2, 0},
		"one for two":                {both, []bench.Turn{turn(0, 20, "1")}, 0, 22, 2, 0, 8},
		"overlap is heard once":      {both, []bench.Turn{turn(0, 9, "1"), turn(9, 20, "2")}, 0, 22, 2, 0, 0},
		"a stranger":                 {both, []bench.Turn{turn(0, 10, "1"), turn(8, 15, "2"), turn(15, 20, "3")}, 0, 22, 0, 0, 5},
		"late and long":              {both[:1], []bench.Turn{turn(1, 12, "1")}, 0, 10, 1, 2, 0},
		"late and long, with collar": {both[:1], []bench.Turn{turn(1, 12, "1")}, 1, 8, 0, 1, 0},
		"said twice":                 {both[:1], []bench.Turn{turn(0, 6, "1"), turn(5, 10, "1")}, 0, 10, 0, 0, 0},
	} {
		d := bench.Diarize(c.ref, c.hyp, c.collar)
		got := []float64{d.Speech, d.Missed, d.FalseAlarm, d.Confusion}
		for i, want := range []float64{c.speech, c.missed, c.alarm, c.confused} {
			if math.Abs(got[i]-want) > 1e-9 {
				t.Errorf("%s: speech, missed, false alarm and confusion are %v, want %v", name, got,
					[]float64{c.speech, c.missed, c.alarm, c.confused})
				break
			}
		}
	}
}

// No naming that can be tried is better than the one that is found.
func TestDiarizeFindsTheBestNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var ref, hyp []bench.Turn
		for range 12 {
			at := rng.Float64() * 100
			ref = append(ref, bench.Turn{Start: at, End: at + 5, Speaker: string(rune('a' + rng.IntN(4)))})
			at = rng.Float64() * 100
			hyp = append(hyp, bench.Turn{Start: at, End: at + 5, Speaker: string(rune('1' + rng.IntN(5)))})
		}
		got := bench.Diarize(ref, hyp, 0)
		best := math.Inf(1)
		permute([]rune("12345"), 0, func(names []rune) {
			renamed := make([]bench.Turn, len(hyp))
			for i, h := range hyp {
				h.Speaker = "nobody" + h.Speaker
				for n, name := range names {
					if hyp[i].Speaker == string(name) && n < 4 {
						h.Speaker = string(rune('a' + n))
					}
				}
				renamed[i] = h
			}
			best = min(best, wrong(ref, renamed))
		})
		if math.Abs(got.Missed+got.FalseAlarm+got.Confusion-best) > 1e-6 {
			t.Fatalf("%.3f s of errors, but there are names with %.3f", got.Missed+got.FalseAlarm+got.Confusion, best)
		}
	}
}

func permute(x []rune, i int, f func([]rune)) {
	if i == len(x) {
		f(x)
		return
	}
	for j := i; j < len(x); j++ {
		x[i], x[j] = x[j], x[i]
		permute(x, i+1, f)
		x[i], x[j] = x[j], x[i]
	}
}

// wrong are the seconds that are wrong where names are as they are, by steps of the borders.
func wrong(ref, hyp []bench.Turn) float64 {
	sum := 0.0
	var edges []float64
	for _, t := range append(append([]bench.Turn(nil), ref...), hyp...) {
		edges = append(edges, t.Start, t.End)
	}
	slices.Sort(edges)
	for i := 1; i < len(edges); i++ {
		at := (edges[i] + edges[i-1]) / 2
		r, h, right := map[string]bool{}, map[string]bool{}, 0
		for _, t := range ref {
			if t.Start <= at && at < t.End {
				r[t.Speaker] = true
			}
		}
		for _, t := range hyp {
			if t.Start <= at && at < t.End {
				h[t.Speaker] = true
			}
		}
		for s := range h {
			if r[s] {
				right++
			}
		}
		sum += (edges[i] - edges[i-1]) * float64(max(len(r), len(h))-right)
	}
	return sum
}
