package audio

import (
	"bytes"
	"encoding/binary"
	"math"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"steno/internal/testmedia"
)

// TestWeightingIsTheStandards compares with tables 1 and 2 of ITU-R BS.1770-4.
func TestWeightingIsTheStandards(t *testing.T) {
	t.Parallel()
	shelf, highpass := weighting(48000)
	for name, c := range map[string]struct{ got, want float64 }{
		"shelf b0":     {shelf.b0, 1.53512485958697},
		"shelf b1":     {shelf.b1, -2.69169618940638},
		"shelf b2":     {shelf.b2, 1.19839281085285},
		"shelf a1":     {shelf.a1, -1.69065929318241},
		"shelf a2":     {shelf.a2, 0.73248077421585},
		"high pass b0": {highpass.b0, 1},
		"high pass b1": {highpass.b1, -2},
		"high pass b2": {highpass.b2, 1},
		"high pass a1": {highpass.a1, -1.99004745483398},
		"high pass a2": {highpass.a2, 0.99007225036621},
	} {
		if math.Abs(c.got-c.want) > 1e-9 {
			t.Errorf("%s is %.14f, want %.14f", name, c.got, c.want)
		}
	}
}

// stretch is a tone of a level in dBFS.
type stretch struct{ seconds, db float64 }

// tones are stretches of 997 Hz, one after the other.
func tones(stretches ...stretch) []float32 {
	var pcm []float32
	for _, s := range stretches {
		amplitude := math.Pow(10, s.db/20)
		for range int(s.seconds * Rate) {
			pcm = append(pcm, float32(amplitude*math.Sin(2*math.Pi*997/Rate*float64(len(pcm)))))
		}
	}
	return pcm
}

// TestLoudnessIsTheStandards has the signals by which meters are tested (EBU Tech 3341 and 3342). They are of two channels: one alone
// is 3.01 LU lower, as BS.1770-4 says of its tone of 0 dBFS.
func TestLoudnessIsTheStandards(t *testing.T) {
	t.Parallel()
	const one = 3.01
	for name, c := range map[string]struct {
		pcm       []float32
		lufs, lra float64
	}{
		"BS.1770 full scale":      {tones(stretch{10, 0}), -3.01, 0},
		"3341 case 1":             {tones(stretch{20, -23}), -23 - one, 0},
		"3341 case 2":             {tones(stretch{20, -33}), -33 - one, 0},
		"3341 case 3":             {tones(stretch{10, -36}, stretch{60, -23}, stretch{10, -36}), -23 - one, 13},
		"3341 case 4":             {tones(stretch{10, -72}, stretch{10, -36}, stretch{60, -23}, stretch{10, -36}, stretch{10, -72}), -23 - one, 13},
		"3341 case 5":             {tones(stretch{20, -26}, stretch{20.1, -20}, stretch{20, -26}), -23 - one, 6},
		"3342 case 1":             {tones(stretch{20, -20}, stretch{20, -30}), math.NaN(), 10},
		"3342 case 2":             {tones(stretch{20, -20}, stretch{20, -15}), math.NaN(), 5},
		"3342 case 3":             {tones(stretch{20, -40}, stretch{20, -20}), math.NaN(), 20},
		"3342 case 4":             {tones(stretch{20, -50}, stretch{20, -35}, stretch{20, -20}, stretch{20, -35}, stretch{20, -50}), math.NaN(), 15},
		"one window of the range": {tones(stretch{3.05, -20}), -20 - one, 0},
		"below the gate":          {tones(stretch{5, -68}), silentLoudness, 0},
		"less than a window":      {tones(stretch{0.399, -20}), silentLoudness, 0},
		"nothing":                 {nil, silentLoudness, 0},
	} {
		l := newLoudness()
		l.add(c.pcm)
		if got := l.lufs(); math.Abs(got-c.lufs) > 0.1 {
			t.Errorf("%s: %.2f LUFS, want %.2f", name, got, c.lufs)
		}
		if got := l.lra(); math.Abs(got-c.lra) > 1 { // what Tech 3342 allows
			t.Errorf("%s: range %.2f LU, want %.2f", name, got, c.lra)
		}
	}
}

