package bench

import (
	"fmt"
	"math"
	"slices"
)

// Estimate is a median with the interval that holds the true one with the given confidence, of values that were measured.
type Estimate struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	// Confidence is that of the interval, in 0..1: at least 0.95 from six values on, and what fewer can give.
	Confidence float64 `json:"confidence"`
}

// wanted is the confidence of an interval where there are enough values.
const wanted = 0.95

// EstimateOf returns the median and its interval by order statistics, which is exact for any distribution: a value lies below
// the true median with probability 1/2, so the number of those that do is binomial. It is what benchstat reports, too
// (golang.org/x/perf/benchmath, AssumeNothing; Conover, Practical Nonparametric Statistics, 3.2). A bootstrap of so few
// values claims more than it holds: of three rounds, min to max is a 75 % interval whatever is drawn from them.
func EstimateOf(values []float64) Estimate {
	n := len(values)
	if n == 0 {
		return Estimate{}
	}
	v := slices.Sorted(slices.Values(values))
	e := Estimate{N: n, Median: (v[(n-1)/2] + v[n/2]) / 2, Low: v[0], High: v[n-1]}
	tail := math.Ldexp(1, -n) // probability that at most k values lie below the median
	e.Confidence = 1 - 2*tail
	ways := 1.0
	for k := 1; k < n-k; k++ { // narrower by one value at each end while the confidence allows
		ways *= float64(n-k+1) / float64(k)
		tail += ways * math.Ldexp(1, -n)
		if 1-2*tail < wanted {
			break
		}
		e.Low, e.High, e.Confidence = v[k], v[n-1-k], 1-2*tail
	}
	return e
}

func (e Estimate) String() string {
	if e.N == 0 {
		return "–"
	}
	if e.N == 1 {
		return number(e.Median)
	}
	return fmt.Sprintf("%s [%s, %s]", number(e.Median), number(e.Low), number(e.High))
}

// scale is e in another unit.
func (e Estimate) scale(by float64) Estimate {
	e.Median, e.Low, e.High = e.Median*by, e.Low*by, e.High*by
	return e
}

// inverse is of over divided by the values of e.
func (e Estimate) inverse(over float64) Estimate {
	if e.N > 0 {
		e.Median, e.Low, e.High = over/e.Median, over/e.High, over/e.Low
	}
	return e
}

// number writes v with three digits that matter.
func number(v float64) string {
	switch abs := math.Abs(v); {
	case abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	case abs >= 0.1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// shift estimates by which factor the values of b exceed those of a, where the two were not measured in pairs: the median of
// all ratios b/a with the interval of the Mann-Whitney test, as Hodges and Lehmann give it (Conover, 5.4). All values must be
// positive.
func shift(a, b []float64) Estimate {
	m, n := len(a), len(b)
	if m == 0 || n == 0 {
		return Estimate{}
	}
	ratios := make([]float64, 0, m*n)
	for _, x := range a {
		for _, y := range b {
			ratios = append(ratios, y/x)
		}
	}
	slices.Sort(ratios)
	last := len(ratios) - 1
	e := Estimate{N: min(m, n), Median: (ratios[last/2] + ratios[(last+1)/2]) / 2, Low: ratios[0], High: ratios[last]}
	counts := mannWhitney(m, n)
	all := 0.0
	for _, c := range counts {
		all += c
	}
	below := counts[0] / all
	e.Confidence = 1 - 2*below
	for k := 1; k < last-k; k++ {
		below += counts[k] / all
		if 1-2*below < wanted {
			break
		}
		e.Low, e.High, e.Confidence = ratios[k], ratios[last-k], 1-2*below
	}
	return e
}

// mannWhitney counts, for every u from 0 to m·n, the orders of m and n values in which just u pairs stand the other way round.
func mannWhitney(m, n int) []float64 {
	orders := make([][]float64, n+1) // by how many of the second kind; so far with none of the first
	for j := range orders {
		orders[j] = make([]float64, m*n+1)
		orders[j][0] = 1
	}
	for range m {
		for j := 1; j <= n; j++ {
			for u := m * n; u >= 0; u-- {
				v := orders[j-1][u] // one of the second kind is last
				if u >= j {
					v += orders[j][u-j] // the one of the first kind is last and stands the other way round to all j
				}
				orders[j][u] = v
			}
		}
	}
	return orders[n]
}
