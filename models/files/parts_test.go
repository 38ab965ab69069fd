package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"steno/internal/testmedia"
)

func TestHalvesSurvive(t *testing.T) {
	for h := range 1 << 16 {
		h := uint16(h)
		back := toHalf(toFloat32(h))
		if nan := h&0x7c00 == 0x7c00 && h&0x3ff != 0; nan {
			if !math.IsNaN(float64(toFloat32(h))) || back&0x7c00 != 0x7c00 || back&0x3ff == 0 {
				t.Fatalf("%#04x is no NaN any more: %#04x", h, back)
			}
		} else if back != h {
			t.Fatalf("%#04x became %#04x", h, back)
		}
	}
}

func TestHalfIsTheNearest(t *testing.T) {
	for _, c := range []struct {
		f    float32
		want uint16
	}{
		{1, 0x3c00}, {65504, 0x7bff}, {65519.996, 0x7bff}, {65520, 0x7c00}, {float32(math.Inf(-1)), 0xfc00},
		{0x1p-24, 1}, {0x1p-25, 0}, {0x1.8p-24, 2}, {-0x1p-14, 0x8400}, {1 + 0x1p-11, 0x3c00}, {1 + 0x3p-11, 0x3c02},
	} {
		if got := toHalf(c.f); got != c.want {
			t.Errorf("toHalf(%v) is %#04x, want %#04x", c.f, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float32Range(-65504, 65504).Draw(t, "f")
		h := toHalf(f)
		err := math.Abs(float64(toFloat32(h)) - float64(f))
		for _, other := range []uint16{h - 1, h + 1} {
			if o := math.Abs(float64(toFloat32(other)) - float64(f)); o < err {
				t.Fatalf("toHalf(%v) is %#04x, off by %v; %#04x is off by %v", f, h, err, other, o)
			}
		}
	})
}

func TestQ8KeepsToHalfAStep(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.Float32Range(-1000, 1000), blockValues, blockValues).Draw(t, "x")
		x = append(x, make([]float32, blockValues)...) // a block of zeros has no scale
		b := appendQ8(nil, x)
		if len(b) != 2*blockBytes {
			t.Fatalf("%d bytes", len(b))
		}
		var largest float64
		for _, v := range x {
			largest = max(largest, math.Abs(float64(v)))
		}
		// Half a step, and what the scale lost as a half: 2^-11 of it, or half of the smallest half where it is tiny.
		step := largest / 127
		most := step/2 + 127*max(step*0x1p-11, 0x1p-25) + 1e-6*largest
		for i, got := range (ggmlTensor{kind: 8, data: b}).floats() {
			if math.Abs(float64(got-x[i])) > most {
				t.Fatalf("value %d of %v came back as %v, further than %v", i, x[i], got, most)
			}
		}
	})
}

// The sums are of the mel filters in the published ggml-base.bin, and of the array mel_128 in mel_filters.npz of
// openai-whisper 20250625.
func TestMelFiltersAreWhispers(t *testing.T) {
	for mels, want := range map[int]string{
		80:  "85818f156f7e189453901a515e4726d270d307f976e161cf9403e8caab405498",
		128: "2a5f9822897750e047c85dea37cc268d3be0ecfd23c28a5f10da129d99d05afe",
	} {
		sum := sha256.Sum256(appendFloats(nil, melFilters(mels)))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%d mels: SHA-256 %s, want %s", mels, got, want)
		}
	}
}