// TestLoudnessAgreesWithFFmpeg runs the filter that this replaces beside it, over the same samples.
func TestLoudnessAgreesWithFFmpeg(t *testing.T) {
	t.Parallel()
	generated := func(graph string) []string { return []string{"-f", "lavfi", "-i", graph} }
	cases := map[string][]string{
		"tone":               generated("sine=997:r=16000:d=5"),
		"low tone":           generated("sine=30:r=16000:d=5"),
		"high tone":          generated("sine=7500:r=16000:d=5"),
		"white noise":        generated("anoisesrc=r=16000:d=20:a=0.3:seed=1"),
		"pink noise, stereo": generated("anoisesrc=r=48000:d=20:c=pink:a=0.5:seed=2,aformat=channel_layouts=stereo"),
		"silence":            generated("anullsrc=r=16000:d=5"),
		"very quiet":         generated("anoisesrc=r=16000:d=10:a=0.001:seed=3"),
		"below the gate":     generated("anoisesrc=r=16000:d=10:a=0.0003:seed=3"),
		"full scale":         generated("aevalsrc=sgn(sin(2*PI*400*t)):s=16000:d=5"),
		"above full scale":   generated("aevalsrc=1.9*sin(2*PI*997*t):s=16000:d=5"),
		"steps":              generated("aevalsrc=0.4*sin(2*PI*700*t)*pow(10\\,-mod(floor(t/4)\\,5)/2):s=16000:d=60"),
		"bursts":             generated("aevalsrc=0.4*sin(2*PI*700*t)*lt(mod(t\\,7)\\,2):s=16000:d=60"),
		"under 400 ms":       generated("aevalsrc=0.4*sin(2*PI*700*t):s=16000:d=0.39"),
		"400 ms":             generated("aevalsrc=0.4*sin(2*PI*700*t):s=16000:d=0.4"),
		"one sample":         generated("aevalsrc=0.4:s=16000:d=0.0000625"),
	}
	for _, c := range testmedia.Speech(t) {
		name := c.Path[strings.LastIndex(c.Path, "/")+1:]
		cases[name] = []string{"-i", c.Path}
		cases[name+", quiet"] = []string{"-i", c.Path, "-af", "volume=-45dB"}
		cases[name+", loud"] = []string{"-i", c.Path, "-af", "volume=12dB:precision=float"}
	}
	for name, source := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, lufs, lra := ebur128(t, source)
			m := measured(t, raw)
			if math.Abs(m.Loudness-lufs) > 0.1 || math.Abs(m.Range-lra) > 0.5 {
				t.Errorf("%.2f LUFS, range %.2f LU; ffmpeg says %.1f, %.1f", m.Loudness, m.Range, lufs, lra)
			}
		})
	}
}

// ebur128 is what ffmpeg measures of a source at 16 kHz mono, and the samples that it saw.
func ebur128(t testing.TB, source []string) (raw []byte, lufs, lra float64) {
	t.Helper()
	mono := "aresample=16000,aformat=sample_fmts=flt:channel_layouts=mono,ebur128=peak=none:framelog=verbose"
	args := append([]string{"-nostdin", "-hide_banner", "-nostats"}, source...)
	if i := len(args) - 2; args[i] == "-af" {
		args, mono = args[:i], args[i+1]+","+mono
	}
	cmd := exec.CommandContext(t.Context(), "ffmpeg", append(args, "-af", mono, "-f", "f32le", "pipe:1")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	value := func(key string) float64 {
		found := regexp.MustCompile(`\s` + key + `:\s+(-?[0-9.]+) LU`).FindSubmatch(stderr.Bytes())
		if found == nil {
			t.Fatalf("no %s in %s", key, stderr.Bytes())
		}
		v, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	return stdout.Bytes(), value("I"), value("LRA")
}

// However the samples come, the figures are the same to the last bit.
func TestLoudnessInAnySteps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pcm := tones(stretch{rapid.Float64Range(0, 5).Draw(t, "seconds"), -20}, stretch{1, -40})
		whole, parts := newLoudness(), newLoudness()
		whole.add(pcm)
		for len(pcm) > 0 {
			n := min(len(pcm), rapid.IntRange(1, 5*hop).Draw(t, "step"))
			parts.add(pcm[:n])
			pcm = pcm[n:]
		}
		if *whole != *parts {
			t.Errorf("%v LUFS in steps, want %v", parts.lufs(), whole.lufs())
		}
	})
}

// Denormal numbers make a day of silence slower than a day of speech.
func TestFiltersComeToRest(t *testing.T) {
	t.Parallel()
	l := newLoudness()
	l.add(tones(stretch{1, 0}))
	for range 10 * Rate / block {
		l.add(make([]float32, block))
	}
	for _, s := range []float64{l.shelf.s1, l.shelf.s2, l.highpass.s1, l.highpass.s2} {
		if s != 0 {
			t.Errorf("%g is left in a filter after 10 s of silence", s)
		}
	}
}

// Whatever decodes, the figures are numbers and the gain is in bounds.
func FuzzMeter(f *testing.F) {
	for _, pcm := range [][]float32{nil, {0}, tones(stretch{0.5, -20}), {float32(math.Inf(1)), math.MaxFloat32, 1e-30, float32(math.NaN())}} {
		raw, err := binary.Append(nil, binary.LittleEndian, pcm)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := measured(t, raw)
		if m.Samples != int64(len(raw)/4) || len(m.env) != (len(raw)/4+block-1)/block {
			t.Errorf("%d samples in %d blocks of %d bytes", m.Samples, len(m.env), len(raw))
		}
		for _, v := range []float64{m.Loudness, m.Range, m.GainDB} {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("loudness %v, range %v, gain %v", m.Loudness, m.Range, m.GainDB)
			}
		}
		if m.GainDB > maxGain {
			t.Errorf("gain %v", m.GainDB)
		}
	})
}
