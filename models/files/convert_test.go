package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"steno/internal/testmedia"
	"steno/job"
)

func convert(t *testing.T, dir string, kind Type) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Convert(t.Context(), &b, dir, kind, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestConvertMakesEveryTensor(t *testing.T) {
	for _, c := range []struct {
		name   string
		source elementType
		to     Type
		kind   int32
	}{
		{"halves to f16", ctFloat16, F16, 1},
		{"floats to f16", ctFloat32, F16, 1},
		{"halves to q8_0", ctFloat16, Q8, 2007},
		{"floats to q8_0", ctFloat32, Q8, 2007},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newCT2(tinyShape, c.source)
			data := convert(t, m.write(t), c.to)
			g := readGGML(t, data)
			if want := [12]int32{0x67676d6c, 300, 6, 64, 1, 1, 4, 64, 1, 2, 80, c.kind}; g.head != want {
				t.Errorf("header %v, want %v", g.head, want)
			}
			if len(g.tokens) != 300 || g.tokens[10] != "\n" || g.tokens[255] != "\xff" || g.tokens[256] != "\x00a" {
				t.Errorf("%d tokens: %q", len(g.tokens), g.tokens)
			}
			// Two encoder convolutions and three norms of 2; 4 single ones; encoder block 15, decoder block 24.
			if want := 3 + 2*24 + 2 + 4 + 15 + 2; len(g.tensors) != want || len(g.names) != want {
				t.Errorf("%d tensors, want %d", len(g.tensors), want)
			}
			h, err := readHeader(bytes.NewReader(data))
			if err != nil || h.size() != int64(len(data)) {
				t.Errorf("the header predicts %d bytes of %d, error %v", h.size(), len(data), err)
			}
			checkTensors(t, m, g, c.to)
		})
	}
}

// checkTensors compares some of each kind with the variables that they come from.
func checkTensors(t *testing.T, m *ct2Model, g ggmlFile, to Type) {
	t.Helper()
	matrix := int32(1)
	if to == Q8 {
		matrix = 8
	}
	for _, c := range []struct {
		name, source string
		kind         int32
		dims         []int32
		from         int // where in the variable it begins
	}{
		{"encoder.positional_embedding", "encoder/position_encodings/encodings", 0, []int32{64, 6}, 0},
		{"encoder.conv1.weight", "encoder/conv1/weight", 1, []int32{3, 80, 64}, 0},
		{"encoder.conv2.bias", "encoder/conv2/bias", 0, []int32{1, 64}, 0},
		{"encoder.blocks.0.attn.key.weight", "encoder/layer_0/self_attention/linear_0/weight", matrix, []int32{64, 64}, 64 * 64},
		{"encoder.blocks.0.attn.value.bias", "encoder/layer_0/self_attention/linear_0/bias", 0, []int32{64}, 128},
		{"decoder.blocks.1.cross_attn.value.weight", "decoder/layer_1/attention/linear_1/weight", matrix, []int32{64, 64}, 64 * 64},
		{"decoder.blocks.1.mlp.0.weight", "decoder/layer_1/ffn/linear_0/weight", matrix, []int32{64, 256}, 0},
		{"decoder.blocks.1.mlp_ln.bias", "decoder/layer_1/ffn/layer_norm/beta", 0, []int32{64}, 0},
		{"decoder.token_embedding.weight", "decoder/embeddings/weight", matrix, []int32{64, 300}, 0},
		{"decoder.ln.weight", "decoder/layer_norm/gamma", 0, []int32{64}, 0},
		{"encoder.ln_post.bias", "encoder/layer_norm/beta", 0, []int32{64}, 0},
	} {
		x := g.tensors[c.name]
		if x.kind != c.kind || !slices.Equal(x.dims, c.dims) {
			t.Errorf("%s is of type %d and %v, want %d and %v", c.name, x.kind, x.dims, c.kind, c.dims)
			continue
		}
		v := m.variables[c.source]
		want := values(v.data, elementType(v.kind))[c.from:]
		tolerance := map[int32]float64{0: 0, 1: 1e-3, 8: 2e-2}[c.kind] // of normal random numbers
		for i, got := range x.floats() {
			if math.Abs(float64(got-want[i])) > tolerance*max(1, math.Abs(float64(want[i]))) {
				t.Errorf("%s[%d] is %v, want %v", c.name, i, got, want[i])
				break
			}
		}
	}
}

// The published base, put back into the form of CTranslate2, must convert to the published files: names, order, rounding,
// filters, vocabulary and quantiser in one check.
func TestConvertMakesThePublishedFiles(t *testing.T) {
	data, err := os.ReadFile(testmedia.Model(t, "base"))
	if err != nil {
		t.Fatal(err)
	}
	dir := backToCT2(t, readGGML(t, data))
	for _, c := range []struct {
		name string
		kind Type
	}{{"base", F16}, {"base-q8_0", Q8}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := sha256.New()
			if err := Convert(t.Context(), h, dir, c.kind, nil); err != nil {
				t.Fatal(err)
			}
			want, err := Lookup(c.name)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
				t.Errorf("SHA-256 %s, want %s", got, want.SHA256)
			}
		})
	}
}

