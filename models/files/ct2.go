package files

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// The bounds of what is believed of a CTranslate2 header. large-v3 has 1,100 variables, names below 80 bytes.
const (
	maxVariables = 1 << 14
	maxRank      = 4
)

// errForeign marks a file that is not of the form its reader expects.
var errForeign = errors.New("not the expected file format")

// elementType is CTranslate2's number for the type of a variable's values.
type elementType byte

const (
	ctFloat32 elementType = 0
	ctInt16   elementType = 2
	ctFloat16 elementType = 4
)

func (t elementType) size() int64 {
	if t == ctFloat32 {
		return 4
	}
	return 2
}

// variable says where in the file the values of a variable lie.
type variable struct {
	dims   []int
	kind   elementType
	offset int64 // bytes from the file's start
	size   int64 // bytes
}

// elements is the product of the dimensions.
func (v variable) elements() int64 {
	n := int64(1)
	for _, d := range v.dims {
		n *= int64(d)
	}
	return n
}

// indexReader reads the fields of a header and keeps count of the position. After its first error it reads nothing more.
type indexReader struct {
	r    *bufio.Reader
	pos  int64
	size int64
	err  error
}

func (x *indexReader) bytes(n int) []byte {
	b := make([]byte, n)
	if x.err == nil {
		var got int
		got, x.err = io.ReadFull(x.r, b)
		x.pos += int64(got)
	}
	return b
}

func (x *indexReader) u8() byte    { return x.bytes(1)[0] }
func (x *indexReader) u16() uint16 { return binary.LittleEndian.Uint16(x.bytes(2)) }
func (x *indexReader) u32() uint32 { return binary.LittleEndian.Uint32(x.bytes(4)) }

// text reads a length of two bytes, then that many with a final NUL.
func (x *indexReader) text() string {
	b := x.bytes(int(x.u16()))
	if x.err == nil && (len(b) == 0 || b[len(b)-1] != 0) {
		x.err = errForeign
	}
	if x.err != nil {
		return ""
	}
	return string(b[:len(b)-1])
}

func (x *indexReader) skip(n int64) {
	if x.err != nil {
		return
	}
	if n > x.size-x.pos {
		x.err = io.ErrUnexpectedEOF
		return
	}
	var done int
	for n > 0 && x.err == nil {
		done, x.err = x.r.Discard(int(min(n, math.MaxInt32)))
		x.pos += int64(done)
		n -= int64(done)
	}
}

// readIndex lists the variables of a CTranslate2 model.bin of size bytes. It reads headers only and allocates in proportion to
// them, never by what they claim about the data.
func readIndex(r io.ReaderAt, size int64) (map[string]variable, error) {
	x := &indexReader{r: bufio.NewReader(io.NewSectionReader(r, 0, size)), size: size}
	version := x.u32()
	if x.err != nil || version < 2 || version > 6 {
		return nil, fmt.Errorf("its version is %d: %w", version, errors.Join(errForeign, x.err))
	}
	if spec := x.text(); x.err != nil || spec != "WhisperSpec" {
		return nil, fmt.Errorf("it holds a %.40q, not a WhisperSpec: %w", spec, errForeign)
	}
	x.u32() // the revision of WhisperSpec only adds variables that ggml has no place for
	count := x.u32()
	if x.err == nil && count > maxVariables {
		return nil, fmt.Errorf("it claims %d variables: %w", count, errForeign)
	}
	index := make(map[string]variable)
	for range count {
		name, v := x.variable()
		if x.err != nil {
			return nil, fmt.Errorf("variable %d of %d: %w", len(index)+1, count, x.err)
		}
		index[name] = v
	}
	return index, nil
}

func (x *indexReader) variable() (string, variable) {
	var v variable
	name := x.text()
	rank := x.u8()
	if rank > maxRank {
		x.err = errors.Join(x.err, errForeign)
	}
	if x.err != nil {
		return "", v
	}
	elements := int64(1)
	for range rank {
		d := x.u32()
		if d > math.MaxInt32 || elements*int64(d) > x.size {
			x.err = errors.Join(x.err, errForeign)
			return "", v
		}
		elements *= int64(d)
		v.dims = append(v.dims, int(d))
	}
	v.kind = elementType(x.u8())
	v.size = int64(x.u32())
	v.offset = x.pos
	x.skip(v.size)
	return name, v
}
