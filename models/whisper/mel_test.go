//go:build cgo

package whisper

import (
	"math"
	"math/rand/v2"
	"testing"

	"steno/internal/testmedia"
)

// melByDefinition is openai/whisper's log_mel_spectrogram in plain float64.
func melByDefinition(m melFilters, samples []float32, frames int) []float64 {
	const frame, step, bins = 400, 160, 201
	at := func(i int) float64 {
		if i < 0 {
			i = -i
		}
		if i >= len(samples) {
			return 0
		}
		return float64(samples[i])
	}
	out := make([]float64, m.bands*frames)
	top := math.Inf(-1)
	for f := range frames {
		var power [bins]float64
		for k := range power {
			re, im := 0.0, 0.0
			for i := range frame {
				x := at(f*step-frame/2+i) * (0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/frame))
				re += x * math.Cos(2*math.Pi*float64(k*i)/frame)
				im -= x * math.Sin(2*math.Pi*float64(k*i)/frame)
			}
			power[k] = re*re + im*im
		}
		for b := range m.bands {
			sum := 0.0
			for k, p := range power {
				sum += p * float64(m.weights[b*bins+k])
			}
			out[b*frames+f] = math.Log10(max(sum, 1e-10))
			top = max(top, out[b*frames+f])
		}
	}
	for i, x := range out {
		out[i] = (max(x, top-8) + 4) / 4
	}
	return out
}

func TestSpectrogramFollowsItsDefinition(t *testing.T) {
	m, err := readFilters(testmedia.Model(t, "tiny.en-q8_0"))
	if err != nil {
		t.Fatal(err)
	}
	for name, samples := range map[string][]float32{
		"nothing": {}, "one sample": {0.5}, "a short one": noise(150), "a ragged one": noise(5*160 + 7), "frames and no rest": noise(40 * 160),
	} {
		t.Run(name, func(t *testing.T) {
			const frames = 60
			got, want := m.spectrogram(nil, samples, frames), melByDefinition(m, samples, frames)
			for i := range want {
				if math.Abs(float64(got[i])-want[i]) > 1e-3 {
					t.Fatalf("band %d, frame %d: %g, want %g", i/frames, i%frames, got[i], want[i])
				}
			}
		})
	}
}

// noise under a slow swell, so that loud and quiet frames are there.
func noise(n int) []float32 {
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, n)
	for i := range x {
		x[i] = (r.Float32() - 0.5) * float32(math.Sin(float64(i)/900))
	}
	return x
}
