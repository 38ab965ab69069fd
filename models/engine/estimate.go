package engine

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// shape is what of a ggml file's header decides the size of a decode state.
type shape struct {
	audioState, textState, textLayers int64
}

// magic opens a whisper ggml file: "ggml" as a little-endian number.
const magic = 0x67676d6c

// readShape reads the header: magic, then 11 numbers of 32 bits.
func readShape(path string) (shape, error) {
	f, err := os.Open(path)
	if err != nil {
		return shape{}, fmt.Errorf("%w: %w", ErrBadFile, err)
	}
	defer f.Close()
	var h [12]uint32
	if err := binary.Read(io.LimitReader(f, 48), binary.LittleEndian, &h); err != nil {
		return shape{}, fmt.Errorf("%w: read header of %s: %w", ErrBadFile, path, err)
	}
	s := shape{audioState: int64(h[3]), textState: int64(h[7]), textLayers: int64(h[9])}
	// The largest Whisper has 1280 and 32. The file has not been verified here, so its numbers are not believed.
	const widest, deepest = 1 << 14, 1 << 10
	if h[0] != magic || s.audioState < 1 || s.textState < 1 || s.textLayers < 1 ||
		s.audioState > widest || s.textState > widest || s.textLayers > deepest {
		return shape{}, fmt.Errorf("%w: %s has no ggml header", ErrBadFile, path)
	}
	return s, nil
}

const (
	// contextBytes is what CUDA takes for a process before any tensor.
	contextBytes = 300 << 20
	// fallbackDecoders is how many times the self-attention cache is made once a window is decoded at a temperature: five
	// decoders and two spare (whisper.cpp, whisper_full_with_state).
	fallbackDecoders = 7
)

// stateBytes is what a decode state takes at most: the sizes that whisper.cpp v1.8.5 prints for tiny to large, without flash
// attention, fit these lines to 1 %. In bytes, with S the width of the model and L the layers of its text decoder:
//
//	self-attention cache     2,048 · L · S · fallbackDecoders
//	cross-attention cache    6,144 · L · S
//	padding                  6,144 · S
//	convolution                4.0 MB + 24,000 · S
//	encoder                    1.6 MB + 164,600 · S   (42,000 · S with flash attention)
//	cross                      1.6 MB + 6,000 · S
//	decoder                   94.6 MB + 3,600 · S
//
// That is 269 MB for base and 1.2 GB for large; base was seen to touch 194 MB of it without a fallback.
func (s shape) stateBytes() int64 {
	caches := s.textLayers * s.textState * (2048*fallbackDecoders + 6144)
	return caches + 6144*s.audioState + 102_000_000 + (24_000+164_600+6_000)*s.audioState + 3_600*s.textState
}
