//go:build cgo

package whisper

import (
	"fmt"
	"testing"
)

// TestColumnsAgreeWithGGML compares our products of few columns with the library's, for all their ways to group rows and columns.
func TestColumnsAgreeWithGGML(t *testing.T) {
	if !Gathers() {
		t.Log("this CPU has no AVX512_VNNI, or this linker cannot wrap: the library's kernels are used, and there is nothing to compare")
		return
	}
	shapes := []shape{
		{kind: "q8_0", depth: 512, columns: 512, rows: 1, heads: 1, threads: 1},
		{kind: "q8_0", depth: 2048, columns: 512, rows: 1, heads: 1, threads: 2},
		{kind: "q8_0", depth: 384, columns: 51865, rows: 1, heads: 1, threads: 1},
		{kind: "q8_0", depth: 128, columns: 167, rows: 31, heads: 1, threads: 3},
		{kind: "f16", depth: 64, columns: 1500, rows: 1, heads: 8, threads: 1},
		{kind: "f16", depth: 1472, columns: 64, rows: 1, heads: 8, threads: 2},
		{kind: "f16", depth: 33, columns: 65, rows: 31, heads: 1, threads: 1},
	}
	for n := 2; n <= 17; n++ {
		shapes = append(shapes,
			shape{kind: "q8_0", depth: 192, columns: 171, rows: n, heads: 1, threads: 1},
			shape{kind: "f16", depth: 100, columns: 171, rows: n, heads: 1, threads: 1})
	}
	tiles := Matrix() == "amx"
	defer useColumnTiles(tiles)
	for on := range map[bool]bool{tiles: true, false: true} {
		for _, s := range shapes {
			t.Run(fmt.Sprintf("tiles=%t/%+v", on, s), func(t *testing.T) {
				useColumnTiles(on)
				e := columnsError(s)
				t.Logf("relative error %.5f", e)
				if !(e <= maxMatrixError) {
					t.Errorf("relative error %g, want at most %g", e, maxMatrixError)
				}
			})
		}
	}
}
