//go:build cgo

package whisper

/*
#include <ggml.h>
#include "accel.h"
#include "columns.h"
#include "gemm.h"
#include "matrix.h"
*/
import "C"

import "log/slog"

// shape is a matrix product or an attention for matrixError; see accel.h.
type shape struct {
	kind                        string // f32, f16 or q8_0
	depth, columns, rows, heads int
	threads                     int
	attention, gelu, layer      bool
}

var ggmlTypes = map[string]C.int{"f32": C.GGML_TYPE_F32, "f16": C.GGML_TYPE_F16, "q8_0": C.GGML_TYPE_Q8_0}

// c is the shape as C has it.
func (s shape) c() C.steno_shape {
	return C.steno_shape{
		_type: ggmlTypes[s.kind], depth: C.int(s.depth), columns: C.int(s.columns), rows: C.int(s.rows), heads: C.int(s.heads),
		threads: C.int(s.threads), attention: C.bool(s.attention), gelu: C.bool(s.gelu), layer: C.bool(s.layer),
	}
}

// matrixError is the relative error of our own kernels against ggml's; below 0 where this CPU lacks their instructions.
func matrixError(s shape) float64 { return float64(C.steno_accel_check(s.c())) }

// tilesThere tells whether this CPU multiplies tiles and this system lets us.
func tilesThere() bool { return bool(C.matrix_tiles_supported()) && bool(C.columns_tiles_supported()) }

// maxMatrixError is well above what rounding to bfloat16 does (0.003) and well below any mistake.
const maxMatrixError = 0.01

// useMatrix registers our own kernels, the best that this CPU has. Each is tried once on small input: a compiler or a CPU that
// gets them wrong costs speed, never a transcript.
func useMatrix() {
	if !bool(C.steno_accel_register()) {
		return
	}
	if bool(C.matrix_tiles_supported()) {
		useTiles(true)
		if matrixIsRight() {
			return
		}
		useTiles(false)
	}
	if !matrixIsRight() {
		C.steno_accel_enable(false)
	}
}

// useTiles chooses between AMX and vectors.
func useTiles(on bool) { C.matrix_use_tiles(C.bool(on)) }

func matrixIsRight() bool {
	for _, s := range []shape{
		{kind: "q8_0", depth: 96, columns: 70, rows: 40, heads: 1, threads: 1},
		{kind: "f16", depth: 64, columns: 100, rows: 40, heads: 2, threads: 1, attention: true},
		{kind: "f16", depth: 64, columns: 96, rows: 40, heads: 2, threads: 1, layer: true},
	} {
		if e := matrixError(s); !(e <= maxMatrixError) {
			slog.Error("the matrix kernels of this build are wrong on this CPU and are not used", "kernels", matrixInUse(),
				"relative_error", e)
			return false
		}
	}
	return true
}

// limitMatrix takes kernels back: tiles for "avx512", all of ours for "ggml".
func limitMatrix(kernels string) {
	if kernels == "avx512" || kernels == "ggml" {
		useTiles(false)
		useColumnTiles(false)
	}
	if kernels == "ggml" {
		C.steno_accel_enable(false)
		C.steno_gemm_enable(false)
	}
}

// Matrix names the kernels that large matrix products run on: "amx" or "avx512", ours, or "ggml", the library's. Safe for
// concurrent use.
func Matrix() string {
	setUp()
	return matrixInUse()
}

func matrixInUse() string {
	switch {
	case !bool(C.steno_accel_enabled()):
		return "ggml"
	case bool(C.matrix_tiles_used()):
		return "amx"
	default:
		return "avx512"
	}
}
