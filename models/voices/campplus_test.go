package voices

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"steno/internal/testmedia"
)

// weights reads the file that CAM++ is published as.
func weights(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(testmedia.Voices(t, "campplus.pt"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEmbedder(t *testing.T) {
	file := weights(t)
	model, err := Embedder(file)
	if err != nil {
		t.Fatal(err)
	}
	m := message(t, model)
	if v := m.number(modelIR); v != 8 {
		t.Errorf("the version of the format is %d", v)
	}
	if v := m.message(t, modelOpset).number(opsetVersion); v != 17 {
		t.Errorf("the version of the operators is %d", v)
	}
	g := m.message(t, modelGraph)
	for _, c := range []struct {
		field protowire.Number
		name  string
		dims  []any
	}{
		{graphInput, "features", []any{"N", "T", uint64(80)}},
		{graphOutput, "embedding", []any{"N", uint64(192)}},
	} {
		value := g.message(t, c.field)
		tensor := value.message(t, valueType).message(t, typeTensor)
		var dims []any
		for _, d := range tensor.message(t, tensorShape)[shapeDim] {
			dim := message(t, d.([]byte))
			if name := dim[dimName]; name != nil {
				dims = append(dims, string(name[0].([]byte)))
			} else {
				dims = append(dims, dim[dimValue][0])
			}
		}
		if name := value.text(valueName); name != c.name || !slices.Equal(dims, c.dims) || tensor.number(tensorElement) != 1 {
			t.Errorf("%s has the dimensions %v, want %s with %v", name, dims, c.name, c.dims)
		}
	}

	known, values := map[string]bool{"features": true}, 0
	for _, b := range g[graphWeight] {
		w := message(t, b.([]byte))
		n := 1
		for _, d := range w[weightDim] {
			n *= int(d.(uint64))
		}
		if got := len(w[weightData][0].([]byte)); got != 4*n || w.number(weightType) != 1 || known[w.text(weightName)] {
			t.Errorf("the weights %s of %v have %d bytes", w.text(weightName), w[weightDim], got)
		}
		known[w.text(weightName)] = true
		values += n
	}
	if want := 6_907_488; values != want {
		t.Errorf("%d weights, want %d", values, want)
	}
	used, ops := make(map[string]bool), make(map[string]int)
	for _, b := range g[graphNode] {
		node := message(t, b.([]byte))
		for _, in := range node[nodeInput] {
			if !known[string(in.([]byte))] {
				t.Errorf("a %s takes %s, which nothing before makes", node.text(nodeOp), in)
			}
			used[string(in.([]byte))] = true
		}
		known[node.text(nodeOutput)] = true
		ops[node.text(nodeOp)]++
	}
	for name := range known {
		if !used[name] && name != "embedding" {
			t.Errorf("nothing uses %s", name)
		}
	}
	// 13 convolutions before the trunk, 4 in each of its 52 layers, 3 between the blocks, 1 after them.
	if ops["Conv"] != 13+4*52+3+1 || ops["BatchNormalization"] != 52+3 || ops["Concat"] != 52+1 || ops["Relu"] != 12+3*52+3 {
		t.Errorf("the operators are %v", ops)
	}
	again, err := Embedder(file)
	if err != nil || !bytes.Equal(model, again) {
		t.Errorf("the same weights give another model, error %v", err)
	}
}

func TestFold(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rnd.NormFloat64())
		}
		return x
	}
	v := norm{mean: draw(3), scale: draw(3), shift: draw(3), variance: []float32{0, 0.5, 900}}
	w, bias, x := draw(12), draw(3), draw(4)
	sum := func(row int) float64 {
		s := float64(bias[row])
		for j := range x {
			s += float64(w[4*row+j]) * float64(x[j])
		}
		return s
	}
	var want [3]float64
	for i := range want {
		want[i] = (sum(i)-float64(v.mean[i]))/math.Sqrt(float64(v.variance[i])+1e-5)*float64(v.scale[i]) + float64(v.shift[i])
	}
	v.fold(w, bias)
	for i := range want {
		if got := sum(i); math.Abs(got-want[i]) > 1e-5*(1+math.Abs(want[i])) {
			t.Errorf("row %d gives %v, want %v", i, got, want[i])
		}
	}
}

