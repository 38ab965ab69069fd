package voices

import (
	"math"

	"gonum.org/v1/gonum/dsp/fourier"
)

// The features that CAM++ was trained with: Kaldi's filter bank, 80 bands, 25 ms each 10 ms, without dither.
const (
	Rate      = 16000 // of all audio here, in Hz
	Bands     = 80
	frameSize = Rate / 40
	frameStep = Rate / 100
	fftSize   = 512
	lowest    = 20.0     // Hz, the lower edge of the first band
	highest   = Rate / 2 // Hz, the upper edge of the last
	emphasis  = 0.97
)

// filterBank computes log-mel features as Kaldi's compute-fbank-feats does. It is not safe for concurrent use.
type filterBank struct {
	fft    *fourier.FFT
	window [frameSize]float64
	bands  [Bands]band
	in     [fftSize]float64
	out    []complex128
	power  [fftSize / 2]float64
}

// band is a triangle over bins of the spectrum, from the first on.
type band struct {
	first   int
	weights []float64
}

func newFilterBank() *filterBank {
	f := &filterBank{fft: fourier.NewFFT(fftSize)}
	for i := range f.window {
		// Povey's: a Hann window to the power of 0.85.
		f.window[i] = math.Pow(0.5-0.5*math.Cos(2*math.Pi*float64(i)/(frameSize-1)), 0.85)
	}
	from := mel(lowest)
	width := (mel(highest) - from) / (Bands + 1)
	for b := range f.bands {
		left := from + float64(b)*width
		center, right := left+width, left+2*width
		for bin := range fftSize / 2 {
			m := mel(float64(bin) * Rate / fftSize)
			if m <= left || m >= right {
				continue
			}
			if len(f.bands[b].weights) == 0 {
				f.bands[b].first = bin
			}
			weight := (m - left) / width
			if m > center {
				weight = (right - m) / width
			}
			f.bands[b].weights = append(f.bands[b].weights, weight)
		}
	}
	return f
}

// mel is O'Shaughnessy's formula, as Kaldi has it.
func mel(hz float64) float64 { return 1127 * math.Log1p(hz/700) }

// frames is how many frames n samples have: only those that lie within.
func frames(n int) int { return max(0, (n-frameSize+frameStep)/frameStep) }

// features returns Bands values for each frame of pcm, whose full scale is 1.
func (f *filterBank) features(pcm []float32) []float32 {
	out := make([]float32, frames(len(pcm))*Bands)
	for i := range frames(len(pcm)) {
		f.frame(out[i*Bands:(i+1)*Bands], pcm[i*frameStep:i*frameStep+frameSize])
	}
	return out
}

func (f *filterBank) frame(out, pcm []float32) {
	mean := 0.0
	for _, v := range pcm {
		mean += float64(v)
	}
	mean /= frameSize
	last := float64(pcm[0]) - mean // Kaldi repeats the first sample before it
	for i, v := range pcm {
		x := float64(v) - mean
		f.in[i] = (x - emphasis*last) * f.window[i]
		last = x
	}
	f.out = f.fft.Coefficients(f.out, f.in[:])
	for i := range f.power {
		re, im := real(f.out[i]), imag(f.out[i])
		f.power[i] = re*re + im*im
	}
	for b, tri := range f.bands {
		sum := 0.0
		for i, w := range tri.weights {
			sum += w * f.power[tri.first+i]
		}
		out[b] = float32(math.Log(max(sum, 0x1p-23))) // the floor is float32's epsilon
	}
}
