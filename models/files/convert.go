package files

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"steno/job"
)

// Type is how the large matrices of a model file are stored.
type Type string

// The types that Convert writes, and that of small models. Others of the registry can only be pulled.
const (
	F32 Type = "f32"  // 32-bit floats
	F16 Type = "f16"  // 16-bit floats
	Q8  Type = "q8_0" // bytes with one scale for 32 of them; half the size, as accurate, faster on a CPU
)

// ggml's numbers: of a file, and of a tensor in it.
const (
	magic       = 0x67676d6c // "ggml" as a little-endian number
	quantVer    = 2 * 1000   // GGML_QNT_VERSION times GGML_QNT_VERSION_FACTOR, added to the type of a quantised file
	fileF16     = 1
	fileQ8      = 7 + quantVer
	tensorF32   = 0
	tensorF16   = 1
	tensorQ8    = 8
	pieceValues = 1 << 16 // values that are converted at a time
)

// Progress is told how many of total bytes are done: of the download, or of the weights that are converted. It is called on the
// caller's goroutine, often; total stays the same.
type Progress func(done, total int64)

// Convert reads the CTranslate2 folder dir (model.bin, and vocabulary.txt or vocabulary.json), as faster-whisper keeps it, and
// writes a ggml model file to w. The weights must be 16- or 32-bit floats. It reads one piece of one tensor at a time, so memory
// does not grow with the model. Equal input gives equal output, on every machine.
func Convert(ctx context.Context, w io.Writer, dir string, t Type, progress Progress) error {
	if t != F16 && t != Q8 {
		return job.Errorf(job.Input, "MODEL_TYPE", "model files can be made as f16 or q8_0, not as %q: choose one of the two.", t)
	}
	f, err := os.Open(filepath.Join(dir, "model.bin"))
	if err != nil {
		return notCTranslate2(dir, err)
	}
	defer f.Close()
	c := &converter{ctx: ctx, src: f, w: bufio.NewWriterSize(w, 1<<20), kind: t, progress: progress}
	if err := c.open(dir); err != nil {
		return notCTranslate2(dir, err)
	}
	if err := c.run(); err != nil {
		return fmt.Errorf("convert %s: %w", dir, err)
	}
	return nil
}

func notCTranslate2(dir string, err error) error {
	return &job.Error{Class: job.Input, Code: "MODEL_SOURCE", Err: err, Message: fmt.Sprintf(
		"%s is not a folder of a Whisper model for CTranslate2 in 16- or 32-bit floats (%v): "+
			"give the folder that holds model.bin and vocabulary.txt, such as one of faster-whisper's cache.", dir, err)}
}

// converter is one run of Convert.
type converter struct {
	ctx      context.Context
	src      io.ReaderAt
	w        *bufio.Writer
	kind     Type
	progress Progress

	shape  shape
	index  map[string]variable
	tokens [][]byte
	plan   []tensor
	total  int64 // bytes of weights to read
	done   int64
}

// open reads all but the weights, and checks that every tensor can be made.
func (c *converter) open(dir string) error {
	st, err := os.Stat(filepath.Join(dir, "model.bin"))
	if err != nil {
		return err
	}
	if c.index, err = readIndex(c.src, st.Size()); err != nil {
		return err
	}
	if c.shape, err = shapeOf(c.index); err != nil {
		return err
	}
	if c.tokens, err = readVocabulary(dir); err != nil {
		return err
	}
	if want := min(c.shape.vocabulary, textTokens); len(c.tokens) != want {
		return fmt.Errorf("the vocabulary has %d tokens for text, the model %d", len(c.tokens), want)
	}
	c.plan = c.shape.layout()
	for _, t := range c.plan {
		if err := c.check(t); err != nil {
			return err
		}
		c.total += t.elements() * c.index[t.source].kind.size()
	}
	return nil
}

// check holds a tensor of the plan against the variable that it is made of.
func (c *converter) check(t tensor) error {
	v, ok := c.index[t.source]
	switch {
	case !ok:
		return fmt.Errorf("the variable %s is missing", t.source)
	case v.kind != ctFloat16 && v.kind != ctFloat32:
		return fmt.Errorf("%s is quantised", t.source)
	case v.elements() != t.elements()*int64(t.parts) || v.size != v.elements()*v.kind.size():
		return fmt.Errorf("%s has the dimensions %v in %d bytes, where %d of %v belong", t.source, v.dims, v.size, t.parts, t.dims)
	case c.kind == Q8 && !t.wide() && t.dims[len(t.dims)-1]%blockValues != 0 && len(t.dims) == 2:
		return fmt.Errorf("%s has rows of %d values, not a multiple of %d", t.source, t.dims[1], blockValues)
	}
	return nil
}

