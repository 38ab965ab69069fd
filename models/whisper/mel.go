//go:build cgo

package whisper

/*
#include "mel.h"
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"unsafe"
)

// melFilters are the filters that a model was trained with: bands times C.MEL_BINS weights.
type melFilters struct {
	bands   int
	weights []float32
}

// readFilters reads them from a ggml file, where they stand after the header of 48 bytes.
func readFilters(path string) (melFilters, error) {
	f, err := os.Open(path)
	if err != nil {
		return melFilters{}, err
	}
	defer f.Close()
	var size [2]int32
	r := io.NewSectionReader(f, 48, 1<<20)
	if err := binary.Read(r, binary.LittleEndian, &size); err != nil {
		return melFilters{}, fmt.Errorf("read mel filters: %w", err)
	}
	if size[0] < 1 || size[0] > 256 || size[1] != C.MEL_BINS {
		return melFilters{}, fmt.Errorf("read mel filters: %d bands of %d bins, want up to 256 of %d", size[0], size[1], C.MEL_BINS)
	}
	m := melFilters{bands: int(size[0]), weights: make([]float32, size[0]*size[1])}
	if err := binary.Read(r, binary.LittleEndian, m.weights); err != nil {
		return melFilters{}, fmt.Errorf("read mel filters: %w", err)
	}
	return m, nil
}

// spectrogram writes the log-mel spectrogram of samples, one row of frames values per band, to buf or to a larger one.
func (m melFilters) spectrogram(buf, samples []float32, frames int) []float32 {
	n := m.bands * frames
	if cap(buf) < n {
		buf = make([]float32, n)
	}
	buf = buf[:n]
	C.steno_mel(floats(buf), C.int(frames), floats(samples), C.int(len(samples)), floats(m.weights), C.int(m.bands))
	return buf
}

// floats is where x lies. C may read it only during the call that it is handed to.
func floats(x []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(x))) }
