package engine

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"steno/job"
	"steno/models"
)

// shelf is a folder of model files.
type shelf struct {
	file, vad File
	err       error
}

func (s shelf) Model(string) (File, error) { return s.file, s.err }
func (s shelf) VAD() (File, error)         { return s.vad, s.err }

// ggml makes the file of a model whose header has the given numbers.
func ggml(t testing.TB, first uint32, audioState, textState, textLayers uint32) File {
	t.Helper()
	h := [12]uint32{first, 51865, 1500, audioState, 8, 6, 448, textState, 8, textLayers, 80, 1}
	path := filepath.Join(t.TempDir(), "model.bin")
	b, err := binary.Append(nil, binary.LittleEndian, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return File{Path: path, SHA256: sumOf(b), Size: 1_000_000}
}

func loader(f Files) *Loader {
	cfg := testConfig("", "", "")
	return &Loader{Files: f, Config: cfg, States: func(device string) int {
		if device == "cpu" {
			return 3
		}
		return 2
	}}
}

// The sizes are those whisper.cpp prints for its weightless test models, with the cache made seven times.
func TestStateBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		state, layers   int64
		self, cross     float64 // MB, as printed
		pad, conv       float64
		encode, crosses float64
		decode          float64
	}{
		{"tiny", 384, 4, 3.15, 9.44, 2.36, 13.21, 64.81, 3.89, 95.91},
		{"base", 512, 6, 6.29, 18.87, 3.15, 16.28, 85.88, 4.66, 96.37},
		{"small", 768, 12, 18.87, 56.62, 4.72, 22.42, 128.02, 6.20, 97.28},
		{"medium", 1024, 24, 50.33, 150.99, 6.29, 28.57, 170.17, 7.73, 98.20},
		{"large", 1280, 32, 83.89, 251.66, 7.86, 34.71, 212.31, 9.27, 99.12},
	} {
		want := fallbackDecoders*c.self + c.cross + c.pad + c.conv + c.encode + c.crosses + c.decode
		got := float64(shape{audioState: c.state, textState: c.state, textLayers: c.layers}.stateBytes()) / 1e6
		if got < 0.99*want || got > 1.01*want {
			t.Errorf("%s: %.1f MB, whisper.cpp takes %.1f MB", c.name, got, want)
		}
	}
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	l := loader(shelf{file: ggml(t, magic, 512, 512, 6)})
	cpu, err := l.Estimate(models.Spec{Model: "base", Device: "cpu"})
	if err != nil {
		t.Fatal(err)
	}
	state := shape{512, 512, 6}.stateBytes()
	if want := 1_000_000 + 3*state; cpu != want {
		t.Errorf("%d bytes, want %d", cpu, want)
	}
	gpu, err := l.Estimate(models.Spec{Model: "base", Device: "cuda:0"})
	if want := 1_000_000 + 2*state + contextBytes; err != nil || gpu != want {
		t.Errorf("%d bytes on a GPU, want %d, %v", gpu, want, err)
	}
}

// Where memory is short, a model gets fewer states, but never fewer than one more than cores.
func TestStatesFitTheMemory(t *testing.T) {
	t.Parallel()
	f := ggml(t, magic, 512, 512, 6)
	state := shape{512, 512, 6}.stateBytes()
	for _, c := range []struct {
		name  string
		bytes int64
		want  int64
	}{
		{"memory does not matter", 0, 9},
		{"room for all", 2 * (f.Size + 9*state), 9},
		{"room for some", 2 * (f.Size + 6*state), 6},
		{"room for none", 1, 3},
	} {
		l := loader(shelf{file: f, vad: f})
		l.States, l.Cores, l.Bytes = func(string) int { return 9 }, 2, c.bytes
		n, err := l.Estimate(models.Spec{Model: "ok", Device: "cpu"})
		if want := f.Size + c.want*state; err != nil || n != want {
			t.Errorf("%s: %d bytes, %v; want %d", c.name, n, err, want)
		}
	}
}

