//go:build cgo

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"steno/internal/testmedia"
)

// TestMain also plays `steno` for the scripts: the whole program, with the race detector in it.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"steno": main})
}

// leakChecked fails a run that leaves goroutines behind, and removes the built binary.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	for _, p := range []*program{&binary, &breakable} {
		if dir, err := p.dir(); err == nil {
			_ = os.RemoveAll(dir)
		}
	}
	if code != 0 {
		return code
	}
	if err := goleak.Find(goleak.IgnoreAnyFunction("steno/internal/proc.spawn")); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines left behind:", err)
		return 1
	}
	return 0
}

// program is the real binary, built when the first test needs it. Safe for concurrent use.
type program struct {
	tags string
	once sync.Once
	at   string
	err  error
}

// The program as users have it, and the one that can be broken: with failpoints, a scripted engine, and GPUs that are not there.
var binary, breakable = program{}, program{tags: "failpoints"}

func (p *program) dir() (string, error) {
	if p.at == "" {
		return "", errors.New("not built")
	}
	return filepath.Dir(p.at), nil
}

// path builds the program without the race detector: what users run, at the speed at which they run it.
func (p *program) path(t testing.TB) string {
	t.Helper()
	p.once.Do(func() {
		dir, err := os.MkdirTemp("", "steno-binary-")
		if err != nil {
			p.err = err
			return
		}
		p.at = filepath.Join(dir, "steno")
		if out, err := exec.Command("go", "build", "-tags", p.tags, "-o", p.at, ".").CombinedOutput(); err != nil {
			p.err = fmt.Errorf("build steno: %w: %s", err, out)
		}
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.at
}

// TestScripts runs the command line as users type it. Real models, samples and broken files lie in $MODELS, $SAMPLES, $BAD.
func TestScripts(t *testing.T) {
	bad := t.TempDir()
	for _, f := range badFiles(t, bad) {
		t.Logf("bad file %s", f.name)
	}
	models := filepath.Dir(testmedia.Model(t, "base-q8_0"))
	testmedia.Model(t, "tiny.en-q8_0")
	samples := filepath.Dir(testmedia.Sample(t, "jfk.wav"))
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("MODELS", models)
			e.Setenv("SAMPLES", samples)
			e.Setenv("BAD", bad)
			e.Setenv("JFK", testmedia.JFK)
			e.Setenv("STENO_MODELS", models)
			e.Setenv("STENO_LISTEN", "127.0.0.1:0") // whatever else runs on this machine
			e.Setenv("STENO_DATA", filepath.Join(e.WorkDir, "data"))
			e.Setenv("HOME", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "lines": lines, "magic": magic,
		},
		RequireUniqueNames: true,
	})
}

// exits CODE COMMAND… runs a command and checks its exit code; `stdout` and `stderr` look at what it wrote.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// lines N FILE checks how many lines a file, stdout or stderr has.
func lines(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := strings.Count(ts.ReadFile(args[1]), "\n"); got != want {
		ts.Fatalf("%s has %d lines, want %d:\n%s", args[1], got, want, ts.ReadFile(args[1]))
	}
}

// magic TEXT FILE checks how a file begins.
func magic(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Open(ts.MkAbs(args[1]))
	ts.Check(err)
	defer f.Close()
	head := make([]byte, len(args[0]))
	_, err = io.ReadFull(f, head)
	ts.Check(err)
	if string(head) != args[0] {
		ts.Fatalf("%s begins with %q, want %q", args[1], head, args[0])
	}
}
