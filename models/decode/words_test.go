package decode

import (
	"math"
	"slices"
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

// rests is the attention of a word in a window of 3 s that lies from one second to another.
func rests(from, to float64) []float32 {
	a := make([]float32, 150)
	for k := range a {
		a[k] = -0.3
		if at := float64(k) * stepSeconds; at >= from-1e-9 && at < to-1e-9 {
			a[k] = 4
		}
	}
	return a
}

// Where the attention rests on one place the words are laid out by their lengths; where it is right they stay; none begins in a
// pause, though the attention rests there, or goes on after one.
func TestPlaceWords(t *testing.T) {
	for name, c := range map[string]struct {
		spoken   string
		texts    []string
		heard    [][]float32
		want     []float64
		within   float64
		lastEnds float64
	}{
		"guided": {
			"..........xxxxxxxxxxxxxxxxxxxx", []string{"this", "is", "a", "long", "sentence"},
			[][]float32{rests(1, 1.4), rests(1.4, 1.62), rests(1.62, 1.8), rests(1.8, 2.2), rests(2.2, 3)},
			[]float64{1, 1.4, 1.62, 1.8, 2.2}, 0.06, 3,
		},
		"attention rests": {
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", []string{"five", "such", "word", "they", "have", "four"},
			[][]float32{rests(2.9, 3), rests(2.9, 3), rests(2.9, 3), rests(2.9, 3), rests(2.9, 3), rests(2.9, 3)},
			[]float64{0, 0.5, 1, 1.5, 2, 2.5}, 0.15, 3,
		},
		"nothing known": {
			"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", []string{"five", "such", "word", "they", "have", "four"}, make([][]float32, 6),
			[]float64{0, 0.5, 1, 1.5, 2, 2.5}, 0.05, 3,
		},
		"pause before a word": {
			"xxxxxxxxxx..........xxxxxxxxxx", []string{"fellow", "americans", "ask", "not"},
			[][]float32{rests(0, 0.4), rests(0.4, 1), rests(1, 2.3), rests(2.5, 3)},
			[]float64{0, 0.4, 2, 2.5}, 0.1, 3,
		},
		"silence after the last": {
			"xxxxxxxxxx....................", []string{"the", "end"}, [][]float32{rests(0, 0.5), rests(0.5, 3)}, []float64{0, 0.5}, 0.06, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ws := make([]transcript.Word, len(c.texts))
			for i := range ws {
				ws[i] = transcript.Word{Text: c.texts[i]}
			}
			placeWords(ws, c.heard, piece{start: 0, end: 3}, spokenOf(c.spoken))
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
			return transcript.Word{Text: rapid.StringMatching(`[a-z0-9日,]{1,9}`).Draw(t, "text")}
		}), 0, 40).Draw(t, "words")
		values := rapid.OneOf(rapid.Float32Range(-3, 9), rapid.SampledFrom([]float32{
			float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32,
		}))
		heard := make([][]float32, len(ws))
		for i := range heard {
			few := rapid.SliceOfN(values, 0, 12).Draw(t, "attention")
			for _, v := range few { // each for half a second
				heard[i] = append(heard[i], slices.Repeat([]float32{v}, 25)...)
			}
		}
		placeWords(ws, heard, p, d.spokenIn(p, 0))
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
	heard := make([][]float32, len(ws))
	for i := range heard {
		ws[i].Text = "fellow"
		heard[i] = make([]float32, 1500)
		for k := range 15 {
			heard[i][16*i+k] = 4
		}
	}
	spoken := make([]int, 1501)
	for i := range spoken {
		spoken[i] = i
	}
	for b.Loop() {
		placeWords(ws, heard, piece{end: 30}, spoken)
	}
}
