package bench_test

import (
	"bytes"
	"strings"
	"testing"

	"steno/bench"
)

func times(factor float64, walls ...float64) []float64 {
	for i := range walls {
		walls[i] *= factor
	}
	return walls
}

func TestComparePaired(t *testing.T) {
	t.Parallel()
	// Rounds differ by far more than the versions do, as on a machine that others use, too.
	rounds := func(factor float64) []float64 { return times(factor, 1, 1.4, 0.9, 2, 1.1, 1.3, 0.95, 1.7) }
	noisy := times(1, 1.3, 1.1, 1.2, 1.6, 1.2, 1.1, 1.1, 1.5)
	for _, tt := range []struct {
		name       string
		old, later []float64
		disturbed  int
		want       bench.Verdict
	}{
		{"equal", rounds(1), rounds(1), 0, bench.Same},
		{"slower by less than the threshold", rounds(1), rounds(1.04), 0, bench.Same},
		{"slower by more", rounds(1), rounds(1.06), 0, bench.Regression},
		{"faster", rounds(1), rounds(0.9), 0, bench.Better},
		{"slower in the median, but nobody can tell", rounds(1), noisy, 0, bench.Same},
		{"slower by more, with as many rounds as it needs", rounds(1), rounds(1.06), 2, bench.Regression},
		{"slower by more, with one too few", rounds(1), rounds(1.06), 3, bench.TooFew},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := sample(tt.old, tt.later)
			r.Cases[0].Entries = r.Cases[0].Entries[:2]
			for i := range tt.disturbed {
				disturb(&r, i%2, i, 100) // of either version; what they took counts for nothing
			}
			c, err := bench.ComparePaired(r, 0.05)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Changes[0]; got.Metric != "wall, s" || got.Verdict != tt.want {
				t.Errorf("%+v, want %s", got, tt.want)
			}
			if c.Regressed() != (tt.want == bench.Regression) {
				t.Errorf("regressed: %v", c.Regressed())
			}
			var b bytes.Buffer
			if err := c.WriteMarkdown(&b); err != nil || !strings.Contains(b.String(), "| "+string(tt.want)+" |") {
				t.Errorf("%v, report:\n%s", err, b.String())
			}
		})
	}
}

func TestCompareWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		old, now bench.Errors
		want     bench.Verdict
	}{
		{"equal", bench.Errors{Subs: 4, Words: 100}, bench.Errors{Subs: 4, Words: 100}, bench.Same},
		{"one word of a short file", bench.Errors{Words: 20}, bench.Errors{Dels: 1, Words: 20}, bench.Same},
		{"two words of a short file", bench.Errors{Words: 20}, bench.Errors{Dels: 2, Words: 20}, bench.Regression},
		{"less than half a point", bench.Errors{Subs: 50, Words: 2000}, bench.Errors{Subs: 59, Words: 2000}, bench.Same},
		{"more than half a point", bench.Errors{Subs: 50, Words: 2000}, bench.Errors{Subs: 61, Words: 2000}, bench.Regression},
		{"fewer", bench.Errors{Subs: 50, Words: 2000}, bench.Errors{Subs: 40, Words: 2000}, bench.Better},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := sample([]float64{1}, []float64{1})
			r.Cases[0].Entries = r.Cases[0].Entries[:2]
			r.Cases[0].Entries[0].WarmUp.Words, r.Cases[0].Entries[1].WarmUp.Words = &tt.old, &tt.now
			c, err := bench.ComparePaired(r, 0.05)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Changes[len(c.Changes)-1]; got.Metric != "WER, %" || got.Verdict != tt.want {
				t.Errorf("%+v, want %s", got, tt.want)
			}
		})
	}
}

func TestComparePairedErrors(t *testing.T) {
	t.Parallel()
	r := sample([]float64{1}, []float64{1})
	if _, err := bench.ComparePaired(r, 0.05); err == nil || !strings.Contains(err.Error(), "not of two versions") {
		t.Errorf("of three contenders: %v", err)
	}
	r.Cases[0].Entries = r.Cases[0].Entries[:2]
	r.Cases[0].Entries[1].WarmUp, r.Cases[0].Entries[1].Failure = nil, "exit status 1: no engine"
	if _, err := bench.ComparePaired(r, 0.05); err == nil || !strings.Contains(err.Error(), "no engine") {
		t.Errorf("of a version that fails: %v", err)
	}
}

func TestCompareReports(t *testing.T) {
	t.Parallel()
	walls := func(factor float64) []float64 { return times(factor, 1, 1.01, 0.99, 1.02, 0.98, 1, 1.01) }
	before, after := sample(walls(1), walls(1)), sample(walls(1.2), walls(1.01))
	c, err := bench.CompareReports(before, after, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range c.Changes {
		want := bench.Same
		if ch.Contender == bench.OldName && (ch.Metric == "wall, s" || ch.Metric == "CPU, s") {
			want = bench.Regression
		}
		if ch.Verdict != want {
			t.Errorf("%s, %s: %s (%v), want %s", ch.Contender, ch.Metric, ch.Verdict, ch.Ratio, want)
		}
	}
	if len(c.Changes) != 8 || len(c.Notes) != 0 {
		t.Errorf("%d changes, notes %q", len(c.Changes), c.Notes)
	}

	after.Machine.Cores, after.Cases = 64, append(after.Cases, bench.Case{Scenario: "long", Model: "base", Input: "b.wav"})
	if c, err = bench.CompareReports(before, after, 0.05); err != nil || len(c.Notes) != 2 || !strings.Contains(c.Notes[0], "machines differ") {
		t.Errorf("%v, notes %q", err, c.Notes)
	}
	after.Cases = after.Cases[1:]
	if _, err := bench.CompareReports(before, after, 0.05); err == nil ||
		!strings.Contains(err.Error(), "no contender in common") {
		t.Errorf("of reports with nothing in common: %v", err)
	}
}
