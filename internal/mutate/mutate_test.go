package mutate

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestMutantsDifferAndRepeat(t *testing.T) {
	other := bytes.Repeat([]byte("another file "), 2000)
	for name, way := range map[string]Way{
		"bits": Bits, "bytes": Bytes, "number": Number, "zeros": Zeros, "cut": Cut, "repeat": Repeat, "swap": Swap,
		"splice": Splice(other), "any": Any(Bits, Cut),
	} {
		for size := 1; size < 1<<17; size *= 3 {
			data := make([]byte, size) // zeros, which some ways leave as they are
			for seed := range uint64(50) {
				at := int(seed) * (size - 1) / 49
				got := Apply(rand.New(rand.NewPCG(seed, 0)), way, data, at)
				if bytes.Equal(got, data) || len(got) > size+1<<16 {
					t.Fatalf("%s, %d bytes, seed %d: %d bytes, the same: %t", name, size, seed, len(got), bytes.Equal(got, data))
				}
				if !bytes.Equal(got[:min(at, len(got))], data[:min(at, len(got))]) && name != "repeat" && name != "swap" {
					t.Fatalf("%s, %d bytes, seed %d: changed before %d", name, size, seed, at)
				}
				if again := Apply(rand.New(rand.NewPCG(seed, 0)), way, data, at); !bytes.Equal(again, got) {
					t.Fatalf("%s, %d bytes, seed %d: not the same again", name, size, seed)
				}
			}
			if bytes.Count(data, []byte{0}) != size {
				t.Fatalf("%s changed what it was to copy", name)
			}
		}
	}
}
