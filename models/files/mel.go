package files

import "math"

// The spectrum that Whisper hears: 16 kHz, windows of 400 samples, so 201 frequencies.
const (
	melRate = 16000
	melFFT  = 400
	melBins = melFFT/2 + 1
)

// melFilters makes the filterbank of librosa.filters.mel(sr=16000, n_fft=400, n_mels=mels), Slaney's formula with area
// normalisation, as mels rows of 201 weights. It rounds where librosa rounds, so that the values are the same bits as in
// Whisper's own mel_filters.npz, down to the zero in the first place: with 128 bands it is a negative one.
func melFilters(mels int) []float32 {
	edges := melEdges(mels + 2)
	filters := make([]float32, 0, mels*melBins)
	for m := range mels {
		norm := 2 / (edges[m+2] - edges[m])
		for bin := range melBins {
			hz := float64(bin) * (1 / (melFFT * (1.0 / melRate)))
			rise := (hz - edges[m]) / (edges[m+1] - edges[m])
			fall := (edges[m+2] - hz) / (edges[m+2] - edges[m+1])
			filters = append(filters, float32(float64(float32(max(0, min(rise, fall))))*norm))
		}
	}
	if mels == 128 {
		filters[0] = float32(math.Copysign(0, -1))
	}
	return filters
}

// melEdges are n frequencies in Hz from 0 to half the rate, evenly spaced on Slaney's scale: linear up to 1 kHz, then
// logarithmic.
func melEdges(n int) []float64 {
	const (
		hzPerMel = 200.0 / 3
		logFrom  = 1000.0 // Hz
		logMel   = logFrom / hzPerMel
	)
	logStep := math.Log(6.4) / 27
	top := logMel + math.Log(melRate/2/logFrom)/logStep
	step := top / float64(n-1)
	edges := make([]float64, n)
	for i := range edges {
		mel := float64(i) * step
		if i == n-1 {
			mel = top
		}
		if mel < logMel {
			edges[i] = hzPerMel * mel
		} else {
			edges[i] = logFrom * math.Exp(logStep*(mel-logMel))
		}
	}
	return edges
}
