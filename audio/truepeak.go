package audio

import "math"

const (
	// peakPhases is how many points are computed per sample: at 8 a peak between them is missed by 0.17 dB at most, for a tone at
	// half the sample rate; ITU-R BS.1770 asks for 4.
	peakPhases = 8
	// peakTaps is the length of the interpolation in samples, half on each side.
	peakTaps = 24
	// peakBlock is how many samples are looked at, or passed over, together.
	peakBlock = 16
)

// interpolator holds, for each point between two samples, the weights of the samples around.
type interpolator struct {
	weights [peakPhases - 1][peakTaps]float32
	gain    float32 // the most that a point can exceed the largest sample around it: the largest sum of absolute weights
}

// newInterpolator makes a sinc under a Hann window, its weights summing to 1.
func newInterpolator() *interpolator {
	ip := &interpolator{}
	for p := range ip.weights {
		var w [peakTaps]float64
		sum, most := 0.0, 0.0
		at := float64(peakTaps/2-1) + float64(p+1)/peakPhases
		for i := range w {
			x := float64(i) - at
			w[i] = math.Sin(math.Pi*x) / (math.Pi * x) * (0.5 + 0.5*math.Cos(math.Pi*x/(peakTaps/2)))
			sum += w[i]
		}
		for i := range w {
			w[i] /= sum
			most += math.Abs(w[i])
			ip.weights[p][i] = float32(w[i])
		}
		ip.gain = max(ip.gain, float32(most)*1.0001) // room for rounding
	}
	return ip
}

// truePeak finds the highest level that a signal reaches, also between its samples. ffmpeg's ebur128 does it by resampling all of
// the file, which takes as long as decoding and measuring together; here a stretch is interpolated only if its samples allow a
// new peak, and the result is the same as of interpolating everything. Not safe for concurrent use.
type truePeak struct {
	ip     *interpolator
	max    float32
	window []float32 // the last peakTaps-1 samples, in front of those that are added
	before float32   // the largest of them
}

func newTruePeak() *truePeak {
	return &truePeak{ip: newInterpolator(), window: make([]float32, peakTaps-1)}
}

// add takes the next samples, and the largest magnitude among them.
func (p *truePeak) add(samples []float32, largest float32) {
	p.max = max(p.max, largest)
	p.window = append(p.window, samples...)
	if max(p.before, largest)*p.ip.gain > p.max {
		for at := 0; at < len(samples); at += peakBlock {
			p.look(p.window[at : min(at+peakBlock, len(samples))+peakTaps-1])
		}
	}
	if len(samples) < peakTaps-1 {
		largest = max(largest, p.before)
	}
	p.before = largest
	p.window = p.window[:copy(p.window, p.window[len(samples):])]
}

// end is the peak of all that was added, as a factor of full scale.
func (p *truePeak) end() float64 {
	p.add(make([]float32, peakTaps-1), 0)
	return float64(p.max)
}

// look goes over the points that the window's positions see.
func (p *truePeak) look(window []float32) {
	most := float32(0)
	for _, v := range window {
		most = max(most, v, -v)
	}
	if most*p.ip.gain <= p.max {
		return
	}
	for i := range len(window) - peakTaps + 1 {
		around := window[i : i+peakTaps]
		for w := range p.ip.weights {
			weights := &p.ip.weights[w]
			v := float32(0)
			for k, s := range around {
				v += s * weights[k]
			}
			p.max = max(p.max, v, -v)
		}
	}
}
