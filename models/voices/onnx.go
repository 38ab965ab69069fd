package voices

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// The versions that a model is written for: any ONNX Runtime since 1.13 reads them.
const (
	irVersion = 8
	opset     = 17
)

// ONNX's numbers: of the fields of its messages that are used here, and of types.
const (
	modelIR, modelProducer, modelGraph, modelOpset             = 1, 2, 7, 8
	opsetVersion                                               = 2
	graphNode, graphName, graphWeight, graphInput, graphOutput = 1, 2, 5, 11, 12
	nodeInput, nodeOutput, nodeOp, nodeAttribute               = 1, 2, 4, 5
	attrName, attrFloat, attrInt, attrFloats, attrInts         = 1, 2, 3, 7, 8
	attrType                                                   = 20
	weightDim, weightType, weightName, weightData              = 1, 2, 8, 9
	valueName, valueType                                       = 1, 2
	typeTensor, tensorElement, tensorShape                     = 1, 1, 2
	shapeDim, dimValue, dimName                                = 1, 1, 2

	kindFloat, kindInt, kindFloats, kindInts = 1, 2, 6, 7 // of attributes
	elementFloat                             = 1
)

// graph collects an ONNX model: its operators, in the order in which they run, and its weights. A value is known by the name that
// the method that makes it returns.
type graph struct {
	nodes, weights []byte
	values         int
}

// attribute is an encoded setting of an operator.
type attribute []byte

func (g *graph) name() string {
	g.values++
	return "v" + strconv.Itoa(g.values)
}

// node adds an operator of one result.
func (g *graph) node(op string, inputs []string, attrs ...attribute) string {
	out := g.name()
	g.nodeTo(out, op, inputs, attrs...)
	return out
}

// nodeTo is node for a result that has a name: an output of the model.
func (g *graph) nodeTo(out, op string, inputs []string, attrs ...attribute) {
	var b []byte
	for _, in := range inputs {
		b = appendText(b, nodeInput, in)
	}
	b = appendText(b, nodeOutput, out)
	b = appendText(b, nodeOp, op)
	for _, a := range attrs {
		b = appendBytes(b, nodeAttribute, a)
	}
	g.nodes = appendBytes(g.nodes, graphNode, b)
}

// tensor adds weights, the last dimension running fastest.
func (g *graph) tensor(x []float32, dims ...int) string {
	name := g.name()
	var head []byte
	for _, d := range dims {
		head = appendNumber(head, weightDim, int64(d))
	}
	head = appendNumber(head, weightType, elementFloat)
	head = appendText(head, weightName, name)
	head = protowire.AppendTag(head, weightData, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(4*len(x)))
	g.weights = protowire.AppendTag(g.weights, graphWeight, protowire.BytesType)
	g.weights = protowire.AppendVarint(g.weights, uint64(len(head)+4*len(x)))
	g.weights = append(g.weights, head...)
	for _, v := range x {
		g.weights = binary.LittleEndian.AppendUint32(g.weights, math.Float32bits(v))
	}
	return name
}

// number adds a whole number as a scalar, numbers a list of them: the shapes and axes that operators take as inputs.
func (g *graph) number(v int64) string { return g.node("Constant", nil, integer("value_int", v)) }
func (g *graph) numbers(v ...int64) string {
	return g.node("Constant", nil, integers("value_ints", v...))
}
func (g *graph) decimals(v ...float32) string {
	return g.node("Constant", nil, floats("value_floats", v...))
}

// port is an input or output of a model, in 32-bit floats. A dimension is a number, or a name where it may be any.
type port struct {
	name string
	dims []string
}

// model encodes all that was added.
func (g *graph) model(name string, in, out port) []byte {
	tail := appendText(nil, graphName, name)
	tail = appendBytes(tail, graphInput, in.encode())
	tail = appendBytes(tail, graphOutput, out.encode())
	b := appendNumber(nil, modelIR, irVersion)
	b = appendText(b, modelProducer, "steno")
	b = appendBytes(b, modelOpset, appendNumber(nil, opsetVersion, opset))
	b = protowire.AppendTag(b, modelGraph, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(g.nodes)+len(g.weights)+len(tail)))
	return slices.Concat(b, g.nodes, g.weights, tail)
}

func (p port) encode() []byte {
	var shape []byte
	for _, d := range p.dims {
		dim := appendText(nil, dimName, d)
		if n, err := strconv.ParseInt(d, 10, 64); err == nil {
			dim = appendNumber(nil, dimValue, n)
		}
		shape = appendBytes(shape, shapeDim, dim)
	}
	tensor := appendNumber(nil, tensorElement, elementFloat)
	tensor = appendBytes(tensor, tensorShape, shape)
	b := appendText(nil, valueName, p.name)
	return appendBytes(b, valueType, appendBytes(nil, typeTensor, tensor))
}

func integer(name string, v int64) attribute {
	return appendNumber(attributeOf(name, kindInt), attrInt, v)
}

func integers(name string, v ...int64) attribute {
	b := attributeOf(name, kindInts)
	for _, x := range v {
		b = appendNumber(b, attrInts, x)
	}
	return b
}

func float(name string, v float32) attribute {
	return appendFloat(attributeOf(name, kindFloat), attrFloat, v)
}

func floats(name string, v ...float32) attribute {
	b := attributeOf(name, kindFloats)
	for _, x := range v {
		b = appendFloat(b, attrFloats, x)
	}
	return b
}

func attributeOf(name string, kind int64) []byte {
	return appendNumber(appendText(nil, attrName, name), attrType, kind)
}

func appendNumber(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func appendFloat(b []byte, field protowire.Number, v float32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(b, field, protowire.Fixed32Type), math.Float32bits(v))
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}
