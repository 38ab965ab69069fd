package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"steno/job"
	"steno/queue"
)

// FuzzRoots: a job that names a path gets a file under the worker's root or an error that says so, whatever links and dots are in it.
// T stands for the folder of the test.
func FuzzRoots(f *testing.F) {
	dir, err := filepath.EvalSymlinks(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	for _, d := range []string{"root/sub", "root-beside", "out"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			f.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"root/a.wav": "ours", "root/sub/..b.wav": "ours", "root/sub/...": "ours", "root-beside/a.wav": "theirs", "out/a.wav": "theirs", "a.wav": "theirs",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"root/up": "..", "root/link": "../out/a.wav", "root/far": filepath.Join(dir, "out"), "root/sub/in": "../a.wav", "out/back": "../root",
		"root/loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			f.Fatal(err)
		}
	}
	for _, seed := range []string{
		"T/root/a.wav", "T/root/../a.wav", "T/root-beside/a.wav", "T/root/link", "T/root/up/out/a.wav", "T/root/far/a.wav", "T/root/sub/in",
		"T/out/back/a.wav", "T/root//sub/./..b.wav", "T/root/sub/...", "T/root/loop", "T/root", "a.wav", "../a.wav", "/etc/passwd", "T/root/a.wav\x00",
	} {
		f.Add(seed)
	}
	h := &handler{roots: []string{filepath.Join(dir, "root")}}
	f.Fuzz(func(t *testing.T, path string) {
		path = strings.ReplaceAll(path, "T", dir)
		if path == "" {
			return // no path is named
		}
		got, err := h.audio(t.Context(), &queue.Delivery{Job: job.Job{Source: job.Source{Path: path}}}, t.TempDir())
		if err != nil {
			if e := job.AsError(err); e.Class != job.Input || e.Code != "FILE_NOT_FOUND" && e.Code != "PATH_NOT_ALLOWED" {
				t.Errorf("%q: %#v", path, err)
			}
			return
		}
		if st, err := os.Stat(got); err == nil && st.IsDir() {
			return // audio.Probe refuses it
		}
		if data, err := os.ReadFile(got); err != nil || string(data) != "ours" {
			t.Errorf("%q gives %q, which holds %q, %v", path, got, data, err)
		}
	})
}
