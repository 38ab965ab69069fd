//go:build cgo

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"steno/bench"
	"steno/internal/testmedia"
)

// invoke runs the program in this process and returns its exit code and what it wrote.
func invoke(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	env := append(os.Environ(), "STENO_MODELS="+filepath.Dir(testmedia.Model(t, "tiny.en-q8_0")))
	code = run(t.Context(), args, streams{strings.NewReader(""), &out, &err}, env)
	return code, out.String(), err.String()
}

// TestBenchRun measures the real program on real speech, with no peer there.
func TestBenchRun(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := invoke(t, "bench", "run", "--scenario", "short", "-m", "tiny.en", "--rounds", "1", "--seed", "3", "--quiet", "1",
		"--binary", binary.path(t), "--short", testmedia.Sample(t, "jfk.wav"), "--peers", dir, "--ct2", dir, "--out", dir)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{
		"seed 3", "absent: whisper-cli is not built", "absent: its Python package is not installed",
		"| tiny.en | jfk.wav (11.0 s) | steno | 1 |", "whisper.cpp is built in",
	} {
		if !strings.Contains(stdout+stderr, want) {
			t.Errorf("the output lacks %q:\n%s", want, stdout)
		}
	}
	f, err := os.Open(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	report, err := bench.ReadSuiteReport(f)
	if err != nil {
		t.Fatal(err)
	}
	ours := report.Cases[0].Entries[0]
	if ours.WarmUp == nil || ours.WarmUp.Words.Total() != 0 || len(ours.Runs) != 1 {
		t.Fatalf("steno on jfk.wav: %+v", ours)
	}
	// The engine holds the weights and is a grandchild of the runner.
	if r := ours.Runs[0]; r.RSS < 43<<20 || r.CPU <= 0 || r.Stages["transcribe"] <= 0 || r.Stages["transcribe"] > r.Wall {
		t.Errorf("peak memory %d MiB, CPU %.2f s, stages %v in %.2f s", r.RSS>>20, r.CPU, r.Stages, r.Wall)
	}
	for _, name := range []string{"report.md", "report.html"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(text, []byte("jfk.wav")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBenchProfile profiles a real run of the real binary, which has the names that go test leaves out, and wants to see a C function
// that no engine can do without.
func TestBenchProfile(t *testing.T) {
	dir := t.TempDir()
	profile := func(file string) (string, error) {
		cmd := exec.CommandContext(t.Context(), binary.path(t), "bench", "profile", "-m", "tiny.en", "-l", "en", "--out", dir, file)
		cmd.Env = append(os.Environ(), "STENO_MODELS="+filepath.Dir(testmedia.Model(t, "tiny.en-q8_0")))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := profile(testmedia.Sample(t, "jfk.wav"))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"11.0 s of audio in ", "encode ", " tokens.", "## CPU", "## Allocations", "## Blocking", "## Mutexes",
		"| steno/models/whisper.(*state).decode",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if !regexp.MustCompile(`\| (matrix|columns|accel|gemm|ggml)\w*(\.c)? \|`).MatchString(out) {
		t.Error("C has no names")
	}
	if strings.Contains(out, testmedia.JFK) {
		t.Error("the transcript is among the profiles")
	}
	if t.Failed() {
		t.Log(out)
	}
	for _, name := range []string{"cpu", "allocs", "block", "mutex"} {
		if st, err := os.Stat(filepath.Join(dir, name+".pprof")); err != nil || st.Size() == 0 {
			t.Errorf("profile %s: %v", name, err)
		}
	}
	if out, err := profile(filepath.Join(dir, "absent.wav")); err == nil || !strings.Contains(out, "absent.wav") {
		t.Errorf("a file that is not there: %v, %s", err, out)
	}
}

func TestBenchUsage(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"run --scenario none", "there is no scenario \"none\""},
		{"run --rounds 0", "--rounds must be at least 1"},
		{"compare", "name two reports, or two binaries"},
		{"compare a b --old c --new d", "name two reports, or two binaries"},
		{"check --results a_stats.csv", "--thresholds FILE"},
	} {
		if code, _, stderr := invoke(t, append([]string{"bench"}, strings.Fields(tt.args)...)...); code != 2 || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d, %q; want 2 and %q", tt.args, code, stderr, tt.want)
		}
	}
	if code, stdout, _ := invoke(t, "bench", "run", "--list"); code != 0 || !strings.Contains(stdout, "formats") {
		t.Errorf("list of scenarios: exit code %d, %q", code, stdout)
	}
}

// standIn is a program that takes the flags of steno transcribe, works for so long, and prints a transcript.
func standIn(t *testing.T, path, work string) string {
	t.Helper()
	text := "#!/bin/sh\n" + work + "\necho '{\"text\":\"" + testmedia.JFK + "\"}'\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBenchCompareBinaries(t *testing.T) {
	dir := t.TempDir()
	fast := standIn(t, filepath.Join(dir, "fast"), "sleep 0.02")
	slow := standIn(t, filepath.Join(dir, "slow"), "sleep 0.2")
	failing := standIn(t, filepath.Join(dir, "failing"), "echo no engine >&2; exit 1")
	for _, tt := range []struct {
		name, before, after string
		code                int
		want                string
	}{
		{"slower", fast, slow, 1, "| wall, s | 0."},
		{"faster", slow, fast, 0, "| better |"},
		{"does not run", fast, failing, 1, "no engine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := invoke(t, "bench", "compare", "--old", tt.before, "--new", tt.after, "-m", "tiny.en", "--rounds", "6",
				"--quiet", "1", "--short", testmedia.Sample(t, "jfk.wav"))
			if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s\n%s", code, tt.code, tt.want, stdout, stderr)
			}
		})
	}
}

