package decode

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"steno/transcript"
)

// spokenOf counts the steps of a piece in which mark is not a dot; a mark stands for 0.1 s.
func spokenOf(marks string) []int {
	spoken := []int{0}
	for _, m := range marks {
		for range 5 {
			n := spoken[len(spoken)-1]
			if m != '.' {
				n++
			}
			spoken = append(spoken, n)
		}
	}
	return spoken
}

// Where the attention rests on one place the words are laid out by their lengths; where it is right they stay; none begins in a
// pause, or goes on after one.
func TestPlaceWords(t *testing.T) {
	for name, c := range map[string]struct {
		spoken   string
		texts    []string
		says     []float64
		want     []float64
		within   float64
		lastEnds float64
	}{
		"guided": {
			"..........xxxxxxxxxxxxxxxxxxxx", []string{"this", "is", "a", "long", "sentence"}, []float64{-1, 1.4, 1.62, 1.8, 2.2},
			[]float64{1, 1.4, 1.62, 1.8, 2.2}, 0.06, 3,
		},
		"attention rests": {
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", []string{"five", "such", "word", "they", "have", "four"}, []float64{0, 2.98, 2.98, 2.98, 2.98, 2.98},
			[]float64{0, 0.5, 1, 1.5, 2, 2.5}, 0.15, 3,
		},
		"pause before a word": {
			"xxxxxxxxxx..........xxxxxxxxxx", []string{"fellow", "americans", "ask", "not"}, []float64{-1, 0.4, 1.02, 2.5},
			[]float64{0, 0.4, 2, 2.5}, 0.1, 3,
		},
		"silence after the last": {
			"xxxxxxxxxx....................", []string{"the", "end"}, []float64{-1, 0.5}, []float64{0, 0.5}, 0.06, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ws := make([]transcript.Word, len(c.texts))
			for i := range ws {
				ws[i] = transcript.Word{Text: c.texts[i], Start: c.says[i]}
			}
			placeWords(ws, piece{start: 0, end: 3}, spokenOf(c.spoken))
			for i, w := range ws {
				if math.Abs(w.Start-c.want[i]) > c.within {
					t.Errorf("%q starts at %.2f s, want %.2f", w.Text, w.Start, c.want[i])
				}
			}
			if end := ws[len(ws)-1].End; math.Abs(end-c.lastEnds) > 0.021 {
				t.Errorf("the last word ends at %.2f s, want %.2f", end, c.lastEnds)
			}
		})
	}
}

// Whatever the attention says, words follow one another within their piece.
func TestPlacedWordsFollow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := piece{start: rapid.Float64Range(0, 5).Draw(t, "start")}
		p.end = p.start + rapid.Float64Range(0, 6).Draw(t, "length")
		d := &decoder{samples: make([]float32, rapid.IntRange(0, 10*rate).Draw(t, "samples"))}
		for i := range d.samples {
			d.samples[i] = float32(i%7) / 7
		}
		for at := 0; at < len(d.samples); at += 2 * rate {
			d.voice = append(d.voice, span{at, at + rapid.IntRange(1, rate).Draw(t, "voice")})
		}
		ws := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) transcript.Word {
			return transcript.Word{Text: rapid.StringMatching(`[a-z0-9日,]{1,9}`).Draw(t, "text"), Start: rapid.Float64Range(-1, 12).Draw(t, "at")}
		}), 0, 40).Draw(t, "words")
		placeWords(ws, p, d.spokenIn(p, 0))
		last := p.start
		for i, w := range ws {
			if !(w.Start >= last-1e-9 && w.End >= w.Start && w.End <= p.end+1e-9) {
				t.Fatalf("word %d of %d at %v–%v after %v, in %v–%v", i, len(ws), w.Start, w.End, last, p.start, p.end)
			}
			last = w.End
		}
	})
}

func BenchmarkPlaceWords(b *testing.B) {
	ws := make([]transcript.Word, 90)
	spoken := make([]int, 1501)
	for i := range spoken {
		spoken[i] = i
	}
	for b.Loop() {
		for i := range ws {
			ws[i] = transcript.Word{Text: "fellow", Start: float64(i) / 3}
		}
		placeWords(ws, piece{end: 30}, spoken)
	}
}
