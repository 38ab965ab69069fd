//go:build cgo

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"steno/internal/testmedia"
)

// TestConsole takes the whole way of a user in a browser: console/tests say which.
func TestConsole(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	browser, err := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "browser.sh")).Output()
	if err != nil {
		t.Fatalf("find a browser: %v: run make test, which installs one", err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "console.sh"), "playwright", "test")
	cmd.Env = append(os.Environ(), "CONSOLE_STENO="+binary.path(t), "CONSOLE_MODELS="+filepath.Join(root, ".build", "models"),
		"CONSOLE_SPEECH="+filepath.Dir(testmedia.Sample(t, "jfk.wav")), "CONSOLE_CHROMIUM="+strings.TrimSpace(string(browser)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if passed := regexp.MustCompile(`(?m)^ +(\d+) passed`).FindSubmatch(out); passed == nil || bytes.Contains(out, []byte("skipped")) {
		t.Fatalf("what it says of its tests is not understood:\n%s", out)
	}
	t.Logf("%s", out)
}