func TestBenchCompareReports(t *testing.T) {
	dir := t.TempDir()
	report := func(name string, factor float64) string {
		e := bench.Entry{Contender: bench.Contender{Name: "steno"}, WarmUp: &bench.Run{}}
		for i := range 8 {
			e.Runs = append(e.Runs, bench.Run{Round: i + 1, Cost: bench.Cost{Wall: factor + float64(i)/100, CPU: 1, Own: 1 << 20}})
		}
		r := bench.SuiteReport{Cases: []bench.Case{{Scenario: "short", Model: "base", Entries: []bench.Entry{e}}}}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	before, after := report("a.json", 1), report("b.json", 1.5)
	if code, stdout, _ := invoke(t, "bench", "compare", before, after); code != 1 || !strings.Contains(stdout, "REGRESSION") {
		t.Errorf("slower: exit code %d\n%s", code, stdout)
	}
	if code, stdout, _ := invoke(t, "bench", "compare", before, before); code != 0 || strings.Contains(stdout, "REGRESSION") {
		t.Errorf("the same: exit code %d\n%s", code, stdout)
	}
	if code, _, stderr := invoke(t, "bench", "compare", before, filepath.Join(dir, "none")); code != 1 || !strings.Contains(stderr, "read suite report") {
		t.Errorf("a file that is not there: exit code %d, %q", code, stderr)
	}
}

func TestBenchCheck(t *testing.T) {
	results := filepath.Join("..", "..", "bench", "testdata", "locust", "run_stats.csv")
	for _, tt := range []struct {
		name, yaml string
		code       int
		want       string
	}{
		{"holds", "thresholds: [{request: Aggregated, p95: 200, failure_rate: 0.01}]", 0, "All 1 thresholds hold."},
		{"breach", "thresholds: [{request: Aggregated, p95: 100}]", 1, "BREACH: Aggregated: p95 is 190 ms, more than 100 ms"},
		{"no thresholds", "thresholds: []", 1, "there is none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			limits := filepath.Join(t.TempDir(), "thresholds.yaml")
			if err := os.WriteFile(limits, []byte(tt.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := invoke(t, "bench", "check", "--results", results, "--thresholds", limits, "--test-id", "night")
			if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s\n%s", code, tt.code, tt.want, stdout, stderr)
			}
		})
	}
}
