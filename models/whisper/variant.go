//go:build cgo

package whisper

// #include "variant.h"
import "C"

// Variant names the instruction set that the library's own kernels use: "native" in a build for one CPU only, and else the one of
// the build's that was chosen for this CPU, by ggml's names ("haswell"). Safe for concurrent use.
func Variant() string { return C.GoString(C.steno_variant()) }
