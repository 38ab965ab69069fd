//go:build acceptance

package acceptance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"steno/internal/testmedia"
)

// TestMemoryDoesNotGrowWithTheFile transcribes 10 minutes and 3 hours of the same speech and compares the peak memory of worker
// plus engine.
func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	const most = 1.10
	short := reading(t)
	long, err := testmedia.Repeat(t.Context(), t.TempDir(), short, 3*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, model := range []string{"base", "tiny.en"} {
		t.Run(model, func(t *testing.T) {
			a, b := peak(t, model, short), peak(t, model, long)
			t.Logf("10 min: worker %.1f + engine %.1f MiB; 3 h: worker %.1f + engine %.1f MiB; ratio %.3f",
				a.worker, a.engine, b.worker, b.engine, b.sum()/a.sum())
			if got := b.sum() / a.sum(); got > most {
				t.Errorf("3 hours take %.2f times the memory of 10 minutes, want at most %.2f", got, most)
			}
		})
	}
}

// memory is the highest resident size of each process, in MiB.
type memory struct{ worker, engine float64 }

func (m memory) sum() float64 { return m.worker + m.engine }

// peak transcribes the file and reads VmHWM of the process and of its engine child every 50 ms: the kernel keeps the peak, so
// only growth in the last 50 ms can be missed.
func peak(t *testing.T, model, path string) memory {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built(t, "bin", "steno"), "transcribe", "-m", model, "-l", "en", path)
	cmd.Env = append(os.Environ(), "STENO_MODELS="+built(t, ".build", "models"))
	var text, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var m memory
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("transcribe: %v: %s", err, stderr.String())
			}
			if m.worker == 0 || m.engine == 0 {
				t.Fatalf("saw %.1f MiB of the worker and %.1f of the engine: neither can be none", m.worker, m.engine)
			}
			t.Logf("%s: %.1f s, %d words, worker %.1f MiB, engine %.1f MiB", filepath.Base(path), time.Since(start).Seconds(),
				len(strings.Fields(text.String())), m.worker, m.engine)
			return m
		case <-tick.C:
			m.worker = max(m.worker, highWater(t, cmd.Process.Pid))
			m.engine = max(m.engine, engineHighWater(t, cmd.Process.Pid))
		}
	}
}

// engineHighWater is that of the child whose command line is `steno engine`; 0 where there is none yet.
func engineHighWater(t *testing.T, parent int) float64 {
	t.Helper()
	most := 0.0
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		b, _ := os.ReadFile(list) // a thread may have ended
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if args := strings.Split(string(line), "\x00"); len(args) > 1 && args[1] == "engine" {
				most = max(most, highWater(t, pid))
			}
		}
	}
	return most
}

func highWater(t *testing.T, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.Contains(string(b), "VmHWM") {
		return 0 // it has ended
	}
	if err != nil {
		return 0 // it ends while we read
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}