// backToCT2 writes the CTranslate2 folder that a ggml file in f16 comes from.
func backToCT2(t *testing.T, g ggmlFile) string {
	t.Helper()
	m := &ct2Model{version: 6, spec: "WhisperSpec", variables: make(map[string]ct2Variable)}
	s := shape{
		vocabulary: int(g.head[1]), audioContext: int(g.head[2]), audioState: int(g.head[3]), audioLayers: int(g.head[5]),
		textContext: int(g.head[6]), textState: int(g.head[7]), textLayers: int(g.head[9]), mel: int(g.head[10]),
	}
	for _, x := range s.layout() {
		raw := g.tensors[x.name].data
		if x.wide() { // in 32 bits here, in 16 there
			raw = appendHalves(nil, values(raw, ctFloat32))
		}
		v, ok := m.variables[x.source]
		if !ok {
			v = ct2Variable{dims: slices.Clone(x.dims), kind: byte(ctFloat16)}
			v.dims[0] *= x.parts
			v.data = make([]byte, len(raw)*x.parts) // keys have no bias: zeros
		}
		copy(v.data[len(raw)*x.part:], raw)
		m.variables[x.source] = v
	}
	letters := gpt2Letters()
	for _, token := range g.tokens {
		var b strings.Builder
		for _, c := range []byte(token) {
			b.WriteRune(letters[c])
		}
		m.tokens = append(m.tokens, b.String())
	}
	for len(m.tokens) < s.vocabulary { // named by CTranslate2, not by ggml
		m.tokens = append(m.tokens, "<|special|>")
	}
	return m.write(t)
}

func TestConvertReadsVocabularyJSON(t *testing.T) {
	m := newCT2(tinyShape, ctFloat16)
	dir := m.write(t)
	want := convert(t, dir, F16)
	if err := os.Remove(filepath.Join(dir, "vocabulary.txt")); err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(m.tokens)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "vocabulary.json"), list)
	if !bytes.Equal(convert(t, dir, F16), want) {
		t.Error("the same vocabulary as JSON makes another file")
	}
}

func TestConvertRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(m *ct2Model)
		in   func(dir string) error
		says string
	}{
		{name: "no folder", in: os.RemoveAll, says: "no such file"},
		{name: "no vocabulary", says: "vocabulary.json", in: func(dir string) error {
			return os.Remove(filepath.Join(dir, "vocabulary.txt"))
		}},
		{name: "cut off", says: "unexpected EOF", in: func(dir string) error {
			return os.Truncate(filepath.Join(dir, "model.bin"), 50000)
		}},
		{name: "empty", says: "EOF", in: func(dir string) error { return os.Truncate(filepath.Join(dir, "model.bin"), 0) }},
		{name: "another model", with: func(m *ct2Model) { m.spec = "TransformerSpec" }, says: "TransformerSpec"},
		{name: "a future version", with: func(m *ct2Model) { m.version = 99 }, says: "version is 99"},
		{name: "quantised", says: "is quantised", with: func(m *ct2Model) {
			v := m.variables["encoder/layer_0/ffn/linear_0/weight"]
			v.kind, v.data = 1, v.data[:len(v.data)/2]
			m.variables["encoder/layer_0/ffn/linear_0/weight"] = v
		}},
		{name: "a tensor less", says: "is missing", with: func(m *ct2Model) { delete(m.variables, "decoder/layer_norm/beta") }},
		{name: "no encoder", says: "dimensions", with: func(m *ct2Model) { delete(m.variables, "encoder/conv1/weight") }},
		{name: "a wrong dimension", says: "the dimensions", with: func(m *ct2Model) {
			m.variables["decoder/layer_norm/beta"] = m.variables["encoder/position_encodings/encodings"]
		}},
		{name: "a token less", with: func(m *ct2Model) { m.tokens = m.tokens[1:] }, says: "299 tokens"},
		{name: "a token of another alphabet", with: func(m *ct2Model) { m.tokens[7] = "日" }, says: "token 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newCT2(tinyShape, ctFloat16)
			if c.with != nil {
				c.with(m)
			}
			dir := m.write(t)
			if c.in != nil {
				if err := c.in(dir); err != nil {
					t.Fatal(err)
				}
			}
			err := Convert(t.Context(), &bytes.Buffer{}, dir, F16, nil)
			var e *job.Error
			if !errors.As(err, &e) || e.Code != "MODEL_SOURCE" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want MODEL_SOURCE with %q", err, c.says)
			}
		})
	}
	var e *job.Error
	if err := Convert(t.Context(), &bytes.Buffer{}, t.TempDir(), "q4_0", nil); !errors.As(err, &e) || e.Code != "MODEL_TYPE" {
		t.Errorf("q4_0: error %v, want MODEL_TYPE", err)
	}
}

func TestConvertEndsWithItsContext(t *testing.T) {
	dir := newCT2(tinyShape, ctFloat16).write(t)
	ctx, cancel := context.WithCancel(t.Context())
	var last, all int64
	err := Convert(ctx, &bytes.Buffer{}, dir, F16, func(done, total int64) {
		if done <= last || done > total {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		if last, all = done, total; done > total/2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || last == all {
		t.Errorf("error %v after %d of %d, want cancelled before the end", err, last, all)
	}
}
