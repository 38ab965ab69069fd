//go:build cgo

package whisper

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"steno/internal/testmedia"
)

// voice is jfk.wav, with noise, a tone and silence behind it.
func voice(t *testing.T) []float32 {
	b, err := os.ReadFile(testmedia.Sample(t, "jfk.wav"))
	if err != nil {
		t.Fatal(err)
	}
	var samples []float32
	for at := strings.Index(string(b), "data") + 8; at+1 < len(b); at += 2 {
		samples = append(samples, float32(int16(binary.LittleEndian.Uint16(b[at:])))/32768)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 3 * 16000 {
		samples = append(samples, float32(random.NormFloat64()/20))
		samples = append(samples, float32(math.Sin(float64(i)*0.2)))
	}
	return append(samples, make([]float32, 20001)...)
}

// TestVADAgreesWithTheLibrary allows for what rounding to half precision between layers does, which the library does and we do not.
func TestVADAgreesWithTheLibrary(t *testing.T) {
	setUp()
	path := testmedia.Model(t, "silero-v6.2.0")
	v, err := loadVAD(path)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	all := voice(t)
	for _, samples := range [][]float32{all, all[:1], all[:512], all[5000:13001], make([]float32, 1000)} {
		want, err := libraryVAD(path, samples)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		got := v.probabilities(samples)
		took := time.Since(start)
		if len(got) != len(want) {
			t.Fatalf("%d samples: %d probabilities, the library has %d", len(samples), len(got), len(want))
		}
		worst, sum := 0.0, 0.0
		for i := range got {
			d := math.Abs(float64(got[i] - want[i]))
			worst, sum = max(worst, d), sum+d
		}
		t.Logf("%d samples in %s: differences of at most %.5f, %.6f on average", len(samples), took, worst, sum/float64(len(got)))
		if worst > 0.02 || sum/float64(len(got)) > 0.001 {
			t.Errorf("%d samples: differences of at most %g, %g on average", len(samples), worst, sum/float64(len(got)))
		}
	}
	if got := v.probabilities(nil); len(got) != 0 {
		t.Errorf("no samples have %d probabilities", len(got))
	}
}

func TestVADRefusesBadFiles(t *testing.T) {
	whole, err := os.ReadFile(testmedia.Model(t, "silero-v6.2.0"))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int, b byte) []byte {
		c := append([]byte{}, whole...)
		c[at] = b
		return c
	}
	for name, data := range map[string][]byte{
		"empty":           {},
		"short":           whole[:len(whole)/2],
		"a cut name":      whole[:0x90],
		"foreign":         changed(0, 'x'),
		"many layers":     changed(0x26, 200),
		"another tensor":  changed(0x84, 'x'),
		"absurd tensor":   changed(0x7d, 127),
		"another width":   changed(0x7a, 64),
		"an unknown type": changed(0x72, 8),
	} {
		path := filepath.Join(t.TempDir(), "vad.bin")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if v, err := loadVAD(path); err == nil {
			v.close()
			t.Errorf("%s: loaded", name)
		}
	}
}

func TestHalfPrecision(t *testing.T) {
	for h, want := range map[uint16]float32{0: 0, 1: 1.0 / (1 << 24), 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0400: 1.0 / (1 << 14)} {
		if got := fromHalf(h); got != want {
			t.Errorf("%#x is %g, want %g", h, got, want)
		}
	}
}
