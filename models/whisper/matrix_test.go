//go:build cgo

package whisper

import "testing"

// TestMatrixAgreesWithGGML compares our kernels with the library's on sizes with and without rests in every direction.
func TestMatrixAgreesWithGGML(t *testing.T) {
	setUp()
	if matrix.best(best) == 0 {
		t.Log("this CPU has no instructions for our kernels: the library's are used, and there is nothing to compare")
		return
	}
	shapes := []shape{
		{kind: "q8_0", depth: 512, columns: 512, rows: 1500, heads: 1, threads: 1},
		{kind: "q8_0", depth: 2048, columns: 512, rows: 32, heads: 1, threads: 4},
		{kind: "q8_0", depth: 32, columns: 65, rows: 33, heads: 3, threads: 2},
		{kind: "f16", depth: 240, columns: 3000, rows: 512, heads: 1, threads: 2},
		{kind: "f16", depth: 33, columns: 32, rows: 197, heads: 1, threads: 3},
		{kind: "f32", depth: 47, columns: 129, rows: 43, heads: 2, threads: 1},
		{kind: "f16", depth: 64, columns: 1500, rows: 1500, heads: 6, threads: 1, attention: true},
		{kind: "f16", depth: 64, columns: 192, rows: 192, heads: 8, threads: 4, attention: true},
		{kind: "f16", depth: 64, columns: 1408, rows: 33, heads: 8, threads: 1, attention: true},
		{kind: "f16", depth: 80, columns: 77, rows: 45, heads: 2, threads: 3, attention: true},
		{kind: "q8_0", depth: 512, columns: 2048, rows: 1500, heads: 1, threads: 2, gelu: true},
		{kind: "f32", depth: 300, columns: 45, rows: 77, heads: 1, threads: 1, gelu: true},
		{kind: "f16", depth: 512, columns: 2048, rows: 200, heads: 8, threads: 1, layer: true},
		{kind: "f16", depth: 160, columns: 45, rows: 77, heads: 5, threads: 3, layer: true},
	}
	agree(t, matrix, shapes, matrixError)
}
