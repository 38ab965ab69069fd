package fault

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"steno/internal/faultsize"
)

// TestProgramme runs tier T0 of the fault programme against the real programs, with the seed in STENO_FAULT_SEED or 1.
func TestProgramme(t *testing.T) {
	models, err := filepath.Abs("../../.build/models")
	if err != nil {
		t.Fatal(err)
	}
	if folder := os.Getenv("STENO_MODELS"); folder != "" {
		models = folder
	}
	bin := t.TempDir()
	p := Programs{Steno: filepath.Join(bin, "steno"), NATS: filepath.Join(bin, "nats-server"), Models: models}
	for _, args := range [][]string{
		{"-tags", "failpoints", "-o", p.Steno, "../../cmd/steno"}, {"-o", p.NATS, "github.com/nats-io/nats-server/v2"},
	} {
		if out, err := exec.CommandContext(t.Context(), "go", append([]string{"build"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("build %v: %v\n%s", args, err, out)
		}
	}
	rows, err := Run(t.Context(), Config{
		Programs: p, Tier: T0, Seed: faultsize.Seed(t), Folder: filepath.Join(t.TempDir(), "run"), Root: "../..", Lanes: 3,
		Out: t.Output(),
	})
	if err != nil || len(rows) < 10 {
		t.Errorf("%d rows: %v", len(rows), err)
	}
}
