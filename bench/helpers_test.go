package bench_test

import (
	"os/exec"
	"testing"
)

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("run %s: %v: %s", name, err, out)
	}
}
