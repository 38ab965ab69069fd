package voices

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// graph writes an ONNX model (onnx.proto, IR version 8, operators of version 17): nodes in the order in which they are computed.
type graph struct {
	body []byte // fields of GraphProto
	n    int    // values that have been named
}

// Numbers of fields and types in onnx.proto.
const (
	modelIR, modelGraph, modelOpset                      = 1, 7, 8
	graphNode, graphName, graphTensor, graphIn, graphOut = 1, 2, 5, 11, 12
	nodeIn, nodeOut, nodeOp, nodeAttribute               = 1, 2, 4, 5
	attributeName, attributeInt, attributeInts           = 1, 3, 8
	attributeType, attributeIsInt, attributeIsInts       = 20, 2, 7
	tensorDims, tensorType, tensorName, tensorRaw        = 1, 2, 8, 9
	typeFloat, typeInt64                                 = 1, 7
)

// attribute is an integer or a list of them.
type attribute struct {
	name string
	int  int64
	ints []int64
}

func ints(name string, values ...int64) attribute { return attribute{name: name, ints: values} }

// op adds a node and returns the name of what it computes.
func (g *graph) op(kind string, in []string, attributes ...attribute) string {
	out := g.name()
	g.node(kind, in, out, attributes...)
	return out
}

func (g *graph) name() string {
	g.n++
	return fmt.Sprintf("v%d", g.n)
}

func (g *graph) node(kind string, in []string, out string, attributes ...attribute) {
	var b []byte
	for _, name := range in {
		b = appendString(b, nodeIn, name)
	}
	b = appendString(appendString(b, nodeOut, out), nodeOp, kind)
	for _, a := range attributes {
		m := appendString(nil, attributeName, a.name)
		if a.ints == nil {
			m = appendInt(appendInt(m, attributeInt, a.int), attributeType, attributeIsInt)
		} else {
			for _, v := range a.ints {
				m = appendInt(m, attributeInts, v)
			}
			m = appendInt(m, attributeType, attributeIsInts)
		}
		b = appendMessage(b, nodeAttribute, m)
	}
	g.body = appendMessage(g.body, graphNode, b)
}

// floats adds a constant and returns its name.
func (g *graph) floats(values []float32, dims ...int) string {
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return g.tensor(typeFloat, raw, dims)
}

// integers adds a constant list and returns its name.
func (g *graph) integers(values ...int64) string {
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return g.tensor(typeInt64, raw, []int{len(values)})
}

func (g *graph) tensor(kind int64, raw []byte, dims []int) string {
	var b []byte
	for _, d := range dims {
		b = appendInt(b, tensorDims, int64(d))
	}
	name := g.name()
	b = appendString(appendInt(b, tensorType, kind), tensorName, name)
	b = protowire.AppendBytes(protowire.AppendTag(b, tensorRaw, protowire.BytesType), raw)
	g.body = appendMessage(g.body, graphTensor, b)
	return name
}

// value declares an input or an output of float32. A dimension of 0 is free.
func (g *graph) value(field protowire.Number, name string, dims ...int64) {
	var shape []byte
	for i, d := range dims {
		dim := appendInt(nil, 1, d)
		if d == 0 {
			dim = appendString(nil, 2, fmt.Sprintf("%s_%d", name, i))
		}
		shape = appendMessage(shape, 1, dim)
	}
	tensor := appendMessage(appendInt(nil, 1, typeFloat), 2, shape)
	g.body = appendMessage(g.body, field, appendMessage(appendString(nil, 1, name), 2, appendMessage(nil, 1, tensor)))
}

// model returns the finished model.
func (g *graph) model(name string) []byte {
	body := appendString(g.body, graphName, name)
	b := appendMessage(appendInt(nil, modelIR, 8), modelGraph, body)
	return appendMessage(b, modelOpset, appendInt(nil, 2, 17))
}

func appendInt(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendMessage(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}
