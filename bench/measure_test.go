package bench_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"steno/bench"
)

func shell(script string) bench.Command {
	return bench.Command{Path: "/bin/sh", Args: []string{"-c", script}}
}

func TestMeasure(t *testing.T) {
	t.Parallel()
	// The child of the child holds 64 MiB for a while and works for 0.2 s of CPU time, when the first line is long out.
	const work = `echo first; sh -c '
		head -c 67108864 /dev/zero | tail -c 67108864 | (sleep 0.2; cat >/dev/null)
		while [ $(cut -d" " -f14 /proc/$$/stat) -lt 20 ]; do i=0; while [ $i -lt 10000 ]; do i=$((i + 1)); done; done'; echo last`
	cost, out, err := bench.Measure(t.Context(), shell(work))
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != "first\nlast\n" {
		t.Errorf("output %q", out)
	}
	if cost.CPU < 0.2 {
		t.Errorf("CPU time %.2f s, want the 0.2 s of the grandchild", cost.CPU)
	}
	if cost.RSS < 64<<20 || cost.RSS > 256<<20 {
		t.Errorf("peak memory %d MiB, want 64 and a little", cost.RSS>>20)
	}
	if cost.Own < 64<<20 || cost.Own > cost.RSS {
		t.Errorf("%d MiB of its own of %d", cost.Own>>20, cost.RSS>>20)
	}
	if cost.First <= 0 || cost.First > cost.Wall-0.2 {
		t.Errorf("first line after %.3f of %.3f s", cost.First, cost.Wall)
	}
	if cost.Others < 0 || cost.Others > 1.05 {
		t.Errorf("others used %.2f of the machine", cost.Others)
	}
}

func TestMeasureErrors(t *testing.T) {
	t.Parallel()
	_, _, err := bench.Measure(t.Context(), shell("echo no model >&2; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "no model") {
		t.Errorf("error of a command that fails: %v", err)
	}
	if _, _, err := bench.Measure(t.Context(), bench.Command{Path: "/nonexistent/tool"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error for a program that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(t.TempDir(), "fifo")
	run(t, "mkfifo", fifo)
	go func() {
		_, _ = os.ReadFile(fifo) // until the child has opened it, so that it runs
		cancel()
	}()
	_, _, err = bench.Measure(ctx, shell(": >"+fifo+"; sleep 60"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error after a cancel: %v", err)
	}
}

func TestAskServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := filepath.Join(dir, "whisper-server")
	program(t, server, `[ "$2" = m.bin ] || { echo "no model $2" >&2; exit 3; }; exec `+os.Args[0]+` "$@"`)
	for _, name := range []string{"a.wav", "b.wav", "bad.wav"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("RIFF"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, model, file, want, fails string }{
		{"two files", "m.bin", "b.wav", `"text":"b.wav in de"`, ""},
		{"a file it cannot read", "m.bin", "bad.wav", "", "failed to read audio"},
		{"no model", "none.bin", "b.wav", "", "no model none.bin"},
		{"no file", "m.bin", "absent.wav", "", "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := bench.AskServer(t.Context(), bench.ServerTask{
				Server: server, Weights: tt.model, Language: "de", Threads: 1,
				Files: []string{filepath.Join(dir, "a.wav"), filepath.Join(dir, tt.file)},
			}, &out)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("error %v, want one with %q", err, tt.fails)
				}
				return
			}
			if err != nil || !strings.Contains(out.String(), tt.want) || strings.Count(out.String(), "\n") != 2 {
				t.Errorf("%v, wrote %q", err, out.String())
			}
		})
	}
}