func TestEmbedderRefuses(t *testing.T) {
	file := weights(t)
	c, err := openCheckpoint(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	record := func(name string) string { return "data/" + c.tensors[name].key }
	replace := func(old, with string) func(*testing.T, []byte) []byte {
		return func(t *testing.T, b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("%q is not in the record", old)
			}
			return bytes.Replace(b, []byte(old), []byte(with), 1)
		}
	}
	drop := func(*testing.T, []byte) []byte { return nil }
	for _, c := range []struct {
		name, record string
		change       func(*testing.T, []byte) []byte
		want         string
	}{
		{"a missing tensor", "data.pkl", replace("head.bn1.weight", "head.bn1.height"), "the tensor head.bn1.weight is missing"},
		{"a missing tensor without a scale", "data.pkl", replace("xvector.dense.nonlinear.batchnorm.running_mean", "xvector.dense.nonlinear.batchnorm.running_moan"), "xvector.dense.nonlinear.batchnorm.running_mean is missing"},
		{"another type", "data.pkl", replace("torch\nFloatStorage", "torch\nHalfStorage"), "head.conv1.weight is a torch.HalfStorage, not of 32-bit floats"},
		{"another shape", "data.pkl", replace("K\x20K\x01K\x03K\x03t", "K\x20K\x01K\x03K\x02t"), "head.conv1.weight has the dimensions [32 1 3 2], not [32 1 3 3]"},
		{"a part", "data.pkl", replace("QK\x00", "QK\x01"), "head.conv1.weight is a part of a storage"},
		{"another order", "data.pkl", replace("K\x09K\x09K\x03K\x01t", "K\x09K\x09K\x01K\x03t"), "head.conv1.weight is a part of a storage, or not in order"},
		{"a foreign function", "data.pkl", replace("torch._utils\n_rebuild_tensor_v2", "os\nsystem"), `at byte 30 of the pickle: "os.system" has no place in a state dict`},
		{"no pickle", "data.pkl", drop, `the record "data.pkl" is missing`},
		{"no values", record("head.bn1.bias"), drop, `head.bn1.bias: the record "data/`},
		{"few values", record("head.bn1.bias"), func(_ *testing.T, b []byte) []byte { return b[4:] }, "head.bn1.bias has 124 bytes, not 128"},
		{"many values", record("head.bn1.bias"), func(_ *testing.T, b []byte) []byte { return append(b, 0) }, `claims 129 bytes, where 128 can be`},
		{"a negative variance", record("head.bn1.running_var"), func(_ *testing.T, b []byte) []byte {
			binary.LittleEndian.PutUint32(b[4:], math.Float32bits(-1))
			return b
		}, "head.bn1 has a variance of -1"},
		{"no number", record("head.bn1.running_var"), func(_ *testing.T, b []byte) []byte {
			binary.LittleEndian.PutUint32(b[4:], math.Float32bits(float32(math.NaN())))
			return b
		}, "head.bn1 has a variance of NaN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := rewrite(t, file, c.record, c.change)
			model, err := Embedder(data)
			if err == nil || model != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}

	values := bytes.Index(file, []byte("archive/data/"+c.tensors["head.conv2.weight"].key)) + 1000
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "not a valid zip file"},
		{"the first half", file[:len(file)/2], "not a valid zip file"},
		{"all but a byte", file[:len(file)-1], "not a valid zip file"},
		{"the second half", file[len(file)/2:], "zip: "},
		{"a damaged value", slices.Concat(file[:values], []byte{file[values] ^ 1}, file[values+1:]), "head.conv2.weight: the record"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Embedder(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// rewrite copies an archive, with one record changed. A record that becomes nil is left out.
func rewrite(t *testing.T, file []byte, record string, change func(*testing.T, []byte) []byte) []byte {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	records := make(map[string][]byte)
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(f.Name, "/")
		if name == record {
			if data = change(t, data); data == nil {
				continue
			}
		}
		records[name] = data
	}
	return pack(t, records)
}

// pack makes an archive like PyTorch's.
func pack(t testing.TB, records map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(records)) {
		f, err := w.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
		if err == nil {
			_, err = f.Write(records[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fields are those of a message: numbers as uint64, the rest as bytes.
type fields map[protowire.Number][]any

func message(t *testing.T, b []byte) fields {
	t.Helper()
	m := make(fields)
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		var v any
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			v, n = protowire.ConsumeFixed32(b)
		default:
			v, n = protowire.ConsumeBytes(b)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		m[field] = append(m[field], v)
	}
	return m
}

func (m fields) number(field protowire.Number) uint64 { return m[field][0].(uint64) }
func (m fields) text(field protowire.Number) string   { return string(m[field][0].([]byte)) }

func (m fields) message(t *testing.T, field protowire.Number) fields {
	t.Helper()
	if len(m[field]) != 1 {
		t.Fatalf("field %d is there %d times", field, len(m[field]))
	}
	return message(t, m[field][0].([]byte))
}
