//go:build cgo

package whisper

// #include "accel.h"
// #include "columns.h"
// #include "gemm.h"
import "C"

import "log/slog"

// columnsError is the relative error of our products with few columns against ggml's; below 0 where there are none.
func columnsError(s shape) float64 { return float64(C.steno_gemm_check(s.c())) }

// columnsThere tells whether this CPU has the instructions of our products with few columns.
func columnsThere() bool { return bool(C.columns_supported()) }

// useColumns lets ggml use our products with few columns, the best that this CPU has. They are tried once on small input, as
// useMatrix does.
func useColumns() {
	if !bool(C.steno_gemm_enable(true)) {
		return
	}
	if bool(C.columns_tiles_supported()) {
		useColumnTiles(true)
		if columnsAreRight() {
			return
		}
		useColumnTiles(false)
	}
	if !columnsAreRight() {
		C.steno_gemm_enable(false)
	}
}

// useColumnTiles chooses between AMX and vectors.
func useColumnTiles(on bool) { C.columns_use_tiles(C.bool(on)) }

func columnsAreRight() bool {
	for _, s := range []shape{
		{kind: "q8_0", depth: 128, columns: 203, rows: 1, heads: 1, threads: 1},
		{kind: "q8_0", depth: 64, columns: 171, rows: 11, heads: 1, threads: 1},
		{kind: "f16", depth: 75, columns: 37, rows: 1, heads: 3, threads: 1},
	} {
		if e := columnsError(s); !(e <= maxMatrixError) {
			slog.Error("the column kernels of this build are wrong on this CPU and are not used", "relative_error", e)
			return false
		}
	}
	return true
}

// Gathers tells whether decoding windows side by side on one thread is faster than one after the other: whether this CPU and
// this build have the kernels for it. Safe for concurrent use.
func Gathers() bool {
	setUp()
	return bool(C.steno_gemm_enabled())
}
