package bench

import (
	"math"
	"slices"
)

// Diarization compares who is said to speak when with who does, in seconds of speech. It is what NIST's md-eval computes: where
// several speak at once, each of them counts.
//
//	DER = (Missed + FalseAlarm + Confusion) / Speech
type Diarization struct {
	Speech     float64 `json:"speech_s"`      // of the reference
	Missed     float64 `json:"missed_s"`      // speech without a speaker
	FalseAlarm float64 `json:"false_alarm_s"` // speakers without speech
	Confusion  float64 `json:"confusion_s"`   // speech of another speaker
	Speakers   int     `json:"speakers"`      // of the reference
	Found      int     `json:"found"`         // speakers of what is compared
}

// DER is the diarization error rate; NaN where nobody speaks.
func (d Diarization) DER() float64 { return (d.Missed + d.FalseAlarm + d.Confusion) / d.Speech }

// Diarize compares found with the reference. What is within collar seconds of where a turn of the reference begins or ends is not
// counted; 0 counts all. Speakers go by those names of the other side that make the fewest errors, each by one.
func Diarize(reference, found []Turn, collar float64) Diarization {
	ref, hyp := names(reference), names(found)
	d := Diarization{Speakers: len(ref), Found: len(hyp)}
	edges := []float64{}
	for _, t := range slices.Concat(reference, found) {
		edges = append(edges, t.Start, t.End)
	}
	for _, t := range reference {
		edges = append(edges, t.Start-collar, t.Start+collar, t.End-collar, t.End+collar)
	}
	slices.Sort(edges)
	together := make([][]float64, len(ref)) // seconds that both speak
	for i := range together {
		together[i] = make([]float64, len(hyp))
	}
	shared := 0.0 // seconds that could be right
	for i := 1; i < len(edges); i++ {
		length, middle := edges[i]-edges[i-1], (edges[i]+edges[i-1])/2
		if length <= 0 || collar > 0 && nearEdge(reference, middle, collar) {
			continue
		}
		r, h := speaking(reference, middle, ref), speaking(found, middle, hyp)
		d.Speech += length * float64(len(r))
		d.Missed += length * float64(max(0, len(r)-len(h)))
		d.FalseAlarm += length * float64(max(0, len(h)-len(r)))
		shared += length * float64(min(len(r), len(h)))
		for _, a := range r {
			for _, b := range h {
				together[a][b] += length
			}
		}
	}
	d.Confusion = max(0, shared-bestMatch(together))
	return d
}

// names are the speakers of turns, each once.
func names(turns []Turn) []string {
	var all []string
	for _, t := range turns {
		all = append(all, t.Speaker)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// speaking are the numbers of those who speak at a time, each once.
func speaking(turns []Turn, at float64, names []string) []int {
	var who []int
	for _, t := range turns {
		if t.Start <= at && at < t.End {
			i, _ := slices.BinarySearch(names, t.Speaker)
			who = append(who, i)
		}
	}
	slices.Sort(who)
	return slices.Compact(who)
}

func nearEdge(turns []Turn, at, collar float64) bool {
	return slices.ContainsFunc(turns, func(t Turn) bool {
		return math.Abs(at-t.Start) < collar || math.Abs(at-t.End) < collar
	})
}

// bestMatch is the largest sum of values of which no two are in one row or column: the assignment problem, by the algorithm of
// Jonker and Volgenant (1987).
func bestMatch(value [][]float64) float64 {
	if len(value) == 0 || len(value[0]) == 0 {
		return 0
	}
	if len(value) > len(value[0]) {
		value = transposed(value)
	}
	n, m := len(value), len(value[0])
	row, column := make([]float64, n+1), make([]float64, m+1) // prices
	of := make([]int, m+1)                                    // the row that has a column, from 1
	for i := 1; i <= n; i++ {
		of[0] = i
		from, least := make([]int, m+1), slices.Repeat([]float64{math.Inf(1)}, m+1)
		done := make([]bool, m+1)
		at := 0
		for of[at] != 0 {
			done[at] = true
			next, step := 0, math.Inf(1)
			for j := 1; j <= m; j++ {
				if done[j] {
					continue
				}
				if cost := -value[of[at]-1][j-1] - row[of[at]] - column[j]; cost < least[j] {
					least[j], from[j] = cost, at
				}
				if least[j] < step {
					next, step = j, least[j]
				}
			}
			for j := range m + 1 {
				if done[j] {
					row[of[j]] += step
					column[j] -= step
				} else {
					least[j] -= step
				}
			}
			at = next
		}
		for at != 0 {
			of[at] = of[from[at]]
			at = from[at]
		}
	}
	sum := 0.0
	for j := 1; j <= m; j++ {
		if of[j] != 0 {
			sum += value[of[j]-1][j-1]
		}
	}
	return sum
}

func transposed(x [][]float64) [][]float64 {
	out := make([][]float64, len(x[0]))
	for j := range out {
		for i := range x {
			out[j] = append(out[j], x[i][j])
		}
	}
	return out
}
