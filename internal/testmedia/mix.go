package testmedia

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// Spoken is a stretch in which one of several speakers, from 0, speaks without a pause of 0.3 s: seconds of the file.
type Spoken struct {
	Start, End float64
	Speaker    int
}

// Mix lays what speakers say to a 16 kHz WAV file in dir that lasts for about the given seconds: in turns of 1.5 to 7 s, in an
// order that seed decides, each followed by the next after 0.1 to 0.8 s or, one in five, 0.3 to 1.2 s before it ends. All are
// equally loud, but for 3 dB up or down from turn to turn. It returns who speaks when: what is within 30 dB of the loud parts of
// a speaker's clips, and 10 dB over what is behind them.
func Mix(ctx context.Context, dir string, speakers [][]Clip, seed uint64, seconds float64) (string, []Spoken, error) {
	rng := rand.New(rand.NewPCG(seed, uint64(len(speakers))))
	said, least := make([][]float64, len(speakers)), make([]float64, len(speakers))
	for s, clips := range speakers {
		for _, clip := range clips {
			pcm, err := decode(ctx, clip)
			if err != nil {
				return "", nil, fmt.Errorf("mix speakers: %w", err)
			}
			said[s] = append(said[s], leveled(pcm)...)
		}
		least[s] = threshold(said[s])
	}
	sum := make([]float64, int((seconds+20)*rate))
	var spoken []Spoken
	from := make([]int, len(speakers)) // where each goes on
	last, ends := -1, 0
	for at := 0.5; at < seconds; {
		s := rng.IntN(len(speakers))
		if s == last {
			continue
		}
		last = s
		n := min(int((1.5+5.5*rng.Float64())*rate), len(said[s]))
		if from[s]+n > len(said[s]) {
			from[s] = 0
		}
		turn := said[s][from[s] : from[s]+n]
		from[s] += n
		parts := sounding(turn, least[s])
		if len(parts) == 0 {
			continue
		}
		first, end := parts[0][0], parts[len(parts)-1][1]
		gain := math.Pow(10, (6*rng.Float64()-3)/20)
		begin := int(at * rate)
		for i, v := range turn[first:end] {
			sum[begin+i] += gain * v
		}
		for _, p := range parts {
			spoken = append(spoken, Spoken{float64(begin+p[0]-first) / rate, float64(begin+p[1]-first) / rate, s})
		}
		ends = max(ends, begin+end-first)
		at = float64(begin+end-first)/rate + 0.1 + 0.7*rng.Float64()
		if rng.Float64() < 0.2 {
			at = max(0.5, float64(begin+end-first)/rate-0.3-0.9*rng.Float64())
		}
	}
	pcm := make([]int16, min(len(sum), ends+rate/2))
	for i := range pcm {
		pcm[i] = int16(max(-32768, min(32767, math.Round(32768*sum[i]))))
	}
	path := filepath.Join(dir, fmt.Sprintf("mix-%d-%d.wav", len(speakers), seed))
	if err := encode(ctx, path, pcm, encodings["wav"]); err != nil {
		return "", nil, fmt.Errorf("mix speakers: %w", err)
	}
	return path, spoken, nil
}

// leveled is pcm at full scale 1 and a root mean square of -24 dB.
func leveled(pcm []int16) []float64 {
	power := 0.0
	for _, v := range pcm {
		power += float64(v) * float64(v)
	}
	gain := math.Pow(10, -24.0/20) / math.Sqrt(max(1, power/float64(max(1, len(pcm)))))
	out := make([]float64, len(pcm))
	for i, v := range pcm {
		out[i] = gain * float64(v)
	}
	return out
}

const mixStep = rate / 100 // samples of which the power is taken

func powers(pcm []float64) []float64 {
	power := make([]float64, len(pcm)/mixStep)
	for i := range power {
		for _, v := range pcm[i*mixStep : (i+1)*mixStep] {
			power[i] += v * v
		}
	}
	return power
}

// threshold is the power over which there is speech in a clip: 30 dB under its loud parts, the 95th percentile, or 10 dB over its
// background, the tenth.
func threshold(pcm []float64) float64 {
	sorted := slices.Sorted(slices.Values(powers(pcm)))
	if len(sorted) == 0 {
		return 0
	}
	return max(sorted[len(sorted)*95/100]/1000, min(sorted[len(sorted)/10]*10, sorted[len(sorted)*95/100]/100))
}

// sounding are the samples, from and to, with more than the least power, in steps of 10 ms. What is apart by less than 0.3 s is
// one, and what is shorter than 50 ms none.
func sounding(pcm []float64, least float64) [][2]int {
	var parts [][2]int
	for i, p := range powers(pcm) {
		switch n := len(parts); {
		case p <= least:
		case n > 0 && i*mixStep-parts[n-1][1] < 30*mixStep:
			parts[n-1][1] = (i + 1) * mixStep
		default:
			parts = append(parts, [2]int{i * mixStep, (i + 1) * mixStep})
		}
	}
	return slices.DeleteFunc(parts, func(p [2]int) bool { return p[1]-p[0] < 5*mixStep })
}
