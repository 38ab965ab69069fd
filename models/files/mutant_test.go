package files

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"steno/internal/mutate"
	"steno/job"
)

// No file that differs from the published one is ever opened, however little: nothing of ours or of the engine's reads further than
// the checksum. Each of the mutants is written over the one before, as whoever swaps files does.
func TestMutantsAreRefused(t *testing.T) {
	const seed, mutants = 20261126, 400
	rnd := rand.New(rand.NewPCG(seed, 0))
	good := vadFile(t)
	s := newStore(t, good)
	path, err := s.Path(VADName)
	if err != nil {
		t.Fatal(err)
	}
	ways := []struct {
		head bool // where the numbers are from which memory is taken
		do   mutate.Way
	}{
		{false, mutate.Bits}, {true, mutate.Bits}, {true, mutate.Number}, {false, mutate.Cut}, {false, mutate.Repeat},
		{false, mutate.Bytes}, {true, mutate.Swap}, {false, mutate.Zeros},
	}
	codes := map[string]int{}
	for i := range mutants {
		way, at := ways[i%len(ways)], rnd.IntN(len(good))
		if way.head {
			at = 4 * (1 + rnd.IntN(50))
		}
		data := mutate.Apply(rnd, way.do, good, at)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, _, err := s.Open(t.Context(), VADName)
		var e *job.Error
		if !errors.As(err, &e) {
			t.Errorf("seed %d, mutant %d of kind %d is opened: %v", seed, i, i%len(ways), err)
			if err == nil {
				f.Close()
			}
			continue
		}
		codes[e.Code]++
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := s.Open(t.Context(), VADName)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || !bytes.Equal(data, good) {
		t.Errorf("what is right is not opened: %v", err)
	}
	t.Logf("seed %d, %d mutants refused: %v", seed, mutants, codes)
}
