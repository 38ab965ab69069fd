//go:build cgo

package whisper

import (
	"runtime"
	"testing"
)

// TestColumnsAgreeWithGGML compares our products of few columns with the library's, for all their ways to group rows and columns.
func TestColumnsAgreeWithGGML(t *testing.T) {
	if there := columns.best(best) > 0 && runtime.GOOS == "linux"; there != Gathers() { // other linkers cannot wrap
		t.Fatalf("the kernels are there: %t, and used: %t: they have failed their trial, or the build has not wrapped ggml", there, Gathers())
	} else if !there {
		t.Log("this CPU has no AVX2, or this linker cannot wrap: the library's kernels are used, and there is nothing to compare")
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
	agree(t, columns, shapes, columnsError)
}
