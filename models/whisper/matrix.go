//go:build cgo

package whisper

/*
#include <ggml.h>
#include "accel.h"
*/
import "C"

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

// matrixError is the relative error of our own kernels against ggml's; below 0 where ggml's are used.
func matrixError(s shape) float64 { return float64(C.steno_accel_check(s.c())) }

// maxMatrixError is well above what rounding to bfloat16 does (0.003) and well below any mistake.
const maxMatrixError = 0.01

var matrixTrials = []shape{
	{kind: "q8_0", depth: 96, columns: 70, rows: 40, heads: 1, threads: 1},
	{kind: "f16", depth: 64, columns: 100, rows: 40, heads: 2, threads: 1, attention: true},
	{kind: "f16", depth: 64, columns: 96, rows: 40, heads: 2, threads: 1, layer: true},
}
