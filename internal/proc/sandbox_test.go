package proc

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSandboxModes starts a wrapper, which the kernel does not let a confined process be: it wants a shell.
func TestSandboxModes(t *testing.T) {
	t.Parallel()
	if !filesAreConfined() {
		t.Log("this kernel does not confine files: every mode but required starts everything")
	}
	wrapper := filepath.Join(t.TempDir(), "wrapper")
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\necho said\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode    Mode
		program string
		fails   bool
		warns   bool
	}{
		{Auto, wrapper, false, filesAreConfined()},
		{Auto, "/bin/echo", false, false},
		{Required, wrapper, true, false},
		{Required, "/bin/echo", !filesAreConfined(), false},
		{Off, wrapper, false, false},
	} {
		t.Run(string(c.mode)+" "+filepath.Base(c.program), func(t *testing.T) {
			t.Parallel()
			var log, out bytes.Buffer
			s := NewSandbox(c.mode, slog.New(slog.NewTextHandler(&log, nil)))
			for range 2 {
				out.Reset()
				cmd, err := s.Start(func() (*exec.Cmd, error) {
					cmd := Command(t.Context(), c.program, "said")
					cmd.Stdout = &out
					return cmd, nil
				}, Confinement{})
				if err == nil {
					err = cmd.Wait()
				}
				if (err != nil) != c.fails || !c.fails && out.String() != "said\n" {
					t.Errorf("%v, %q; want an error: %v", err, out.String(), c.fails)
				}
			}
			if n := strings.Count(log.String(), "without a sandbox"); (n == 1) != c.warns {
				t.Errorf("%d warnings, want one: %v\n%s", n, c.warns, log.String())
			}
			if held := len(s.Layers()) > 0; held != (c.mode != Off && !c.warns && len(Layers()) > 0) {
				t.Errorf("layers %q", s.Layers())
			}
		})
	}
}

func TestSandboxSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	var none *Sandbox
	_, err := none.Start(func() (*exec.Cmd, error) { return Command(t.Context(), "/absent/tool"), nil }, Confinement{})
	if err == nil || !strings.Contains(err.Error(), "/absent/tool") {
		t.Errorf("a program that is not there: %v", err)
	}
}
