//go:build cgo

package whisper

// #include "vad.h"
import "C"

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
)

// vad is a voice activity model; it is safe for concurrent use.
type vad struct {
	weights C.vad_weights
	pin     runtime.Pinner // keeps what weights points at where it is, as long as the model lives
}

// close ends the model; no probabilities call may be under way.
func (v *vad) close() { v.pin.Unpin() }

// loadVAD reads the weights from a ggml file of whisper.cpp's form for Silero's model.
func loadVAD(path string) (*vad, error) {
	tensors, err := readTensors(path)
	if err != nil {
		return nil, fmt.Errorf("load voice activity model %s: %w", path, err)
	}
	v := &vad{}
	take := func(name string, n int, order func([]float32) []float32) *C.float {
		t := tensors[name]
		if len(t) != n {
			err = errors.Join(err, fmt.Errorf("tensor %s has %d values, want %d", name, len(t), n))
			return nil
		}
		if order != nil {
			t = order(t)
		}
		v.pin.Pin(&t[0])
		return floats(t)
	}
	v.weights.filters = take("_model.stft.forward_basis_buffer", 2*C.VAD_BINS*C.VAD_FILTER, nil)
	for i, l := range C.vad_layers {
		name := fmt.Sprintf("_model.encoder.%d.reparam_conv.", i)
		byPosition := func(t []float32) []float32 { return transposed(t, int(l.out), int(l.in), 3) }
		v.weights.layer[i] = take(name+"weight", int(l.out*l.in)*3, byPosition)
		v.weights.bias[i] = take(name+"bias", int(l.out), nil)
	}
	v.weights.input = take("_model.decoder.rnn.weight_ih", C.VAD_GATES*C.VAD_HIDDEN, nil)
	v.weights.input_bias = take("_model.decoder.rnn.bias_ih", C.VAD_GATES, nil)
	v.weights.hidden = take("_model.decoder.rnn.weight_hh", C.VAD_GATES*C.VAD_HIDDEN,
		func(t []float32) []float32 { return transposed(t, 1, C.VAD_GATES, C.VAD_HIDDEN) })
	v.weights.hidden_bias = take("_model.decoder.rnn.bias_hh", C.VAD_GATES, nil)
	v.weights.last = take("_model.decoder.decoder.2.weight", C.VAD_HIDDEN, nil)
	v.weights.last_bias = take("_model.decoder.decoder.2.bias", 1, nil)
	if err != nil {
		v.close()
		return nil, fmt.Errorf("load voice activity model %s: %w", path, err)
	}
	return v, nil
}

// transposed turns each of count matrices of rows by columns around.
func transposed(t []float32, count, rows, columns int) []float32 {
	out := make([]float32, len(t))
	for m := range count {
		at := m * rows * columns
		for r := range rows {
			for c := range columns {
				out[at+c*rows+r] = t[at+r*columns+c]
			}
		}
	}
	return out
}

// probabilities is that of speech for each frame of samples.
func (v *vad) probabilities(samples []float32) []float32 {
	probs := make([]float32, (len(samples)+C.VAD_FRAME-1)/C.VAD_FRAME)
	if len(probs) > 0 {
		C.steno_vad(&v.weights, floats(samples), C.int(len(samples)), floats(probs))
	}
	return probs
}

// readTensors reads a VAD file: "ggml", the model's name and version, the sizes of its layers, and then each tensor with its
// number of dimensions, the length of its name, its type (0 for floats, 1 for half precision), its dimensions and its name.
func readTensors(path string) (map[string][]float32, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := tensorReader{r: bufio.NewReaderSize(f, 1<<16)}
	if r.number() != 0x67676d6c {
		return nil, errors.New("it is no ggml file")
	}
	r.skip(r.bounded(64))
	r.skip(4 * (3 + 2)) // version, window, context
	r.skip(4 * 3 * r.bounded(16))
	r.skip(4 * 4)
	tensors := map[string][]float32{}
	for r.err == nil {
		if _, err := r.r.Peek(1); errors.Is(err, io.EOF) {
			return tensors, nil
		}
		name, t := r.tensor()
		tensors[name] = t
	}
	return nil, fmt.Errorf("it is damaged: %w", r.err)
}

// tensorReader reads until its first error.
type tensorReader struct {
	r   *bufio.Reader
	err error
}

func (r *tensorReader) read(v any) {
	if r.err == nil {
		r.err = binary.Read(r.r, binary.LittleEndian, v)
	}
}

func (r *tensorReader) number() int {
	var n int32
	r.read(&n)
	return int(n)
}

// bounded reads a number from 0 to most: the file is not trusted to ask for memory.
func (r *tensorReader) bounded(most int) int {
	n := r.number()
	if r.err == nil && (n < 0 || n > most) {
		r.err = fmt.Errorf("a size is %d, want at most %d", n, most)
	}
	if r.err != nil {
		return 0
	}
	return n
}

func (r *tensorReader) skip(n int) {
	if r.err == nil {
		_, r.err = r.r.Discard(n)
	}
}

func (r *tensorReader) tensor() (name string, values []float32) {
	dims, length, kind := r.bounded(4), r.bounded(256), r.bounded(1)
	n := 1
	for range dims {
		n = min(n*r.bounded(1<<16), 1<<20)
	}
	text := make([]byte, length)
	r.read(text)
	values = make([]float32, n)
	if kind == 0 {
		r.read(values)
		return string(text), values
	}
	half := make([]uint16, n)
	r.read(half)
	for i, h := range half {
		values[i] = fromHalf(h)
	}
	return string(text), values
}

// fromHalf is the value of a number in IEEE half precision.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := float64(1), int(h>>10&31), float64(h&1023)
	if h>>15 == 1 {
		sign = -1
	}
	if exponent == 0 {
		return float32(sign * math.Ldexp(fraction, -24))
	}
	return float32(sign * math.Ldexp(1024+fraction, exponent-25))
}
