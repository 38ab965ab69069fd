package failpoint

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build makes the example program.
func build(t *testing.T, tags string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "visit")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-o", path, "./testdata/visit").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func TestNormalBuildsHaveNoTrace(t *testing.T) {
	t.Parallel()
	with, without := build(t, "failpoints"), build(t, "")
	for _, c := range []struct {
		path string
		want bool
	}{{with, true}, {without, false}} {
		symbols, err := exec.CommandContext(t.Context(), "go", "tool", "nm", c.path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(symbols, []byte("internal/failpoint.Hit")); got != c.want {
			t.Errorf("symbol in %s: %v, want %v", c.path, got, c.want)
		}
		program, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, trace := range []string{"STENO_FAILPOINTS", CreateCommitted} {
			if got := bytes.Contains(program, []byte(trace)); got != c.want {
				t.Errorf("%q in %s: %v, want %v", trace, c.path, got, c.want)
			}
		}
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	path := build(t, "failpoints")
	for _, c := range []struct {
		points string
		visits string // those that were survived
		killed bool
	}{
		{"", "1\n2\n3\n4\n", false},
		{"create-committed=kill", "", true},
		{"create-committed=kill@3", "1\n2\n", true},
		{"create-committed=kill@5", "1\n2\n3\n4\n", false},
		{"submit-after=kill", "1\n2\n3\n4\n", false},
		{"create-committed=delay@30ms", "1\n2\n3\n4\n", false},
		{"submit-after=kill,create-committed=kill@2", "1\n", true},
	} {
		cmd := exec.CommandContext(t.Context(), path)
		cmd.Env = append(os.Environ(), "STENO_FAILPOINTS="+c.points)
		began := time.Now()
		out, err := cmd.Output()
		if took := time.Since(began); strings.Contains(c.points, "delay") && took < 4*30*time.Millisecond {
			t.Errorf("%q: four visits took %v", c.points, took)
		}
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if killed != c.killed || string(out) != c.visits {
			t.Errorf("%q: %q, killed %v (%v), want %q, %v", c.points, out, killed, err, c.visits, c.killed)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	path := build(t, "failpoints")
	for _, points := range []string{"nowhere=kill", "submit-after", "submit-after=wait", "submit-after=kill@0", "submit-after=kill@x", "submit-after=delay", "submit-after=delay@-1s"} {
		cmd := exec.CommandContext(t.Context(), path)
		cmd.Env = append(os.Environ(), "STENO_FAILPOINTS="+points)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "STENO_FAILPOINTS") {
			t.Errorf("%q: %v: %s", points, err, out)
		}
	}
}
