package files

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ct2Model is a CTranslate2 folder in the making.
type ct2Model struct {
	version   uint32
	spec      string
	variables map[string]ct2Variable
	tokens    []string
}

type ct2Variable struct {
	dims []int
	kind byte
	data []byte
}

// tinyShape is the smallest model that passes for a Whisper.
var tinyShape = shape{
	vocabulary: 300, audioContext: 6, audioState: 64, audioHeads: 1, audioLayers: 1,
	textContext: 4, textState: 64, textHeads: 1, textLayers: 2, mel: 80,
}

// newCT2 makes a model of the shape with random weights, and the bytes as its tokens, then words.
func newCT2(s shape, kind elementType) *ct2Model {
	r := rand.New(rand.NewPCG(1, 2))
	m := &ct2Model{version: 6, spec: "WhisperSpec", variables: map[string]ct2Variable{
		"encoder/num_heads": {kind: byte(ctInt16), data: []byte{1, 0}},
	}}
	for _, t := range s.layout() {
		dims := slices.Clone(t.dims)
		if strings.Contains(t.source, "conv") && strings.HasSuffix(t.source, "bias") {
			dims = dims[:1]
		}
		dims[0] *= t.parts
		v := ct2Variable{dims: dims, kind: byte(kind)}
		for range t.elements() * int64(t.parts) {
			x := float32(r.NormFloat64())
			if kind == ctFloat32 {
				v.data = binary.LittleEndian.AppendUint32(v.data, math.Float32bits(x))
			} else {
				v.data = binary.LittleEndian.AppendUint16(v.data, toHalf(x))
			}
		}
		m.variables[t.source] = v
	}
	letters := gpt2Letters()
	for id := range s.vocabulary {
		m.tokens = append(m.tokens, string(letters[id%256])+strings.Repeat("a", id/256))
	}
	return m
}

// gpt2Letters is the inverse of gpt2Bytes.
func gpt2Letters() [256]rune {
	var letters [256]rune
	for r, b := range gpt2Bytes() {
		letters[b] = r
	}
	return letters
}

// bin gives the model.bin.
func (m *ct2Model) bin() []byte {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	text := func(s string) {
		put(uint16(len(s) + 1))
		b.WriteString(s + "\x00")
	}
	put(m.version)
	text(m.spec)
	put(uint32(3))
	put(uint32(len(m.variables)))
	for _, name := range slices.Sorted(maps.Keys(m.variables)) {
		v := m.variables[name]
		text(name)
		put(byte(len(v.dims)))
		for _, d := range v.dims {
			put(uint32(d))
		}
		put(v.kind)
		put(uint32(len(v.data)))
		b.Write(v.data)
	}
	put(uint32(1))
	text("decoder/projection/weight")
	text("decoder/embeddings/weight")
	return b.Bytes()
}

// write puts the folder on the disk.
func (m *ct2Model) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "model.bin"), m.bin())
	write(t, filepath.Join(dir, "vocabulary.txt"), []byte(strings.Join(m.tokens, "\n")+"\n"))
	return dir
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// ggmlFile is a ggml file read in full, by code that shares nothing with the writer.
type ggmlFile struct {
	head    [12]int32
	mel     []byte
	tokens  []string
	names   []string
	tensors map[string]ggmlTensor
}

type ggmlTensor struct {
	dims []int32 // as in the file
	kind int32
	data []byte
}

func readGGML(t testing.TB, data []byte) ggmlFile {
	t.Helper()
	r := bytes.NewReader(data)
	get := func(v any) {
		if err := binary.Read(r, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	g := ggmlFile{tensors: make(map[string]ggmlTensor)}
	get(&g.head)
	var mel [2]int32
	get(&mel)
	g.mel = make([]byte, 4*mel[0]*mel[1])
	get(g.mel)
	var count int32
	get(&count)
	for range count {
		var n uint32
		get(&n)
		token := make([]byte, n)
		get(token)
		g.tokens = append(g.tokens, string(token))
	}
	for {
		var h [3]int32
		if err := binary.Read(r, binary.LittleEndian, &h); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		x := ggmlTensor{dims: make([]int32, h[0]), kind: h[2]}
		get(x.dims)
		name := make([]byte, h[1])
		get(name)
		n := int64(1)
		for _, d := range x.dims {
			n *= int64(d)
		}
		switch x.kind {
		case 0:
			n *= 4
		case 1:
			n *= 2
		case 8:
			n = n / 32 * 34
		default:
			t.Fatalf("%s has the type %d", name, x.kind)
		}
		if n > int64(r.Len()) {
			t.Fatalf("%s takes %d bytes of %d", name, n, r.Len())
		}
		x.data = make([]byte, n)
		get(x.data)
		g.names = append(g.names, string(name))
		g.tensors[string(name)] = x
	}
}

// floats gives a tensor's values.
func (x ggmlTensor) floats() []float32 {
	var out []float32
	switch x.kind {
	case 0:
		out = values(x.data, ctFloat32)
	case 1:
		out = values(x.data, ctFloat16)
	case 8:
		for b := x.data; len(b) > 0; b = b[34:] {
			scale := toFloat32(binary.LittleEndian.Uint16(b))
			for _, q := range b[2:34] {
				out = append(out, scale*float32(int8(q)))
			}
		}
	}
	return out
}