// shapeOf reads the hyperparameters off the variables' dimensions: a CTranslate2 file has no other place for most of them.
func shapeOf(index map[string]variable) (shape, error) {
	var s shape
	var err error
	dims := func(name string, rank int) []int {
		v := index[name]
		if len(v.dims) != rank {
			err = errors.Join(err, fmt.Errorf("the variable %s has %d dimensions, not %d", name, len(v.dims), rank))
			return make([]int, rank)
		}
		return v.dims
	}
	layers := func(side string) int {
		n := 0
		for ; len(index[fmt.Sprintf("%s/layer_%d/ffn/linear_0/weight", side, n)].dims) > 0; n++ {
		}
		return n
	}
	d := dims("decoder/embeddings/weight", 2)
	s.vocabulary, s.textState = d[0], d[1]
	s.textContext = dims("decoder/position_encodings/encodings", 2)[0]
	d = dims("encoder/position_encodings/encodings", 2)
	s.audioContext, s.audioState = d[0], d[1]
	s.mel = dims("encoder/conv1/weight", 3)[1]
	s.audioLayers, s.textLayers = layers("encoder"), layers("decoder")
	s.audioHeads, s.textHeads = s.audioState/headSize, s.textState/headSize
	if err != nil {
		return s, err
	}
	return s, s.plausible()
}

func (c *converter) run() error {
	if err := c.writeHeader(); err != nil {
		return err
	}
	for _, t := range c.plan {
		if err := c.writeTensor(t); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return c.w.Flush()
}

func (c *converter) writeHeader() error {
	kind := int32(fileF16)
	if c.kind == Q8 {
		kind = fileQ8
	}
	// bufio.Writer keeps its first error, and binary.Write has none of its own for these types.
	_ = binary.Write(c.w, binary.LittleEndian, uint32(magic))
	_ = binary.Write(c.w, binary.LittleEndian, c.shape.header(kind))
	_ = binary.Write(c.w, binary.LittleEndian, []int32{int32(c.shape.mel), melBins})
	_ = binary.Write(c.w, binary.LittleEndian, melFilters(c.shape.mel))
	err := binary.Write(c.w, binary.LittleEndian, int32(len(c.tokens)))
	for _, token := range c.tokens {
		_ = binary.Write(c.w, binary.LittleEndian, uint32(len(token)))
		_, err = c.w.Write(token)
	}
	return err
}

func (c *converter) writeTensor(t tensor) error {
	kind := int32(tensorF16)
	encode := appendHalves
	switch {
	case t.wide():
		kind, encode = tensorF32, appendFloats
	case c.kind == Q8 && len(t.dims) == 2:
		kind, encode = tensorQ8, appendQ8
	}
	head := []int32{int32(len(t.dims)), int32(len(t.name)), kind}
	for i := range t.dims {
		head = append(head, int32(t.dims[len(t.dims)-1-i]))
	}
	_ = binary.Write(c.w, binary.LittleEndian, head)
	if _, err := c.w.WriteString(t.name); err != nil {
		return err
	}
	v := c.index[t.source]
	n := t.elements()
	start := v.offset + n*int64(t.part)*v.kind.size()
	raw := make([]byte, min(n, pieceValues)*v.kind.size())
	var out, encoded []byte
	for at := int64(0); at < n; at += pieceValues {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		piece := raw[:min(n-at, pieceValues)*v.kind.size()]
		if _, err := c.src.ReadAt(piece, start+at*v.kind.size()); err != nil {
			return err
		}
		out = piece
		if kind != tensorF16 || v.kind != ctFloat16 { // halves stay as they are
			out = encode(encoded[:0], values(piece, v.kind))
			encoded = out
		}
		if _, err := c.w.Write(out); err != nil {
			return err
		}
		c.report(int64(len(piece)))
	}
	return nil
}

func (c *converter) report(n int64) {
	c.done += n
	if c.progress != nil {
		c.progress(c.done, c.total)
	}
}

func values(raw []byte, kind elementType) []float32 {
	x := make([]float32, int64(len(raw))/kind.size())
	for i := range x {
		if kind == ctFloat32 {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		} else {
			x[i] = toFloat32(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	}
	return x
}

func appendFloats(dst []byte, x []float32) []byte {
	for _, v := range x {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}

func appendHalves(dst []byte, x []float32) []byte {
	for _, v := range x {
		dst = binary.LittleEndian.AppendUint16(dst, toHalf(v))
	}
	return dst
}
