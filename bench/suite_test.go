package bench_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"steno/bench"
)

// stenoProgram stands in for steno: the text names the weights, and every call leaves a line in calls.
const stenoProgram = `echo "steno $*" >>"$CALLS"
case $1 in
--version) echo "steno version 1.2.3"; exit ;;
doctor) echo '[{"check":"engine","text":"kernels: none"}]'; exit 1 ;;
esac
case $* in *--live*) echo '{"file":"x","segment":{"start":0,"end":1,"text":"not counted"}}' ;; esac
for a; do case $a in *.wav) echo '{"file":"x","text":"hello '"$3"' world","timings":{"model_load":0.25,"transcribe":0.5}}' ;; esac; done`

// cliProgram stands in for whisper-cli.
const cliProgram = `echo "whisper-cli $*" >>"$CALLS"
while [ $# -gt 0 ]; do case $1 in -of) out=$2 ;; -f) echo "[0] hello"
	printf '{"result":{"language":"en"},"transcription":[{"offsets":{"from":0,"to":10},"text":" hello there world"}]}' >"$out.json" ;;
esac; shift; done`

// pythonProgram stands in for the environment of peers.
const pythonProgram = `echo "python" >>"$CALLS"
case $* in
--version) echo Python 3.x ;;
*--batch\ 8*) echo "Traceback:" >&2; echo "ValueError: no model" >&2; exit 1 ;;
*) echo '{"segment": "hello"}'; echo '{"text": "hello world", "load": 0.1, "run": 0.2}' ;;
esac`

// kit lays out programs and weights that are scripts, and returns the file to which they write their calls.
func kit(t *testing.T) (bench.Kit, string) {
	t.Helper()
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	k := bench.Kit{
		Steno: filepath.Join(dir, "steno"), Self: filepath.Join(dir, "steno"), Models: filepath.Join(dir, "models"),
		CT2: filepath.Join(dir, "ct2"), Peers: filepath.Join(dir, "peers"), Threads: 2,
		Env: append(os.Environ(), "CALLS="+calls),
	}
	program(t, k.Steno, stenoProgram)
	program(t, filepath.Join(k.Peers, "bin", "whisper-cli"), cliProgram)
	program(t, filepath.Join(k.Peers, "python", "bin", "python"), pythonProgram)
	for _, path := range []string{
		filepath.Join(k.Models, "ggml-base-q8_0.bin"), filepath.Join(k.CT2, "base", "model.bin"),
		filepath.Join(k.Peers, "python", "lib", "python3.11", "site-packages", "faster_whisper", "x.py"),
		filepath.Join(k.Peers, "python", "lib", "python3.11", "site-packages", "faster_whisper-1.2.1.dist-info", "METADATA"),
		filepath.Join(k.Peers, "bin", "version"),
	} {
		program(t, path, filepath.Base(path))
	}
	return k, calls
}

