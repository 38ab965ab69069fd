//go:build cgo

package whisper

// #include "accel.h"
import "C"

// columnsError is the relative error of our products with few columns against ggml's; below 0 where ggml's are used.
func columnsError(s shape) float64 { return float64(C.steno_gemm_check(s.c())) }

var columnsTrials = []shape{
	{kind: "q8_0", depth: 128, columns: 203, rows: 1, heads: 1, threads: 1},
	{kind: "q8_0", depth: 64, columns: 171, rows: 11, heads: 1, threads: 1},
	{kind: "f16", depth: 75, columns: 37, rows: 1, heads: 3, threads: 1},
}
