//go:build cgo

package whisper

/*
#include <stdlib.h>
#include <whisper.h>
*/
import "C"

import (
	"errors"
	"slices"
	"unsafe"
)

// libraryVAD is the library's own computation of vad.probabilities, which the tests hold ours to.
func libraryVAD(path string, samples []float32) ([]float32, error) {
	p := C.whisper_vad_default_context_params()
	p.n_threads = 1
	p.use_gpu = false
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	v := C.whisper_vad_init_from_file_with_params(name, p)
	if v == nil {
		return nil, errors.New("the library refused the file")
	}
	defer C.whisper_vad_free(v)
	if !bool(C.whisper_vad_detect_speech(v, floats(samples), C.int(len(samples)))) {
		return nil, errors.New("the library failed")
	}
	return slices.Clone(unsafe.Slice((*float32)(unsafe.Pointer(C.whisper_vad_probs(v))), int(C.whisper_vad_n_probs(v)))), nil
}
