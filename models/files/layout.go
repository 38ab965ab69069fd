package files

import (
	"fmt"
	"strconv"
)

// shape holds the hyperparameters of a Whisper model.
type shape struct {
	vocabulary                             int
	audioContext, audioState, audioHeads   int
	audioLayers                            int
	textContext, textState, textHeads, mel int
	textLayers                             int
}

// header gives the eleven numbers after the magic of a ggml file; the last is the file's type.
func (s shape) header(kind int32) []int32 {
	return []int32{
		int32(s.vocabulary), int32(s.audioContext), int32(s.audioState), int32(s.audioHeads), int32(s.audioLayers),
		int32(s.textContext), int32(s.textState), int32(s.textHeads), int32(s.textLayers), int32(s.mel), kind,
	}
}

// tensor is one tensor of a ggml file and the part of a CTranslate2 variable that it is made of.
type tensor struct {
	name   string
	source string
	dims   []int // rows first; the file holds them reversed
	part   int   // which of parts equal parts of the variable, along its first dimension
	parts  int
}

func (t tensor) elements() int64 { return variable{dims: t.dims}.elements() }

// wide tells whether the tensor stays in 32-bit floats in every kind of file.
func (t tensor) wide() bool {
	switch t.name {
	case "encoder.conv1.bias", "encoder.conv2.bias", "encoder.positional_embedding", "decoder.positional_embedding":
		return true
	}
	return len(t.dims) < 2
}

// layout gives every tensor in the order of the files that whisper.cpp publishes, which is the order in OpenAI's checkpoints.
func (s shape) layout() []tensor {
	l := &layouter{}
	l.add("decoder.positional_embedding", "decoder/position_encodings/encodings", s.textContext, s.textState)
	l.add("encoder.positional_embedding", "encoder/position_encodings/encodings", s.audioContext, s.audioState)
	l.add("decoder.token_embedding.weight", "decoder/embeddings/weight", s.vocabulary, s.textState)
	for i := range s.textLayers {
		l.block("decoder", i, s.textState, true)
	}
	l.norm("decoder.ln", "decoder/layer_norm", s.textState)
	for i, in := range []int{s.mel, s.audioState} {
		n := strconv.Itoa(i + 1)
		l.add("encoder.conv"+n+".weight", "encoder/conv"+n+"/weight", s.audioState, in, 3)
		l.add("encoder.conv"+n+".bias", "encoder/conv"+n+"/bias", s.audioState, 1)
	}
	for i := range s.audioLayers {
		l.block("encoder", i, s.audioState, false)
	}
	l.norm("encoder.ln_post", "encoder/layer_norm", s.audioState)
	return l.tensors
}

type layouter struct{ tensors []tensor }

func (l *layouter) add(name, source string, dims ...int) {
	l.tensors = append(l.tensors, tensor{name: name, source: source, dims: dims, parts: 1})
}

func (l *layouter) part(name, source string, part, parts int, dims ...int) {
	l.tensors = append(l.tensors, tensor{name: name, source: source, dims: dims, part: part, parts: parts})
}

func (l *layouter) norm(name, source string, n int) {
	l.add(name+".weight", source+"/gamma", n)
	l.add(name+".bias", source+"/beta", n)
}

func (l *layouter) linear(name, source string, out, in int) {
	l.add(name+".weight", source+"/weight", out, in)
	l.add(name+".bias", source+"/bias", out)
}

func (l *layouter) block(side string, layer, n int, cross bool) {
	name := fmt.Sprintf("%s.blocks.%d.", side, layer)
	source := fmt.Sprintf("%s/layer_%d/", side, layer)
	l.norm(name+"mlp_ln", source+"ffn/layer_norm", n)
	l.linear(name+"mlp.0", source+"ffn/linear_0", 4*n, n)
	l.linear(name+"mlp.2", source+"ffn/linear_1", n, 4*n)

	self := source + "self_attention/"
	l.norm(name+"attn_ln", self+"layer_norm", n)
	l.part(name+"attn.query.weight", self+"linear_0/weight", 0, 3, n, n)
	l.part(name+"attn.query.bias", self+"linear_0/bias", 0, 3, n)
	l.part(name+"attn.key.weight", self+"linear_0/weight", 1, 3, n, n)
	l.part(name+"attn.value.weight", self+"linear_0/weight", 2, 3, n, n)
	l.part(name+"attn.value.bias", self+"linear_0/bias", 2, 3, n)
	l.linear(name+"attn.out", self+"linear_1", n, n)
	if !cross {
		return
	}
	other := source + "attention/"
	l.norm(name+"cross_attn_ln", other+"layer_norm", n)
	l.linear(name+"cross_attn.query", other+"linear_0", n, n)
	l.part(name+"cross_attn.key.weight", other+"linear_1/weight", 0, 2, n, n)
	l.part(name+"cross_attn.value.weight", other+"linear_1/weight", 1, 2, n, n)
	l.part(name+"cross_attn.value.bias", other+"linear_1/bias", 1, 2, n)
	l.linear(name+"cross_attn.out", other+"linear_2", n, n)
}
