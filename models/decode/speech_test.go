package decode

import (
	"slices"
	"testing"
)

func TestFaintVoicesAreRaisedForTheVAD(t *testing.T) {
	const quiet, loud = 0.0015, 0.15 // -56 and -16 dBFS
	type part struct{ seconds, level float32 }
	for name, c := range map[string]struct {
		parts  []part
		raised []bool
	}{
		"loud":             {[]part{{3, loud}}, []bool{false}},
		"faint":            {[]part{{3, quiet}}, []bool{true}},
		"faint after loud": {[]part{{3, loud}, {0.5, 0}, {3, quiet}}, []bool{false, false, true}},
		"faint before":     {[]part{{3, quiet}, {3, loud}}, []bool{true, false}},
		"pause":            {[]part{{3, loud}, {1.5, quiet}, {3, loud}}, []bool{false, false, false}},
		"silence":          {[]part{{3, 0}}, []bool{false}},
	} {
		var samples []float32
		for _, p := range c.parts {
			samples = append(samples, slices.Repeat([]float32{p.level}, int(p.seconds*rate))...)
		}
		before := slices.Clone(samples)
		got := audible(samples)
		at := 0
		for i, p := range c.parts {
			want := p.level
			if c.raised[i] {
				want = p.level * maxRaise
			}
			if mid := at + int(p.seconds*rate/2); got[mid] != want {
				t.Errorf("%s: part %d at level %v, want %v", name, i, got[mid], want)
			}
			at += int(p.seconds * rate)
		}
		if !slices.Equal(samples, before) {
			t.Errorf("%s: the samples that the model gets were changed", name)
		}
	}
	if got := audible(slices.Repeat([]float32{0.005}, 3*rate)); got[0] < 0.099 || got[0] > 0.101 {
		t.Errorf("raised to %v, want %v at most", got[0], raisedPeak)
	}
	if len(audible(nil)) != 0 {
		t.Error("nothing became something")
	}
}
