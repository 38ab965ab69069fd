package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestEstimateOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		values []float64
		want   Estimate
	}{
		{"none", nil, Estimate{}},
		{"one tells nothing of its spread", []float64{3}, Estimate{1, 3, 3, 3, 0}},
		{"two", []float64{4, 2}, Estimate{2, 3, 2, 4, 0.5}},
		{"five give no 95 %", []float64{5, 1, 4, 2, 3}, Estimate{5, 3, 1, 5, 0.9375}},
		{"six do", []float64{6, 5, 4, 3, 2, 1}, Estimate{6, 3.5, 1, 6, 0.96875}},
		// From the table of Conover, A3: of ten values the second and the ninth, 97.85 %.
		{"ten leave out one at each end", []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 100}, Estimate{10, 5.5, 2, 9, 1 - 2*11.0/1024}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := EstimateOf(tt.values); got != tt.want {
				t.Errorf("EstimateOf(%v) = %+v, want %+v", tt.values, got, tt.want)
			}
		})
	}
}

// The intervals hold the truth as often as they say, for a distribution as skewed as run times are.
func TestIntervalsHoldTheTruth(t *testing.T) {
	t.Parallel()
	const rounds, factor = 800, 1.25
	random := rand.New(rand.NewPCG(1, 2))
	draw := func(n int, by float64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = by * (1 + random.ExpFloat64())
		}
		return v
	}
	for _, n := range []int{6, 10, 15} {
		median, ratio := 0, 0
		for range rounds {
			if e := EstimateOf(draw(n, 1)); e.Low <= 1+math.Ln2 && 1+math.Ln2 <= e.High {
				median++
			}
			if e := shift(draw(n, 1), draw(n, factor)); e.Low <= factor && factor <= e.High {
				ratio++
			}
		}
		for what, held := range map[string]int{"median": median, "ratio": ratio} {
			if got := float64(held) / rounds; got < 0.94 { // the draws are the same each time
				t.Errorf("of %d values the interval of the %s holds it in %.3f of all cases, want 0.95", n, what, got)
			}
		}
	}
}

// mannWhitney counts what going through all orders counts.
func TestMannWhitney(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{1, 1}, {1, 4}, {3, 2}, {4, 4}, {5, 3}} {
		m, n := size[0], size[1]
		want := make([]float64, m*n+1)
		for order := range 1 << (m + n) { // a set bit is a value of the first kind
			u, second, first := 0, 0, 0
			for i := range m + n {
				if order>>i&1 == 1 {
					first, u = first+1, u+second
				} else {
					second++
				}
			}
			if first == m {
				want[u]++
			}
		}
		if got := mannWhitney(m, n); !slices.Equal(got, want) {
			t.Errorf("%d and %d values: %v, want %v", m, n, got, want)
		}
	}
}

func TestBusySeconds(t *testing.T) {
	t.Parallel()
	// user nice system idle iowait irq softirq steal guest guest_nice, in hundredths; guests are in user already.
	got, err := busySeconds("cpu  100 20 30 5000 600 7 8 35 90 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if err != nil || math.Abs(got-2) > 1e-9 {
		t.Errorf("busy for %v s, %v; want 2", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 x 4 5 6 7 8 9"} {
		if _, err := busySeconds(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestEnergy(t *testing.T) {
	t.Parallel()
	zone := func(value float64) struct{ value, wrap float64 } { return struct{ value, wrap float64 }{value, 10e6} }
	before := counters{"a": zone(2e6), "b": zone(9e6)}
	after := counters{"a": zone(3e6), "b": zone(1e6), "new": zone(5e6)}
	if got := after.since(before); got == nil || *got != 3 {
		t.Errorf("energy %v, want 1 J and, around the counter's end, 2 J", got)
	}
	if got := (counters{}).since(counters{}); got != nil {
		t.Errorf("energy %v without a counter", *got)
	}
}

func TestReadCPU(t *testing.T) {
	t.Parallel()
	const intel = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx2 sse amx_tile avx\n\nprocessor\t: 1\nmodel name\t: other\n"
	if name, flags := readCPU(intel); name != "Xeon" || !slices.Equal(flags, []string{"avx", "avx2", "amx_tile"}) {
		t.Errorf("%q, %q", name, flags)
	}
	if name, flags := readCPU(""); name != "" || len(flags) != 0 {
		t.Errorf("of nothing: %q, %q", name, flags)
	}
}
