package audio

import (
	"bytes"
	"encoding/binary"
	"math"
	"os/exec"
	"regexp"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"steno/internal/testmedia"
)

func peakOf(samples []float32, step int) float64 {
	p := newTruePeak()
	for len(samples) > 0 {
		n := min(step, len(samples))
		largest := float32(0)
		for _, v := range samples[:n] {
			largest = max(largest, v, -v)
		}
		p.add(samples[:n], largest)
		samples = samples[n:]
	}
	return p.end()
}

// everywhere interpolates without passing anything over.
func everywhere(samples []float32) float64 {
	ip := newInterpolator()
	padded := append(append(make([]float32, peakTaps), samples...), make([]float32, peakTaps)...)
	most := float32(0)
	for _, v := range padded {
		most = max(most, v, -v)
	}
	for i := 0; i+peakTaps <= len(padded); i++ {
		for _, w := range ip.weights {
			v := float32(0)
			for k, s := range padded[i : i+peakTaps] {
				v += s * w[k]
			}
			most = max(most, v, -v)
		}
	}
	return float64(most)
}

func TestTruePeakPassesNothingOver(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Float32Range(-1.5, 1.5), 0, 200).Draw(t, "samples")
		step := rapid.IntRange(1, 200).Draw(t, "step")
		if got, want := peakOf(samples, step), everywhere(samples); got != want {
			t.Errorf("peak %v in steps of %d, want %v", got, step, want)
		}
	})
}

func TestTruePeakBetweenSamples(t *testing.T) {
	for name, tt := range map[string]struct{ cycle, phase float64 }{ // cycle: of the sample rate
		"quarter of the rate, samples at 45 degrees": {0.25, math.Pi / 4},
		"low tone":           {0.01, 0.3},
		"sixth of the rate":  {1.0 / 6, math.Pi / 6},
		"tone at 6.4 kHz":    {0.4, 0.1},
		"samples at the top": {0.25, 0},
	} {
		t.Run(name, func(t *testing.T) {
			samples := make([]float32, 4000)
			for i := range samples {
				fade := math.Sin(math.Pi * float64(i) / float64(len(samples))) // an edge has peaks of its own
				samples[i] = float32(0.5 * fade * math.Sin(2*math.Pi*tt.cycle*float64(i)+tt.phase))
			}
			if db := 20 * math.Log10(peakOf(samples, 160)/0.5); math.Abs(db) > 0.2 {
				t.Errorf("peak %+.2f dB beside the truth", db)
			}
		})
	}
}

// TestTruePeakAgreesWithFFmpeg compares real speech with the filter that this replaces.
func TestTruePeakAgreesWithFFmpeg(t *testing.T) {
	const mono = "aresample=16000,aformat=sample_fmts=flt:channel_layouts=mono"
	for _, c := range testmedia.Speech(t) {
		out, err := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-i", c.Path, "-af",
			mono+",ebur128=peak=true:framelog=verbose", "-f", "null", "-").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		found := regexp.MustCompile(`Peak:\s+(-?[0-9.]+) dBFS`).FindSubmatch(out)
		if found == nil {
			t.Fatalf("no true peak in %s", out)
		}
		want, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-i", c.Path, "-af",
			mono, "-f", "f32le", "-").Output()
		if err != nil {
			t.Fatal(err)
		}
		m := measured(t, raw)
		if m.Samples != int64(len(raw)/4) {
			t.Errorf("%d samples of %d", m.Samples, len(raw)/4)
		}
		if math.Abs(m.TruePeak-want) > 0.2 {
			t.Errorf("%s: true peak %.2f dBTP, ffmpeg says %.1f", c.Path, m.TruePeak, want)
		}
	}
}

// measured meters PCM of 32-bit floats.
func measured(t testing.TB, raw []byte) Measurement {
	t.Helper()
	m := newMeter(newSpool(Tools{MaxScratch: -1}))
	if err := m.readAll(bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	return m.measurement()
}

func TestReadAllKeepsWhatIsAboveFullScale(t *testing.T) {
	pcm := []float32{0, 0.1, 1.4, 0.1, float32(math.NaN()), 0, 0.2, 0, float32(math.Inf(-1))}
	raw, err := binary.Append(nil, binary.LittleEndian, pcm)
	if err != nil {
		t.Fatal(err)
	}
	m := measured(t, raw)
	if least := 20 * math.Log10(1.4); m.Samples != int64(len(pcm)) || !(m.TruePeak >= least-1e-6 && m.TruePeak < least+6) {
		t.Errorf("%d samples, true peak %v dBTP: want %d, at least %v", m.Samples, m.TruePeak, len(pcm), least)
	}
}