// engineFile reads one of the weightless files that lie in the source of whisper.cpp.
func engineFile(t *testing.T, model string) []byte {
	t.Helper()
	build := filepath.Dir(filepath.Dir(testmedia.Model(t, "base")))
	data, err := os.ReadFile(filepath.Join(build, "engine", "src", "models", "for-tests-ggml-"+model+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What Convert writes before the weights equals what the engine's own test files hold, but for tokens that are no whole UTF-8:
// those files have U+FFFD in their place, and would make a model that garbles such text.
func TestHeaderEqualsTheEngines(t *testing.T) {
	theirs := readGGML(t, engineFile(t, "base"))
	data, err := os.ReadFile(testmedia.Model(t, "base"))
	if err != nil {
		t.Fatal(err)
	}
	ours := readGGML(t, data[:1<<20][:bytes.Index(data, []byte("decoder.positional_embedding"))-5*4])
	if ours.head != theirs.head || !bytes.Equal(ours.mel, theirs.mel) || len(ours.tokens) != len(theirs.tokens) {
		t.Errorf("the headers differ: %v and %v, %d and %d tokens", ours.head, theirs.head, len(ours.tokens), len(theirs.tokens))
	}
	garbled := 0
	for id, token := range theirs.tokens {
		if token == ours.tokens[id] {
			continue
		}
		if garbled++; !strings.Contains(token, "\ufffd") || utf8.ValidString(ours.tokens[id]) {
			t.Fatalf("token %d is %q, the engine's %q", id, ours.tokens[id], token)
		}
	}
	if garbled != 1476 {
		t.Errorf("%d tokens of the engine's file are garbled, not 1476: perhaps it can be trusted now", garbled)
	}
}

// Every size in the registry follows from the model's dimensions and its vocabulary.
func TestRegistrySizes(t *testing.T) {
	dims := map[string]struct{ state, audioLayers, textLayers, vocabulary, mel int }{
		"tiny": {384, 4, 4, 51865, 80}, "base": {512, 6, 6, 51865, 80}, "small": {768, 12, 12, 51865, 80},
		"medium": {1024, 24, 24, 51865, 80}, "large-v1": {1280, 32, 32, 51865, 80}, "large-v2": {1280, 32, 32, 51865, 80},
		"large-v3": {1280, 32, 32, 51866, 128}, "large-v3-turbo": {1280, 32, 4, 51866, 128},
		"tiny.en": {384, 4, 4, 51864, 80}, "base.en": {512, 6, 6, 51864, 80}, "small.en": {768, 12, 12, 51864, 80},
		"medium.en": {1024, 24, 24, 51864, 80},
	}
	kinds := map[Type]int32{F16: 1, Q8: 7, "q5_0": 8, "q5_1": 9}
	for _, e := range All() {
		if !e.Transcribes() {
			continue
		}
		d, ok := dims[e.Model]
		if !ok {
			t.Errorf("%s is no model of Whisper", e.Model)
			continue
		}
		tables := int64(headBytes + 8 + 4*d.mel*melBins + 4 + 4*textTokens)
		if e.English() {
			tables += vocabularyBytes(t, "tiny.en")
		} else {
			tables += vocabularyBytes(t, "base")
		}
		h := header{kind: kinds[e.Type], tensors: tables, shape: shape{
			vocabulary: d.vocabulary, audioContext: 1500, audioState: d.state, audioLayers: d.audioLayers,
			textContext: 448, textState: d.state, textLayers: d.textLayers, mel: d.mel,
		}}
		if got := h.size(); got != e.Size {
			t.Errorf("%s has %d bytes by its dimensions, %d in the registry", e.Name, got, e.Size)
		}
	}
}

// vocabularyBytes is the length of all tokens of a model of the build folder.
func vocabularyBytes(t *testing.T, name string) int64 {
	t.Helper()
	if name == "tiny.en" {
		name = "tiny.en-q8_0"
	}
	f, err := os.Open(testmedia.Model(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := readHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	return h.tensors - int64(headBytes+8+4*h.shape.mel*melBins+4+4*textTokens)
}

func TestRegistryIsWellFormed(t *testing.T) {
	seen := make(map[string]bool)
	for _, e := range All() {
		sum, err := hex.DecodeString(e.SHA256)
		if err != nil || len(sum) != sha256.Size || seen[e.Name] || seen[e.SHA256] || e.Size <= 0 || !e.Published() {
			t.Errorf("entry %+v", e)
		}
		seen[e.Name], seen[e.SHA256] = true, true
	}
	if len(seen) != 2*36 {
		t.Errorf("%d entries, want 36", len(seen)/2)
	}
}

func TestLookup(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"base", "base"}, {"Base", "base"}, {"whisper-base", "base"}, {"openai/whisper-base.en", "base.en"},
		{"Systran/faster-whisper-tiny.en", "tiny.en"}, {"ggml-base.bin", "base"}, {"ggml-base-q8_0.bin", "base-q8_0"},
		{"base-f16", "base"}, {"large", "large-v3"}, {"whisper-large-v3", "large-v3"}, {"turbo", "large-v3-turbo"},
		{"whisper-turbo", "large-v3-turbo"}, {"turbo-q5_0", "large-v3-turbo-q5_0"}, {" small ", "small"},
		{"large-q5_0", "large-v3-q5_0"}, {VADName, VADName},
	} {
		if e, err := Lookup(c.name); err != nil || e.Name != c.want || e.File != "ggml-"+c.want+".bin" {
			t.Errorf("Lookup(%q) is %q, %v, want %q", c.name, e.Name, err, c.want)
		}
	}
	for _, name := range []string{"", "huge", "base-q3_k", "../base", "ggml-.bin"} {
		if e, err := Lookup(name); err == nil {
			t.Errorf("Lookup(%q) found %+v", name, e)
		}
	}
}

func FuzzReadIndex(f *testing.F) {
	m := newCT2(tinyShape, ctFloat16)
	for _, name := range []string{"decoder/embeddings/weight", "encoder/conv2/weight"} {
		m.variables[name] = ct2Variable{dims: []int{2, 3}, kind: byte(ctFloat16), data: make([]byte, 12)}
	}
	good := m.bin()
	f.Add(good[:2000])
	f.Add([]byte("\x06\x00\x00\x00\x0c\x00WhisperSpec\x00\x03\x00\x00\x00\xff\xff\x00\x00"))
	f.Add([]byte("\x06\x00\x00\x00\x0c\x00WhisperSpec\x00\x03\x00\x00\x00\x01\x00\x00\x00" +
		"\x02\x00a\x00\x02\x04\x00\x00\x00\x01\x00\x00\x00\x04\x08\x00\x00\x0012345678"))
	f.Add([]byte("\x06\x00\x00\x00\x0c\x00WhisperSpec\x00\x03\x00\x00\x00\x01\x00\x00\x00" +
		"\x02\x00a\x00\x04\x00\x00\x00\x00\xff\xff\xff\x7f\xff\xff\xff\x7f\xff\xff\xff\x7f\x04\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size := int64(len(data))
		index, err := readIndex(bytes.NewReader(data), size)
		if err != nil {
			return
		}
		for name, v := range index {
			if v.offset < 0 || v.size < 0 || v.offset+v.size > size || v.elements() < 0 || v.elements() > size {
				t.Errorf("%q: %+v in a file of %d bytes", name, v, size)
			}
		}
		if s, err := shapeOf(index); err == nil {
			s.layout()
		}
	})
}

func FuzzReadHeader(f *testing.F) {
	head := make([]byte, 0, 1<<17)
	head = binary.LittleEndian.AppendUint32(head, magic)
	for _, n := range tinyShape.header(fileF16) {
		head = binary.LittleEndian.AppendUint32(head, uint32(n))
	}
	f.Add(head)
	head = binary.LittleEndian.AppendUint32(head, 80)
	head = binary.LittleEndian.AppendUint32(head, melBins)
	head = append(head, make([]byte, 4*80*melBins)...)
	f.Add(append(head, "\x01\x00\x00\x00\x02\x00\x00\x00ab"...))
	f.Add(append(head, "\xff\xff\xff\xff"...))
	f.Add(append(head, "\x01\x00\x00\x00\xff\xff\xff\xff"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		foreign(data[:min(64, len(data))])
		h, err := readHeader(bytes.NewReader(data))
		if err == nil && (h.tensors > int64(len(data)) || h.size() < h.tensors) {
			t.Errorf("%d bytes hold tensors from %d to %d", len(data), h.tensors, h.size())
		}
	})
}

func ExampleLookup() {
	e, err := Lookup("whisper-turbo")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Name, e.File, e.Size)
	// Output: large-v3-turbo ggml-large-v3-turbo.bin 1624555275
}
