package files

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

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
	codes := map[string]int{}
	for i := range mutants {
		data := bytes.Clone(good)
		at := rnd.IntN(len(data))
		switch i % 8 {
		case 0: // a bit
			data[at] ^= 1 << rnd.IntN(8)
		case 1: // a byte of the head, where the numbers are from which memory is taken
			data[4+rnd.IntN(200)] ^= byte(1 + rnd.IntN(255))
		case 2: // a number of the head that is enormous, or negative
			copy(data[4+4*rnd.IntN(40):], [][]byte{{0xff, 0xff, 0xff, 0x7f}, {0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 0x80}}[rnd.IntN(3)])
		case 3:
			data = data[:at]
		case 4:
			data = append(data, data[:1+at]...)
		case 5: // a stretch of chance
			for k := at; k < min(at+4096, len(data)); k++ {
				data[k] = byte(rnd.Uint32())
			}
		case 6: // two stretches that changed places
			n := min(1024, len(data)-at)
			copy(data[:n], good[at:at+n])
			copy(data[at:], good[:n])
		case 7: // a stretch of zeros
			clear(data[at:min(at+1+rnd.IntN(1<<16), len(data))])
		}
		if bytes.Equal(data, good) {
			data[at] ^= 1
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		f, _, err := s.Open(t.Context(), VADName)
		var e *job.Error
		if !errors.As(err, &e) {
			t.Errorf("seed %d, mutant %d of kind %d is opened: %v", seed, i, i%8, err)
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
