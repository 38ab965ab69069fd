package voices

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// weights are the tensors of a network as PyTorch saves them: a zip with a pickled dictionary and a file for each tensor.
type weights struct {
	zip    *zip.Reader
	folder string
	all    *types.Dict
	err    error // the first of tensor
}

// tensor is what the pickle says of one: where its numbers are.
type tensor struct {
	file  string
	count int
	dims  []int
}

const maxPickle = 1 << 20 // bytes; CAM++ has an eighth

func readWeights(saved []byte) (*weights, error) {
	z, err := zip.NewReader(bytes.NewReader(saved), int64(len(saved)))
	if err != nil {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	w := &weights{zip: z}
	for _, f := range z.File {
		if folder, ok := strings.CutSuffix(f.Name, "/data.pkl"); ok && f.UncompressedSize64 <= maxPickle {
			w.folder = folder
		}
	}
	data, err := w.read("data.pkl")
	if err != nil {
		return nil, err
	}
	u := pickle.NewUnpickler(bytes.NewReader(data))
	u.FindClass, u.PersistentLoad = class, storage
	found, err := u.Load()
	if err != nil {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	all, ok := found.(*types.Dict)
	if !ok {
		return nil, fmt.Errorf("read weights: %T, want a dictionary of tensors", found)
	}
	w.all = all
	return w, nil
}

func (w *weights) read(name string) ([]byte, error) {
	f, err := w.zip.Open(w.folder + "/" + name)
	if err != nil {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	defer f.Close()
	return io.ReadAll(f)
}

// class finds what a pickle may call: a pickle is a program, and nothing else of Python is needed for tensors.
func class(module, name string) (any, error) {
	switch module + "." + name {
	case "collections.OrderedDict":
		return &types.OrderedDictClass{}, nil
	case "torch._utils._rebuild_tensor_v2":
		return rebuild{}, nil
	case "torch.FloatStorage", "torch.LongStorage":
		return name, nil
	}
	return nil, fmt.Errorf("the file names %s.%s, which no weights need", module, name)
}

// storage finds the numbers that a pickle names: ("storage", class, key, device, count).
func storage(id any) (any, error) {
	t, ok := id.(*types.Tuple)
	if !ok || t.Len() < 5 {
		return nil, fmt.Errorf("the file names no storage: %v", id)
	}
	kind, _ := t.Get(1).(string)
	key, _ := t.Get(2).(string)
	count, _ := t.Get(4).(int)
	if kind != "FloatStorage" {
		return tensor{}, nil // counts of batches, which nobody asks for
	}
	return tensor{file: "data/" + key, count: count}, nil
}

// rebuild is PyTorch's function that makes a tensor of a storage: (storage, offset, size, stride, …).
type rebuild struct{}

func (rebuild) Call(args ...any) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("a tensor of %d parts", len(args))
	}
	t, ok := args[0].(tensor)
	size, sized := args[2].(*types.Tuple)
	if !ok || !sized {
		return nil, fmt.Errorf("a tensor of %T and %T", args[0], args[2])
	}
	n := 1
	for i := range size.Len() {
		d, _ := size.Get(i).(int)
		t.dims = append(t.dims, d)
		n *= d
	}
	if offset, _ := args[1].(int); t.file != "" && (offset != 0 || n != t.count) {
		return nil, fmt.Errorf("a tensor of shape %v is a part of %d numbers", t.dims, t.count)
	}
	return t, nil
}

// tensor returns the numbers of one tensor, which must have the dimensions. After an error, which err keeps, it returns zeros.
func (w *weights) tensor(name string, dims ...int) []float32 {
	n := 1
	for _, d := range dims {
		n *= d
	}
	out := make([]float32, n)
	if w.err == nil {
		w.err = w.fill(out, name, dims)
	}
	return out
}

func (w *weights) fill(out []float32, name string, dims []int) error {
	v, ok := w.all.Get(name)
	t, is := v.(tensor)
	if !ok || !is || fmt.Sprint(t.dims) != fmt.Sprint(dims) {
		return fmt.Errorf("read weights: there is no tensor %s of shape %v", name, dims)
	}
	raw, err := w.read(t.file)
	if err != nil {
		return err
	}
	if len(raw) != 4*len(out) {
		return fmt.Errorf("read weights: tensor %s has %d bytes, want %d", name, len(raw), 4*len(out))
	}
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return nil
}
