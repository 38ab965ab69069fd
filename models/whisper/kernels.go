//go:build cgo

package whisper

/*
#include "accel.h"
#include "columns.h"
#include "gemm.h"
#include "matrix.h"
*/
import "C"

import (
	"log/slog"
	"slices"
	"sync"
)

// level is a set of kernels of kernels.h; each does without what those after it need of a CPU.
type level int

// levels are their names, for settings, messages and tests.
var levels = []string{
	C.KERNELS_NONE: "ggml", C.KERNELS_AVX2: "avx2", C.KERNELS_AVXVNNI: "avxvnni", C.KERNELS_AVX512: "avx512", C.KERNELS_AMX: "amx",
}

const best level = C.KERNELS_AMX

func (l level) String() string { return levels[l] }

// products are those of matrix.h or of columns.h.
type products struct {
	name   string
	best   func(most level) level // that this CPU has
	use    func(level)
	used   func() level
	errors func() float64 // the largest relative error of those in use against ggml's, on small input
}

var matrix = products{
	name:   "matrix",
	best:   func(most level) level { return level(C.matrix_best(C.kernels(most))) },
	use:    func(l level) { C.matrix_use(C.kernels(l)) },
	used:   func() level { return level(C.matrix_used()) },
	errors: func() float64 { return worst(matrixError, matrixTrials) },
}

var columns = products{
	name:   "column",
	best:   func(most level) level { return level(C.columns_best(C.kernels(most))) },
	use:    func(l level) { C.columns_use(C.kernels(l)) },
	used:   func() level { return level(C.columns_used()) },
	errors: func() float64 { return worst(columnsError, columnsTrials) },
}

func worst(relativeError func(shape) float64, shapes []shape) float64 {
	w := 0.0
	for _, s := range shapes {
		w = max(w, relativeError(s)) // NaN if any is
	}
	return w
}

// choose uses the best kernels that this CPU has, at most those named. They are tried once on small input: a compiler or a CPU
// that gets them wrong costs speed, never a transcript.
func (p products) choose(most level) {
	for l := p.best(most); ; l = p.best(l - 1) {
		p.use(l)
		if l == C.KERNELS_NONE {
			return
		}
		e := p.errors()
		if e <= maxMatrixError {
			return
		}
		slog.Error("the "+p.name+" kernels of this build are wrong on this CPU and are not used", "kernels", l, "relative_error", e)
	}
}

// useKernels takes our own kernels into use. It must come before the first decode state is made.
func useKernels() {
	C.steno_accel_register()
	matrix.choose(best)
	columns.choose(best)
}

var limiting sync.Mutex

// limitKernels takes those back that Options.Kernels does not allow. No window of this process may be under way unless they have
// been taken back before.
func limitKernels(name string) {
	most := level(slices.Index(levels, name))
	if most < 0 {
		return // auto
	}
	limiting.Lock()
	defer limiting.Unlock()
	for _, p := range []products{matrix, columns} {
		if p.used() > most {
			p.choose(most)
		}
	}
}

// Kernels names what large matrix products and those of few columns run on: "amx", "avx512", "avxvnni" or "avx2", ours, or
// "ggml", the library's. Safe for concurrent use.
func Kernels() (matrices, few string) {
	setUp()
	few = columns.used().String()
	if !bool(C.steno_gemm_enabled()) { // this linker cannot wrap
		few = levels[C.KERNELS_NONE]
	}
	return matrix.used().String(), few
}

// Gathers tells whether decoding windows side by side on one thread is faster than one after the other: whether this CPU and
// this build have the kernels for it. Safe for concurrent use.
func Gathers() bool {
	setUp()
	return bool(C.steno_gemm_enabled())
}
