//go:build cgo

// Package nets runs the networks of package voices with ONNX Runtime, a library that is loaded when it is asked for.
package nets

import (
	"errors"
	"fmt"

	ort "github.com/yalue/onnxruntime_go"

	"steno/models/voices"
)

// Config names what is loaded.
type Config struct {
	Library string // path of libonnxruntime.so, version 1.24 or later
	Segment []byte // the segmentation network, ONNX
	Embed   []byte // the embedding network, ONNX
	Threads int
}

// Nets are both networks, loaded. One goroutine uses them. A process can hold one.
type Nets struct {
	segment, embed *ort.DynamicAdvancedSession
	in, out        *ort.Tensor[float32] // of segment
}

// Load loads the library and both networks.
func Load(c Config) (*Nets, error) {
	n, err := load(c)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func load(c Config) (n *Nets, err error) {
	n = &Nets{}
	ort.SetSharedLibraryPath(c.Library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return n, fmt.Errorf("load ONNX Runtime: %w", err)
	}
	o, err := ort.NewSessionOptions()
	if err != nil {
		return n, err
	}
	defer func() { _ = o.Destroy() }() // as good as gone: nobody can do anything about it
	err = errors.Join(o.SetIntraOpNumThreads(c.Threads), o.SetInterOpNumThreads(1),
		// Threads that spin while they wait would take the cores of the transcription beside them.
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"))
	if err != nil {
		return n, err
	}
	if n.segment, err = session(c.Segment, o); err != nil {
		return n, fmt.Errorf("load the segmentation network: %w", err)
	}
	if n.embed, err = session(c.Embed, o); err != nil {
		return n, fmt.Errorf("load the embedding network: %w", err)
	}
	if n.in, err = ort.NewEmptyTensor[float32](ort.NewShape(1, 1, voices.Window)); err != nil {
		return n, err
	}
	n.out, err = ort.NewEmptyTensor[float32](ort.NewShape(1, voices.WindowFrames, voices.Sets))
	return n, err
}

func session(model []byte, o *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
	ins, outs, err := ort.GetInputOutputInfoWithONNXData(model)
	if err != nil {
		return nil, err
	}
	if len(ins) != 1 || len(outs) != 1 {
		return nil, fmt.Errorf("%d inputs and %d outputs, want one of each", len(ins), len(outs))
	}
	return ort.NewDynamicAdvancedSessionWithONNXData(model, []string{ins[0].Name}, []string{outs[0].Name}, o)
}

// Segment implements voices.Networks.
func (n *Nets) Segment(pcm []float32) ([]float32, error) {
	copy(n.in.GetData(), pcm)
	if err := n.segment.Run([]ort.Value{n.in}, []ort.Value{n.out}); err != nil {
		return nil, err
	}
	return n.out.GetData(), nil
}

// Embed implements voices.Networks.
func (n *Nets) Embed(features []float32) ([]float32, error) {
	in, err := ort.NewTensor(ort.NewShape(1, int64(len(features)/voices.Bands), voices.Bands), features)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Destroy() }()
	outs := []ort.Value{nil}
	if err := n.embed.Run([]ort.Value{in}, outs); err != nil {
		return nil, err
	}
	defer func() { _ = outs[0].Destroy() }()
	out, ok := outs[0].(*ort.Tensor[float32])
	if !ok {
		return nil, fmt.Errorf("the embedding network gave %v", outs[0].GetONNXType())
	}
	return append([]float32(nil), out.GetData()...), nil
}

// Close frees all.
func (n *Nets) Close() error {
	var errs []error
	for _, s := range []*ort.DynamicAdvancedSession{n.segment, n.embed} {
		if s != nil {
			errs = append(errs, s.Destroy())
		}
	}
	for _, t := range []*ort.Tensor[float32]{n.in, n.out} {
		if t != nil {
			errs = append(errs, t.Destroy())
		}
	}
	if ort.IsInitialized() {
		errs = append(errs, ort.DestroyEnvironment())
	}
	return errors.Join(errs...)
}
