package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"steno/models"
)

// A file may make the library take memory without end, be it while it loads: whisper.cpp took 18 GiB in 30 s for a word whose
// length was changed to 2 GiB.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	bounded := func(model string) Config {
		cfg := config(t, model)
		cfg.Limits.Memory = 300 << 20
		return cfg
	}
	_, err := Start(t.Context(), bounded("grow"))
	wantBounded(t, "while it loads", err)
	p := start(t, bounded("ok"))
	_, err = p.Transcribe(t.Context(), chunk("grow 400"), nil)
	wantBounded(t, "in a request", err)

	free := bounded("ok")
	free.Limits.Memory = -1
	if _, err := start(t, free).Transcribe(t.Context(), chunk("leak 400"), nil); err != nil {
		t.Errorf("without a bound: %v", err)
	}
}

func wantBounded(t *testing.T, when string, err error) {
	t.Helper()
	if !errors.Is(err, models.ErrOutOfMemory) || !errors.Is(err, models.ErrEngineDied) ||
		!strings.Contains(err.Error(), "300 MiB were allowed") {
		t.Errorf("%s: %v", when, err)
	}
}

func TestMostMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		device       string
		bytes, limit int64
		want         int64
	}{
		{"cpu", 2 << 30, 0, 5 << 30},
		{"", 2 << 30, 0, 5 << 30},
		{"cpu", 2 << 30, 1 << 20, 1 << 20},
		{"cpu", 2 << 30, -1, 0},
		{"cpu", 0, 0, 0},
		{"cuda:0", 2 << 30, 1 << 20, 0},
	} {
		cfg := Config{Load: LoadRequest{Device: c.device}, Bytes: c.bytes, Limits: Limits{Memory: c.limit}}
		if got := cfg.mostMemory(); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// The kernel needs seconds to take a large process's memory back, and only then is its end seen.
func TestKilledForMemorySecondsAgo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "memory.events")
	kills := func(n int) {
		t.Helper()
		if err := os.WriteFile(path, fmt.Appendf(nil, "max 0\noom 9\noom_kill %d\n", n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kills(4)
	c := &oomCounter{path: path, last: 4, ago: oomLooks}
	if c.rose() {
		t.Error("kills before the start count")
	}
	kills(5)
	if !c.rose() {
		t.Error("a kill just now is not seen")
	}
	for range 5 {
		c.look()
	}
	if !c.rose() {
		t.Error("a kill five looks ago is forgotten")
	}
	for range oomLooks {
		c.look()
	}
	if c.rose() {
		t.Error("a kill long ago counts")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if c.look(); c.rose() {
		t.Error("a counter that is gone rose")
	}
	kills(6)
	if c.rose() {
		t.Error("a counter that is back rose")
	}
}
