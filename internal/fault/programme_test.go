//go:build programme

package fault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"steno/internal/faultsize"
)

// TestProgramme is tier T0 of the fault programme, on what `make faults` has built, whose folder STENO_FAULTS names; the ledger of
// the run is left there.
func TestProgramme(t *testing.T) {
	built := os.Getenv("STENO_FAULTS")
	if built == "" {
		t.Fatal("STENO_FAULTS names no folder: run `make test`, or `make fault TIER=0`, which does the same")
	}
	build := filepath.Dir(built)
	rows, err := Run(t.Context(), Config{
		Programs: Programs{
			Steno: filepath.Join(built, "steno"), NATS: filepath.Join(built, "nats-server"), Models: filepath.Join(build, "models"),
		},
		Tier: T0, Lanes: 3, Seed: faultsize.Seed(t), Speech: filepath.Join(build, "samples", "jfk.wav"),
		Folder: filepath.Join(built, "run"), Root: filepath.Dir(build), Out: t.Output(),
	})
	for _, row := range rows {
		t.Run(row.ID, func(t *testing.T) {
			t.Log(row)
			if wrong := row.Verdict.Wrong; len(wrong) > 0 {
				t.Errorf("%d promises were broken: %s", len(wrong), strings.Join(wrong[:min(10, len(wrong))], "\n"))
			}
		})
	}
	if err != nil {
		t.Error(err)
	}
}