// recording makes a second of sound with its words beside it.
func recording(t *testing.T) bench.Media {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tone.wav")
	run(t, "ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "sine=d=1:r=44100", path)
	if err := os.WriteFile(strings.TrimSuffix(path, ".wav")+".txt", []byte("Hello, world."), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := bench.OpenMedia(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func scenarios(t *testing.T, names ...string) []bench.Scenario {
	t.Helper()
	all := slices.DeleteFunc(bench.Scenarios(), func(s bench.Scenario) bool { return !slices.Contains(names, s.Name) })
	if len(all) != len(names) {
		t.Fatalf("no scenarios %q", names)
	}
	return all
}

// TestScaling looks at how contenders are given less of the machine, and more files.
func TestScaling(t *testing.T) {
	t.Parallel()
	k, calls := kit(t)
	report, err := bench.RunSuite(t.Context(), bench.SuiteOptions{
		Kit: k, Scenarios: scenarios(t, "cores", "files", "length"), Models: []string{"base"}, Rounds: 1, Seed: 7, Language: "en", Quiet: 2,
		Long: []bench.Media{recording(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]bench.Entry{}
	for _, c := range report.Cases {
		for _, e := range c.Entries {
			byName[c.Scenario+": "+e.Name] = e
		}
	}
	one, four := byName["cores: steno, cores: 1"], byName["cores: steno, cores: 4"]
	if len(one.Runs) != 1 || !slices.Equal(one.Command[:4], []string{"taskset", "-c", "0-0", "steno"}) {
		t.Errorf("on one core: %d runs of %q; %s", len(one.Runs), one.Command, one.Failure)
	}
	if four.Absent != "this machine has fewer cores than 4" {
		t.Errorf("four cores of two: absent %q", four.Absent)
	}
	if e := byName["files: steno, files at once: 16"]; len(e.Runs) != 1 || len(e.WarmUp.Texts) != 16 || e.Quiet.Warm.N != 1 {
		t.Errorf("16 files: %+v; %s", e.Quiet, e.Failure)
	}
	if e := byName["length: steno"]; len(e.Runs) != 1 {
		t.Errorf("one file: %s", e.Failure)
	}
	if text, err := os.ReadFile(calls); err != nil || !strings.Contains(string(text), "--jobs 16") {
		t.Errorf("calls: %v\n%s", err, text)
	}
}

func TestRunSuite(t *testing.T) {
	t.Parallel()
	k, calls := kit(t)
	var done []string
	report, err := bench.RunSuite(t.Context(), bench.SuiteOptions{
		Kit: k, Scenarios: scenarios(t, "short"), Models: []string{"base"}, Rounds: 6, Seed: 7, Language: "en", Quiet: 2, Short: recording(t),
		Done: func(_ bench.Case, contender string, r bench.Run) {
			if r.Round > 0 {
				done = append(done, contender)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	entries := report.Cases[0].Entries
	for i, want := range []struct{ name, text, absent, failure string }{
		{"steno", "hello base-q8_0 world", "", ""},
		{"whisper-cli f16", "", "no f16 weights of base in the folder of models", ""},
		{"whisper-cli q8_0", "hello there world", "", ""},
		{"faster-whisper int8", "hello world", "", ""},
		{"faster-whisper int8, batched", "", "", "ValueError: no model"},
	} {
		e := entries[i]
		if e.Name != want.name || e.Absent != want.absent || !strings.Contains(e.Failure, want.failure) {
			t.Errorf("entry %d is %s, absent: %q, failure: %q; want %+v", i, e.Name, e.Absent, e.Failure, want)
		}
		if want.text == "" {
			continue
		}
		if len(e.Runs) != 6 || e.Quiet.Wall.N != 6 || e.WarmUp.Texts[0] != want.text {
			t.Errorf("%s: %d runs, summary of %d, text %q", e.Name, len(e.Runs), e.Quiet.Wall.N, e.WarmUp.Texts)
		}
	}
	ours, cli, python := entries[0], entries[2], entries[3]
	if *ours.WarmUp.Words != (bench.Errors{Ins: 4, Words: 2}) || *python.WarmUp.Words != (bench.Errors{Words: 2}) {
		t.Errorf("errors: %v of steno, %v of faster-whisper", ours.WarmUp.Words, python.WarmUp.Words)
	}
	if *cli.WarmUp.Chars != (bench.Errors{Ins: 5, Words: 10}) {
		t.Errorf("errors of whisper-cli in characters: %v", cli.WarmUp.Chars)
	}
	if ours.Quiet.Ratio.N != 0 || cli.Quiet.Ratio.N != 6 || cli.Quiet.First.N != 6 || ours.Quiet.First.N != 6 {
		t.Errorf("ratio %v, first result %v of whisper-cli; first result %v of steno", cli.Quiet.Ratio, cli.Quiet.First, ours.Quiet.First)
	}
	if got := ours.Quiet.Stages["load"].Median; got != 0.25 {
		t.Errorf("loading took %v s, want 0.25", got)
	}
	if slices.Equal(done[:3], done[3:6]) && slices.Equal(done[3:6], done[6:9]) && slices.Equal(done[6:9], done[9:12]) {
		t.Errorf("the order is the same in every round: %q", done)
	}
	if m := report.Machine.Programs; m["steno"] != "steno version 1.2.3" || m["steno's engine"] != "kernels: none" ||
		m["faster_whisper"] != "1.2.1" {
		t.Errorf("programs: %q", m)
	}
	if n := len(report.Machine.Weights); n != 2 {
		t.Errorf("%d files of weights, want those of the contenders that ran", n)
	}
	log, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "steno transcribe -m base-q8_0 -l en"); n != 7 {
		t.Errorf("steno was called %d times, want a warm-up and 6 rounds", n)
	}
}

func TestRunSuiteWarm(t *testing.T) {
	t.Parallel()
	k, _ := kit(t)
	report, err := bench.RunSuite(t.Context(), bench.SuiteOptions{
		Kit: k, Scenarios: scenarios(t, "warm"), Models: []string{"base"}, Rounds: 1, Seed: 7, Language: "en", Quiet: 2, Short: recording(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	one, five := report.Cases[0].Entries[0], report.Cases[0].Entries[1]
	if len(five.WarmUp.Texts) != 5 || one.Quiet.Warm.N != 0 {
		t.Fatalf("%d texts of five copies, warm time %v of one", len(five.WarmUp.Texts), one.Quiet.Warm)
	}
	if got, want := five.Quiet.Warm.Median, (five.Runs[0].Wall-one.Runs[0].Wall)/4; got != want {
		t.Errorf("a file takes %v s warm, want %v", got, want)
	}
}

// An interrupt gives what was measured until then.
func TestRunSuiteStops(t *testing.T) {
	t.Parallel()
	k, _ := kit(t)
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	report, err := bench.RunSuite(ctx, bench.SuiteOptions{
		Kit: k, Scenarios: scenarios(t, "short"), Models: []string{"base"}, Rounds: 50, Seed: 7, Language: "en", Quiet: 2, Short: recording(t),
		Done: func(_ bench.Case, _ string, r bench.Run) {
			if r.Round == 2 {
				cancel(stop)
			}
		},
	})
	if !errors.Is(err, stop) || len(report.Cases) != 1 || len(report.Cases[0].Entries[0].Runs) == 0 {
		t.Errorf("%v with %d cases; want the cause and what was measured", err, len(report.Cases))
	}
}

// Every scenario gives its contenders names of their own, or pairs of a round would be mixed up.
func TestScenarios(t *testing.T) {
	t.Parallel()
	k, _ := kit(t)
	m := recording(t)
	report, err := bench.RunSuite(t.Context(), bench.SuiteOptions{
		Kit: k, Scenarios: bench.Scenarios(), Models: []string{"none"}, Rounds: 1, Language: "en", Short: m, Long: []bench.Media{m},
		Many: []bench.Media{m, m},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Cases) != len(bench.Scenarios()) {
		t.Errorf("%d cases of %d scenarios", len(report.Cases), len(bench.Scenarios()))
	}
	for _, c := range report.Cases {
		names := map[string]bool{}
		for _, e := range c.Entries {
			if names[e.Name] {
				t.Errorf("scenario %s has two contenders %q", c.Scenario, e.Name)
			}
			names[e.Name] = true
			if e.Absent == "" {
				t.Errorf("scenario %s, %s: nothing is said of its missing weights", c.Scenario, e.Name)
			}
			if e.Single != "" && !names[e.Single] {
				t.Errorf("scenario %s, %s: there is no %q before it", c.Scenario, e.Name, e.Single)
			}
		}
	}
}

// sample is a report with times that were set, of two rounds that others disturbed and six that they did not.
func sample(old, later []float64) bench.SuiteReport {
	r := bench.SuiteReport{ID: "01M8", Rounds: len(old), Seed: 7, Language: "en", Quiet: 0.1, Machine: bench.Machine{
		CPU: "Xeon <4>", Cores: 2, Memory: 8 << 30, Kernel: "6.1", OS: "Debian", Programs: map[string]string{"steno": "1.0"},
		Weights: []bench.Weights{{Name: "ggml-base.bin", Bytes: 100, SHA256: "abc"}},
	}}
	c := bench.Case{
		Scenario: "short", Asks: "How long?", Model: "base", Input: "a.wav", Audio: 10, Files: []bench.Media{{Name: "a.wav", SHA256: "1", Duration: 10}},
	}
	for i, walls := range [][]float64{old, later} {
		e := bench.Entry{
			Contender: bench.Contender{Name: []string{bench.OldName, bench.NewName}[i], Model: "base"},
			WarmUp:    &bench.Run{Words: &bench.Errors{Subs: 1, Words: 50}, Chars: &bench.Errors{Subs: 2, Words: 200}},
		}
		for j, wall := range walls {
			e.Runs = append(e.Runs, bench.Run{
				Round: j + 1, Cost: bench.Cost{Wall: wall, CPU: 2 * wall, RSS: 300 << 20, Own: 200 << 20, Others: 0.01}, Stages: map[string]float64{"load": 0.5, "run": 1},
			})
		}
		c.Entries = append(c.Entries, e)
	}
	c.Entries = append(c.Entries, bench.Entry{Contender: bench.Contender{Name: "openai-whisper", Model: "base", Absent: "no torch"}})
	r.Cases = append(r.Cases, c)
	return r
}

func disturb(r *bench.SuiteReport, entry, run int, wall float64) {
	x := &r.Cases[0].Entries[entry].Runs[run]
	x.Wall, x.Others, x.Disturbed = wall, 0.6, true
}

func TestSuiteReport(t *testing.T) {
	t.Parallel()
	r := sample([]float64{1, 1.01, 0.99, 1, 1.02, 0.98, 1}, []float64{0.5, 0.5, 0.51, 0.49, 0.5, 0.5, 0.5})
	disturb(&r, 1, 6, 3)
	r.SumUp()
	var markdown, page, asJSON bytes.Buffer
	if err := errors.Join(r.WriteMarkdown(&markdown), r.WriteHTML(&page), r.WriteJSON(&asJSON)); err != nil {
		t.Fatal(err)
	}
	sameAsFile(t, "suite.md", markdown.String())
	for _, text := range []string{"Xeon &lt;4&gt;", "<td>0.50 [0.49, 0.51]</td>", "openai-whisper: absent: no torch", "wall time"} {
		if !strings.Contains(page.String(), text) {
			t.Errorf("the page does not show %q", text)
		}
	}
	for _, fetched := range []string{"<script", "<link", " src=", "url(", "@import"} {
		if strings.Contains(page.String(), fetched) {
			t.Errorf("the page has %q: it may need more than itself", fetched)
		}
	}
	back, err := bench.ReadSuiteReport(&asJSON)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := back.Cases[0].Entries[1].Quiet.Wall, r.Cases[0].Entries[1].Quiet.Wall; got != want {
		t.Errorf("JSON reads back as %v, want %v", got, want)
	}
}