func TestLoader(t *testing.T) {
	t.Parallel()
	f := ggml(t, magic, 512, 512, 6)
	l := loader(shelf{file: f, vad: f})
	var _ models.Loader = l
	e, err := l.Load(t.Context(), models.Spec{Model: "ok", Device: "cpu", Words: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	want, err := l.Estimate(models.Spec{Model: "ok", Device: "cpu"})
	if i := e.Info(); err != nil || i.Bytes != want || i.States != 3 || i.Model != "ok" || i.SHA256 != f.SHA256 {
		t.Errorf("info %+v, estimate %d, %v", i, want, err)
	}
	if _, err := e.Transcribe(t.Context(), chunk("echo 1"), nil); err != nil {
		t.Error(err)
	}
}

func TestLoaderErrors(t *testing.T) {
	t.Parallel()
	good := ggml(t, magic, 512, 512, 6)
	changed := good
	changed.SHA256 = sumOf([]byte("another file"))
	pull := &job.Error{Class: job.Resource, Code: "MODEL_NOT_PULLED", Message: "run `steno models pull base`"}
	for _, c := range []struct {
		name  string
		files shelf
		model string
		code  string
		is    error
	}{
		{"the store's own", shelf{err: pull}, "ok", "MODEL_NOT_PULLED", nil},
		{"no file", shelf{file: File{Path: good.Path + ".gone"}}, "ok", "MODEL_FILE_BAD", os.ErrNotExist},
		{"foreign file", shelf{file: ggml(t, 0x46554747, 512, 512, 6)}, "ok", "MODEL_FILE_BAD", ErrBadFile},
		{"absurd header", shelf{file: ggml(t, magic, 1<<31, 512, 6)}, "ok", "MODEL_FILE_BAD", ErrBadFile},
		{"changed file", shelf{file: changed, vad: good}, "ok", "MODEL_FILE_BAD", ErrBadFile},
		{"changed VAD file", shelf{file: good, vad: changed}, "ok", "MODEL_FILE_BAD", ErrBadFile},
		{"out of memory", shelf{file: good, vad: good}, "oom", "INTERNAL", models.ErrOutOfMemory},
		{"crash", shelf{file: good, vad: good}, "abort", "INTERNAL", models.ErrEngineDied},
	} {
		e, err := loader(c.files).Load(t.Context(), models.Spec{Model: c.model, Device: "cpu"})
		if e != nil || job.AsError(err) == nil || job.AsError(err).Code != c.code || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// FuzzShape: the header of a file that nobody verified yet gives no crash and no absurd number.
func FuzzShape(f *testing.F) {
	f.Add([]byte("lmgg"))
	b, err := os.ReadFile(ggml(f, magic, 1280, 1280, 32).Path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, in []byte) {
		path := filepath.Join(dir, "m")
		if err := os.WriteFile(path, in, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := readShape(path); err == nil && (s.stateBytes() <= 0 || s.stateBytes() > 1<<50) {
			t.Errorf("%+v takes %d bytes", s, s.stateBytes())
		}
	})
}

// TestPin: an engine for a GPU sees that one alone, by its UUID; where that is not known it gets its number.
func TestPin(t *testing.T) {
	t.Parallel()
	l := &Loader{Backend: "/lib/cuda.so", UUID: func(device string) string {
		return map[string]string{"cuda:1": "GPU-one", "cuda:1.0": "MIG-zero"}[device]
	}}
	for _, c := range []struct {
		device, visible string
		card            int
	}{{"cuda:1", "GPU-one", 0}, {"cuda:1.0", "MIG-zero", 0}, {"cuda:3", "2,3", 3}} {
		cfg := Config{Env: []string{"A=b", "CUDA_VISIBLE_DEVICES=2,3"}, Load: LoadRequest{Device: c.device}}
		l.pin(&cfg)
		if want := []string{"A=b", "CUDA_VISIBLE_DEVICES=" + c.visible}; !slices.Equal(cfg.Env, want) {
			t.Errorf("%s: environment %q, want %q", c.device, cfg.Env, want)
		}
		if cfg.Load.Card != c.card || cfg.Load.Backend != l.Backend {
			t.Errorf("%s: card %d of %s, want %d", c.device, cfg.Load.Card, cfg.Load.Backend, c.card)
		}
	}
}
