package files

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// headSize is the width of one attention head in every Whisper model.
const headSize = 64

// headBytes is where the mel filters of a ggml file begin.
const headBytes = 4 + 11*4

// plausible checks that the hyperparameters are those of a Whisper model: whisper.cpp asserts, overflows or allocates without
// bound on others.
func (s shape) plausible() error {
	for _, f := range []struct {
		name        string
		value       int
		least, most int
	}{
		{"vocabulary", s.vocabulary, 1, 1 << 18},
		{"audio context", s.audioContext, 1, 1500},
		{"audio state", s.audioState, headSize, 1280},
		{"number of audio heads", s.audioHeads, s.audioState / headSize, s.audioState / headSize},
		{"number of audio layers", s.audioLayers, 1, 32},
		{"text context", s.textContext, 1, 448},
		{"text state", s.textState, s.audioState, s.audioState},
		{"number of text heads", s.textHeads, s.audioHeads, s.audioHeads},
		{"number of text layers", s.textLayers, 1, 32},
		{"number of mel bands", s.mel, 80, 128},
	} {
		if f.value < f.least || f.value > f.most {
			return fmt.Errorf("its %s is %d, not %d to %d", f.name, f.value, f.least, f.most)
		}
	}
	return nil
}

// header is what a ggml file says of itself before its tensors.
type header struct {
	shape shape
	kind  int32 // type of the file, its quantisation version taken off
	// tensors is where the tensors begin, in bytes from the start.
	tensors int64
}

// fileKinds gives the types of whisper files: the tensor type of their matrices, and the bytes of 32 values.
var fileKinds = map[int32]struct {
	name  Type
	bytes int64
}{
	0: {"f32", 128}, 1: {F16, 64}, 2: {"q4_0", 18}, 3: {"q4_1", 20}, 7: {Q8, 34}, 8: {"q5_0", 22}, 9: {"q5_1", 24},
}

// size predicts the file's size in bytes from its header.
func (h header) size() int64 {
	total := h.tensors
	matrix := fileKinds[h.kind].bytes
	convolution := max(matrix, fileKinds[fileF16].bytes) // never quantised
	for _, t := range h.shape.layout() {
		bytes := t.elements() * matrix / blockValues
		switch {
		case t.wide():
			bytes = 4 * t.elements()
		case len(t.dims) != 2:
			bytes = t.elements() * convolution / blockValues
		}
		total += int64(12+4*len(t.dims)+len(t.name)) + bytes
	}
	return total
}

// readHeader reads and checks a ggml file up to its tensors; it costs a read of 0.6 MB and allocates no more than a buffer,
// whatever the file claims.
func readHeader(r io.Reader) (header, error) {
	var h header
	b := bufio.NewReaderSize(r, 1<<16)
	var n [12]int32
	if err := binary.Read(b, binary.LittleEndian, &n); err != nil {
		return h, fmt.Errorf("it ends within the header: %w", err)
	}
	if uint32(n[0]) != magic {
		return h, errForeign
	}
	h.shape = shape{
		vocabulary: int(n[1]), audioContext: int(n[2]), audioState: int(n[3]), audioHeads: int(n[4]), audioLayers: int(n[5]),
		textContext: int(n[6]), textState: int(n[7]), textHeads: int(n[8]), textLayers: int(n[9]), mel: int(n[10]),
	}
	h.kind = n[11] % 1000
	if _, ok := fileKinds[h.kind]; !ok || n[11] < 0 {
		return h, fmt.Errorf("its weights are of type %d, which is none of Whisper's", n[11])
	}
	if err := h.shape.plausible(); err != nil {
		return h, err
	}
	return h, h.skipTables(b)
}

// skipTables goes past the mel filters and the vocabulary.
func (h *header) skipTables(b *bufio.Reader) error {
	var mel [2]int32
	if err := binary.Read(b, binary.LittleEndian, &mel); err != nil {
		return fmt.Errorf("it ends before its mel filters: %w", err)
	}
	if mel != [2]int32{int32(h.shape.mel), melBins} {
		return fmt.Errorf("its mel filters are %d × %d, not %d × %d", mel[0], mel[1], h.shape.mel, melBins)
	}
	filters := 4 * h.shape.mel * melBins
	if _, err := b.Discard(filters); err != nil {
		return fmt.Errorf("it ends within its mel filters: %w", err)
	}
	var count int32
	if err := binary.Read(b, binary.LittleEndian, &count); err != nil || count < 0 || int(count) > h.shape.vocabulary {
		return fmt.Errorf("its vocabulary claims %d tokens", count)
	}
	h.tensors = int64(headBytes + 8 + filters + 4)
	for id := range count {
		head, err := b.Peek(4)
		if err != nil {
			return fmt.Errorf("it ends within its vocabulary: %w", err)
		}
		length := binary.LittleEndian.Uint32(head)
		// whisper-quantize reads a token into 129 bytes; the longest of Whisper has 128.
		if length > 128 {
			return fmt.Errorf("token %d of its vocabulary claims %d bytes", id, length)
		}
		if _, err := b.Discard(4 + int(length)); err != nil {
			return fmt.Errorf("it ends within its vocabulary: %w", err)
		}
		h.tensors += 4 + int64(length)
	}
	return nil
}

// foreign says what a file is that is no ggml file, by its first bytes, and what to do with it; empty where it is unknown.
func foreign(head []byte) string {
	text := bytes.ToLower(bytes.TrimLeft(head, "\ufeff \t\r\n"))
	switch {
	case len(head) == 0:
		return "is empty: pull it again."
	case bytes.HasPrefix(head, []byte("GGUF")):
		return "is a GGUF file, which whisper.cpp cannot read: pull the ggml file instead."
	case bytes.HasPrefix(text, []byte("<!doctype")), bytes.HasPrefix(text, []byte("<html")), bytes.HasPrefix(text, []byte("<?xml")):
		return "is a web page, as a proxy or a login sends in place of a file: pull it again from a host that you can reach."
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return "is only a pointer of Git LFS: run `git lfs pull` where it came from, or pull the model."
	case len(head) > 17 && string(head[6:17]) == "WhisperSpec":
		return "is a model of CTranslate2 (faster-whisper): run `steno models convert` on its folder."
	case len(head) > 10 && head[8] == '{' && head[9] == '"' && binary.LittleEndian.Uint64(head) < 1<<27:
		return "is a safetensors file, which whisper.cpp cannot read: pull the ggml file instead."
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte{0x80, 0x02}):
		return "is a PyTorch checkpoint, which whisper.cpp cannot read: pull the ggml file instead."
	}
	return ""
}
