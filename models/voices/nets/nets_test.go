//go:build cgo

package nets_test

import (
	"math"
	"os"
	"strings"
	"testing"

	"steno/internal/testmedia"
	"steno/models/voices"
	"steno/models/voices/nets"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(testmedia.Voices(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func load(t *testing.T) *nets.Nets {
	t.Helper()
	embed, err := voices.Embedder(read(t, "campplus.pt"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := nets.Load(nets.Config{
		Library: testmedia.Voices(t, "libonnxruntime.so"), Segment: read(t, "pyannote-segmentation-3.0.onnx"), Embed: embed, Threads: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// The values are those of PyTorch 2 with 3D-Speaker's definition of CAM++, each twelfth of 192.
func TestEmbeddingIsPyTorchs(t *testing.T) {
	n := load(t)
	features := make([]float32, 0, 998*voices.Bands)
	for i := range 998 {
		for b := range voices.Bands {
			features = append(features, float32(2*math.Sin(0.37*float64(i)+1.3*float64(b))+math.Cos(0.05*float64(i*b))))
		}
	}
	got, err := n.Embed(features[:157*voices.Bands]) // the last segment of the network's context is not whole
	if err != nil || len(got) != 192 {
		t.Fatalf("%d values, %v", len(got), err)
	}
	want := []float64{
		-0.8611, 0.0569, -0.3844, -1.1721, -0.0966, 0.1543, 0.0596, 0.5434, -0.4240, 0.8291, -0.2163, -0.1618, 0.0336, -0.0174, -0.1221,
		-0.5626,
	}
	for i, w := range want {
		if v := float64(got[12*i]); math.Abs(v-w) > 2e-4 {
			t.Errorf("value %d is %.4f, want %.4f", 12*i, v, w)
		}
	}
	for _, frames := range []int{1, 2, 99, 100, 199, 200, 201, 998} { // of any length
		a, err := n.Embed(features[:frames*voices.Bands])
		if err != nil {
			t.Fatalf("%d frames: %v", frames, err)
		}
		for _, v := range a {
			if math.IsNaN(float64(v)) {
				t.Fatalf("%d frames give %v", frames, a)
			}
		}
	}
}

// In silence nobody speaks, and the classes of a frame are a distribution.
func TestSegmentation(t *testing.T) {
	n := load(t)
	got, err := n.Segment(make([]float32, voices.Window))
	if err != nil || len(got) != voices.WindowFrames*voices.Sets {
		t.Fatalf("%d values, %v", len(got), err)
	}
	for i := range voices.WindowFrames {
		sum := 0.0
		for _, v := range got[i*voices.Sets : (i+1)*voices.Sets] {
			sum += math.Exp(float64(v))
		}
		if math.Abs(sum-1) > 1e-4 || got[i*voices.Sets] < -0.1 {
			t.Fatalf("frame %d: %v", i, got[i*voices.Sets:(i+1)*voices.Sets])
		}
	}
}

func TestLoadErrors(t *testing.T) {
	library := testmedia.Voices(t, "libonnxruntime.so")
	for name, c := range map[string]struct {
		config nets.Config
		want   string
	}{
		"no library":   {nets.Config{Library: "/nowhere/libonnxruntime.so", Threads: 1}, "load ONNX Runtime"},
		"not a model":  {nets.Config{Library: library, Segment: []byte("no"), Threads: 1}, "load the segmentation network"},
		"half a model": {nets.Config{Library: library, Segment: read(t, "pyannote-segmentation-3.0.onnx")[:1<<20], Threads: 1}, "load the segmentation network"},
	} {
		n, err := nets.Load(c.config)
		if n != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.want)
		}
	}
}
