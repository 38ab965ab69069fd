package audio

import "math"

const (
	// hop is what gating blocks advance by, in samples: 100 ms, which is the 75 % overlap of ITU-R BS.1770-4's 400 ms blocks.
	hop = Rate / 10
	// momentary and shortTerm are the lengths of the two windows in hops: 400 ms for integrated loudness, 3 s (EBU Tech 3342) for
	// its range.
	momentary, shortTerm = 4, 30
	// loudest is the top of the histograms in LUFS, and grain their bins per LU. Both are those of ffmpeg's ebur128 filter.
	loudest, grain = 10.0, 100
)

// loudness measures mono audio at Rate: its integrated loudness after ITU-R BS.1770-4 and its range after EBU Tech 3342. The one
// channel has the weight of a front loudspeaker, as in ffmpeg's ebur128 filter, whose figures these are. Memory is the same for
// a second and for a day. Not safe for concurrent use.
type loudness struct {
	shelf, highpass   biquad
	sum               float64 // squares of the weighted samples of the hop so far
	n                 int     // samples in it
	hops              int
	power             [shortTerm]float64 // sums of the last hops; hop i is in power[i%shortTerm]
	integrated, short gated
}

// biquad is a filter of second order in transposed direct form II, a0 being 1.
type biquad struct {
	b0, b1, b2, a1, a2 float64
	s1, s2             float64 // state
}

func newLoudness() *loudness {
	l := &loudness{}
	l.shelf, l.highpass = weighting(Rate)
	return l
}

// weighting makes BS.1770's K-weighting for a sample rate in Hz. The standard lists coefficients for 48 kHz only; these are the
// analogue prototypes behind them through the bilinear transform, with the parameters that libebur128 and ffmpeg use. Where they
// come from: De Man, "Evaluation of Implementations of the EBU R128 Loudness Measurement", AES convention 145, 2018.
func weighting(rate float64) (shelf, highpass biquad) {
	const (
		shelfHz, shelfDB, shelfQ = 1681.974450955533, 3.999843853973347, 0.7071752369554196
		passHz, passQ            = 38.13547087602444, 0.5003270373238773
	)
	k := math.Tan(math.Pi * shelfHz / rate)
	vh := math.Pow(10, shelfDB/20)
	vb := math.Pow(vh, 0.4996667741545416)
	a0 := 1 + k/shelfQ + k*k
	shelf = biquad{
		b0: (vh + vb*k/shelfQ + k*k) / a0, b1: 2 * (k*k - vh) / a0, b2: (vh - vb*k/shelfQ + k*k) / a0,
		a1: 2 * (k*k - 1) / a0, a2: (1 - k/shelfQ + k*k) / a0,
	}
	k = math.Tan(math.Pi * passHz / rate)
	a0 = 1 + k/passQ + k*k
	return shelf, biquad{b0: 1, b1: -2, b2: 1, a1: 2 * (k*k - 1) / a0, a2: (1 - k/passQ + k*k) / a0}
}

// add takes the next samples.
func (l *loudness) add(samples []float32) {
	for len(samples) > 0 {
		part := samples[:min(len(samples), hop-l.n)]
		samples = samples[len(part):]
		l.weigh(part)
		if l.n += len(part); l.n == hop {
			l.endHop()
		}
	}
}

// weigh filters samples and adds up their squares.
func (l *loudness) weigh(samples []float32) {
	f, g := l.shelf, l.highpass // copies: the state stays in registers
	sum := l.sum
	for _, v := range samples {
		x := float64(v)
		y := f.b0*x + f.s1
		f.s1 = (f.b1*x + f.s2) - f.a1*y // in this order what waits for y is short
		f.s2 = f.b2*x - f.a2*y
		z := y + g.s1
		g.s1 = g.s2 - 2*y - g.a1*z // b is 1, -2, 1
		g.s2 = y - g.a2*z
		sum += z * z
	}
	l.sum = sum
	l.shelf.settle(f.s1, f.s2)
	l.highpass.settle(g.s1, g.s2)
}

// settle keeps the state, but what has died away to less than -300 dB: in digital silence it would end in denormal numbers, on
// which a processor is a hundred times slower.
func (b *biquad) settle(s1, s2 float64) {
	const nothing = 1e-15
	if math.Abs(s1) < nothing && math.Abs(s2) < nothing {
		s1, s2 = 0, 0
	}
	b.s1, b.s2 = s1, s2
}

// endHop counts the two windows that end here. A file's last samples that make no whole hop are in none, as the standard has it.
func (l *loudness) endHop() {
	l.power[l.hops%shortTerm] = l.sum
	l.sum, l.n = 0, 0
	l.hops++
	for _, w := range []struct {
		hops int
		g    *gated
	}{{momentary, &l.integrated}, {shortTerm, &l.short}} {
		if l.hops < w.hops {
			continue
		}
		sum := 0.0
		for i := l.hops - w.hops; i < l.hops; i++ {
			sum += l.power[i%shortTerm]
		}
		w.g.add(sum / float64(w.hops*hop))
	}
}

// lufs is the loudness of a mean square of weighted samples.
func lufs(power float64) float64 { return -0.691 + 10*math.Log10(power) }

// gated is a histogram of windows by loudness, from the absolute gate upwards.
type gated struct {
	count [int((loudest-silentLoudness)*grain) + 1]uint32
	sum   float64 // of the powers
	n     int
}

// bin is where a loudness stands; what is beyond an end is in the last bin there.
func (g *gated) bin(loudness float64) int {
	return int(min(max(0, (loudness-silentLoudness)*grain), float64(len(g.count)-1)))
}

// add counts a window if it passes the absolute gate.
func (g *gated) add(power float64) {
	if power <= 0 || lufs(power) < silentLoudness {
		return
	}
	g.count[g.bin(lufs(power))]++
	g.sum += power
	g.n++
}

// gate is the first bin above the relative gate, depth LU below the mean of all windows. There must be one.
func (g *gated) gate(depth float64) int { return g.bin(lufs(g.sum/float64(g.n)) - depth) }

// center is the loudness in the middle of bin i.
func center(i int) float64 { return silentLoudness + (float64(i)+0.5)/grain }

// lufs is the integrated loudness: of the windows that pass both gates. It is silentLoudness where none does, as in digital
// silence and in less than 400 ms.
func (l *loudness) lufs() float64 {
	g := &l.integrated
	if g.n == 0 {
		return silentLoudness
	}
	sum, n := 0.0, 0.0
	for i := g.gate(10); i < len(g.count); i++ {
		if c := float64(g.count[i]); c > 0 {
			sum += c * math.Pow(10, (center(i)+0.691)/10)
			n += c
		}
	}
	return lufs(sum / n)
}

// lra is the loudness range in LU, between the 10th and the 95th percentile of the windows that pass both gates: 0 for less than
// 3 s.
func (l *loudness) lra() float64 {
	g := &l.short
	if g.n == 0 {
		return 0
	}
	first, n := g.gate(20), 0
	for _, c := range g.count[first:] {
		n += int(c)
	}
	percentile := func(p float64) float64 {
		// ffmpeg takes the tenth of fewer than five windows for none, and finds a range of 20 LU in 3.2 s of a tone.
		i, rest := first, max(1, int(p*float64(n)+0.5))
		for rest -= int(g.count[i]); rest > 0; rest -= int(g.count[i]) {
			i++
		}
		return center(i)
	}
	return percentile(0.95) - percentile(0.10)
}
