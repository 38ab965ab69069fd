package voices

import (
	"archive/zip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// maxPickle bounds the description of the tensors in bytes: that of CAM++'s 937 takes 133,035.
const maxPickle = 1 << 20

// checkpoint is a file that PyTorch's torch.save has made of a state dict: a zip archive with a pickle, which describes the
// tensors, and a record with the values of each.
type checkpoint struct {
	records map[string]*zip.File // by their names without the archive's folder
	tensors map[string]stored
	left    int64 // bytes that may still be read: records may overlap, and each claims a size
}

func openCheckpoint(r io.ReaderAt, size int64) (*checkpoint, error) {
	archive, err := zip.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{records: make(map[string]*zip.File, len(archive.File)), left: size}
	for _, f := range archive.File {
		_, name, _ := strings.Cut(f.Name, "/")
		c.records[name] = f
	}
	pickle, err := c.read("data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	c.tensors, err = readPickle(pickle)
	return c, err
}

// floats reads the tensor of that name, which has to have these dimensions. The last of them runs fastest.
func (c *checkpoint) floats(name string, dims ...int) ([]float32, error) {
	n := 1
	for _, d := range dims {
		n *= d
	}
	t, ok := c.tensors[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("the tensor %s is missing", name)
	case t.class != "torch.FloatStorage":
		return nil, fmt.Errorf("%s is a %.40s, not of 32-bit floats", name, t.class)
	case !slices.Equal(t.dims, dims):
		return nil, fmt.Errorf("%s has the dimensions %v, not %v", name, t.dims, dims)
	case !t.whole():
		return nil, fmt.Errorf("%s is a part of a storage, or not in order", name)
	}
	raw, err := c.read("data/"+t.key, int64(4*n))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(raw) != 4*n {
		return nil, fmt.Errorf("%s has %d bytes, not %d", name, len(raw), 4*n)
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return x, nil
}

// whole tells whether a tensor is its storage from end to end.
func (t stored) whole() bool {
	n := 1
	for i, d := range slices.Backward(t.dims) {
		if d != 1 && (i >= len(t.strides) || t.strides[i] != n) {
			return false
		}
		n *= d
	}
	return t.offset == 0 && t.elements == n
}

// read gives a record of at most so many bytes, after it has held it against its checksum.
func (c *checkpoint) read(name string, most int64) ([]byte, error) {
	f, ok := c.records[name]
	if !ok {
		return nil, fmt.Errorf("the record %.80q is missing", name)
	}
	if most = min(most, c.left); f.UncompressedSize64 > uint64(most) {
		return nil, fmt.Errorf("the record %.80q claims %d bytes, where %d can be", name, f.UncompressedSize64, most)
	}
	c.left -= int64(f.UncompressedSize64)
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("the record %.80q: %w", name, err)
	}
	defer r.Close()
	data := make([]byte, f.UncompressedSize64)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("the record %.80q: %w", name, err)
	}
	// It is at the end that the checksum is held against the data.
	if n, err := r.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the record %.80q is longer than it claims, or damaged: %w", name, err)
	}
	return data, nil
}
