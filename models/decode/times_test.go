package decode

import (
	"math"
	"testing"

	"steno/models"
)

// voiced is a VAD that hears speech within the given pairs of seconds.
func voiced(pairs ...float64) func(n int) []float32 {
	return func(n int) []float32 {
		p := make([]float32, n)
		for i := range p {
			at := (float64(i) + 0.5) * VADFrame / rate
			for k := 0; k < len(pairs); k += 2 {
				if at >= pairs[k] && at < pairs[k+1] {
					p[i] = 0.99
				}
			}
		}
		return p
	}
}

func TestTimesMoveToTheVoice(t *testing.T) {
	for name, c := range map[string]struct {
		voice   []float64
		outputs []Output
		want    []float64 // start and end of each segment
	}{
		"whole seconds": {
			[]float64{0.2, 6, 8.64, 14}, []Output{said(0.0, " One two.", 7.0, 8.0, " Three four.", 14.2)},
			[]float64{0.2, 6, 8.64, 14},
		},
		"sentence that ends before its voice": {
			[]float64{0, 5, 6, 9.8}, []Output{said(0.0, " One two.", 4.6, 4.6, " Three four.", 9.8)},
			[]float64{0, 5, 6, 9.8},
		},
		"sentence that ends in the voice of the next": {
			[]float64{0, 5, 6, 9.8}, []Output{said(0.0, " One two.", 6.2, 6.2, " Three four.", 9.8)},
			[]float64{0, 5, 6, 9.8},
		},
		"pause too far away": {
			[]float64{0, 5, 6, 9.8}, []Output{said(0.0, " One two.", 4.0, 4.0, " Three four.", 9.8)},
			[]float64{0, 4, 4, 9.8},
		},
		"no sentence ends": {
			[]float64{0, 5, 6, 9.8}, []Output{said(0.0, " one two", 4.6, 4.6, " three four", 9.8)},
			[]float64{0, 4.6, 4.6, 9.8},
		},
		"word of its own before the pause": {
			[]float64{0, 4, 4.5, 5, 6, 9.8}, []Output{said(0.0, " One two.", 4.4, 4.4, " Well, three four.", 9.8)},
			[]float64{0, 4, 4.5, 9.8},
		},
		"window that starts in the rest of a sentence": {
			[]float64{0, 5, 6.2, 9.8}, []Output{said(0.0, " One two.", 4.5), said(0.0, " Three four.", 5.3)},
			[]float64{0, 4.5, 6.2, 9.8},
		},
		"window that starts in the next sentence": {
			[]float64{0, 5, 6.2, 9.8}, []Output{said(0.0, " One two.", 6.4), said(0.0, " Three four.", 3.4)},
			[]float64{0, 5, 6.2, 9.8},
		},
		"in a pause altogether": { // what the guard lets through is left where it is
			[]float64{0, 2, 2.9, 9.8}, []Output{said(0.0, " One two.", 2.0, 2.3, " Mm.", 2.6, 2.9, " Three.", 9.8)},
			[]float64{0, 2, 2.3, 2.6, 2.9, 9.8},
		},
	} {
		t.Run(name, func(t *testing.T) {
			length := c.voice[len(c.voice)-1] + 0.2
			m := &script{outputs: c.outputs, speech: voiced(c.voice...)}
			res := chunk(t, m, models.Request{PCM: seconds(length), Words: true})
			var got []float64
			for _, s := range res.Segments {
				got = append(got, s.Start, s.End)
				if w := s.Words; w[0].Start < s.Start-1e-9 || w[len(w)-1].End > s.End+1e-9 {
					t.Errorf("words %+v leave their segment %v–%v", w, s.Start, s.End)
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("times %.2f, want %.2f", got, c.want)
			}
			for i := range got {
				if math.Abs(got[i]-c.want[i]) > 0.04 { // a frame of the VAD
					t.Fatalf("times %.2f, want %.2f", got, c.want)
				}
			}
		})
	}
}

// The times are for the reader alone: what is decoded next depends on what the model said.
func TestMovedTimesLeaveTheWindowsAlone(t *testing.T) {
	m := &script{outputs: []Output{said(0.0, " One two.", 4.5), said(0.0, " Three four.", 5.3)}, speech: voiced(0, 5, 6.2, 9.8)}
	chunk(t, m, models.Request{PCM: seconds(10)})
	if len(m.asked) != 2 || math.Abs(float64(len(m.asked[1].Samples))/rate-5.5) > 0.04 {
		t.Errorf("%d windows, want a second one of 5.5 s, from the last timestamp", len(m.asked))
	}
}
