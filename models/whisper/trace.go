//go:build cgo

package whisper

// #include "trace.h"
import "C"

import "runtime"

// Trace lets CPU profiles of this process say which C function a thread was in, as an address that has no name yet; without it
// all of the library is one entry. It holds until the process ends.
func Trace() { runtime.SetCgoTraceback(0, C.steno_trace, nil, nil) }
