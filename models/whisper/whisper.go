//go:build cgo

// Package whisper is the only cgo of steno: a thin layer over whisper.cpp's C interface that loads weights once and runs
// many decode states over them.
//
// It stands beside the project's own Go binding, which shares one state per model and has no abort, no device choice and no
// flash attention; the binding still gives the language table and the special tokens, since its Context is the C type.
package whisper

/*
#cgo CFLAGS: -fopenmp -Wno-psabi
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	binding "github.com/ggerganov/whisper.cpp/bindings/go"

	"steno/models"
	"steno/models/decode"
	"steno/transcript"
)

// Options say what to load and how.
type Options struct {
	Path    string // verified ggml file
	SHA256  string // of that file, for Info
	VADPath string // Silero VAD in ggml form
	Name    string // the model's name in the registry
	Device  string // "cpu", or the name of a GPU, for Info
	// Card is the GPU's index among those that CUDA shows this process, Backend the library of ggml that computes on it, which is
	// loaded by the first model that names one.
	Card    int
	Backend string
	States  int // decodes at the same time, at least 1
	// Cores is the number of threads that decode on a CPU. Where there are more states than these, each thread decodes several
	// windows side by side (docs/adr/0010-teams.md). Default 1.
	Cores int
	// Words loads the model for word timestamps by DTW, which excludes flash attention.
	Words bool
	// Kernels bounds what matrix products run on, for every model of the process: "auto" or "" for the best of this CPU,
	// "avx512" for no tiles, "avxvnni" for vectors of 256 bits, "avx2" for those without AVX-VNNI, "ggml" for the library's own
	// (docs/adr/0007-matrix.md, docs/adr/0010-teams.md). It must be the same for all of them.
	Kernels string
	// FlashAttention computes attention without its matrix: faster on a GPU, no gain on a CPU. It pads keys and values to a
	// multiple of 256 and leaves there what an earlier window wrote, so that windows must then be encoded at full length
	// (docs/adr/0003-one-pass.md).
	FlashAttention bool
}

// Model holds weights and decode states. It is safe for concurrent use; more than Options.States calls wait.
type Model struct {
	opts   Options
	ctx    *C.struct_whisper_context
	lib    *binding.Context
	mel    melFilters
	vad    *vad
	free   chan *state // decode states not in use; nil means "not made yet"
	done   chan struct{}
	close  sync.Once
	bytes  int64
	closed error
	teams  *teams // nil where each window has a thread of its own
}

// setUp prepares the library, once in a process.
var setUp = sync.OnceFunc(func() {
	C.steno_set_up()
	useKernels()
})

// Load reads the weights. The library ends the process on some broken files: verify the checksum first.
func Load(o Options) (*Model, error) {
	setUp()
	limitKernels(o.Kernels)
	if o.States < 1 {
		return nil, fmt.Errorf("load model %s: %d decode states, want at least 1", o.Name, o.States)
	}
	st, err := os.Stat(o.Path)
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", o.Name, err)
	}
	onGPU := o.Device != "cpu" && o.Device != ""
	if onGPU {
		if err := findCard(o.Backend, o.Card); err != nil {
			return nil, fmt.Errorf("load model %s on %s: %w", o.Name, o.Device, err)
		}
	}
	preset := 0
	if o.Words && o.FlashAttention {
		return nil, fmt.Errorf("load model %s: word times and flash attention exclude each other", o.Name)
	}
	if o.Words {
		if preset = alignmentHeads(o.Name); preset == 0 {
			return nil, fmt.Errorf("load model %s: its alignment heads are not known, so it cannot time words", o.Name)
		}
	}
	mel, err := readFilters(o.Path)
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", o.Name, err)
	}
	vad, err := loadVAD(o.VADPath)
	if err != nil {
		return nil, err
	}
	path := C.CString(o.Path)
	defer C.free(unsafe.Pointer(path))
	ctx := C.steno_load(path, C.bool(onGPU), C.int(o.Card), C.bool(o.FlashAttention), C.int(preset))
	if ctx == nil {
		vad.close()
		return nil, fmt.Errorf("load model %s from %s: the engine refused the file", o.Name, o.Path)
	}
	m := &Model{
		opts: o, ctx: ctx, lib: (*binding.Context)(unsafe.Pointer(ctx)), mel: mel, vad: vad,
		free: make(chan *state, o.States), done: make(chan struct{}), bytes: st.Size(),
	}
	for range o.States {
		m.free <- nil
	}
	if cores := max(1, o.Cores); !onGPU && o.States > cores && Gathers() {
		if m.teams, err = newTeams(cores, (o.States+cores-1)/cores); err != nil {
			vad.close()
			C.whisper_free(ctx)
			return nil, fmt.Errorf("load model %s: %w", o.Name, err)
		}
	}
	return m, nil
}

// Info describes the loaded model.
func (m *Model) Info() models.Info {
	return models.Info{
		Model: m.opts.Name, Device: m.opts.Device, SHA256: m.opts.SHA256,
		Multilingual: m.lib.Whisper_is_multilingual() != 0, States: m.opts.States, Bytes: m.bytes, PID: os.Getpid(),
	}
}

// Transcribe runs a chunk on a free decode state and waits for one if need be.
func (m *Model) Transcribe(ctx context.Context, r models.Request, emit func([]transcript.Segment)) (models.Result, error) {
	if len(r.PCM) == 0 {
		return models.Result{}, errors.New("transcribe: the chunk has no samples")
	}
	if r.Words && !m.opts.Words {
		return models.Result{}, errors.New("transcribe: word times asked of a model that was loaded without them")
	}
	if r.Language != "auto" && m.lib.Whisper_lang_id(r.Language) < 0 {
		return models.Result{}, fmt.Errorf("transcribe: %q is not a language of this model", r.Language)
	}
	if m.lib.Whisper_is_multilingual() == 0 {
		if r.DetectOnly {
			return models.Result{Language: "en", LanguageProb: 1}, nil
		}
		r.Language = "en"
	}
	s, err := m.acquire(ctx)
	if err != nil {
		return models.Result{}, err
	}
	defer m.giveBack(s)
	// An abort that has begun must not reach whoever uses the state next.
	aborted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		s.abort()
		close(aborted)
	})
	defer func() {
		if !stop() {
			<-aborted
		}
	}()
	s.rearm(ctx)
	res, err := decode.Chunk(ctx, s, r, decode.Options{FullContext: m.opts.FlashAttention}, emit)
	if ctx.Err() != nil {
		return models.Result{}, ctx.Err()
	}
	return res, err
}

func (m *Model) acquire(ctx context.Context) (*state, error) {
	select {
	case s := <-m.free:
		if s != nil {
			return s, nil
		}
		s, err := newState(m)
		if err != nil {
			m.free <- nil
			return nil, err
		}
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-m.done:
		return nil, errors.New("the model was closed")
	}
}

// giveBack makes s free for others. One that has grown is ended, so that a long file takes no more memory than a short one; the
// next costs some 20 ms to make. On a GPU, where windows are decoded at full length and every run may fall back, it is kept.
func (m *Model) giveBack(s *state) {
	if s.grown && !m.opts.FlashAttention {
		s.release()
		s = nil
	}
	m.free <- s
}

// Done is closed by Close.
func (m *Model) Done() <-chan struct{} { return m.done }

// Err is nil: a model in this process cannot die alone.
func (m *Model) Err() error { return nil }

// Close waits for decodes in flight and frees everything. Later calls do nothing.
func (m *Model) Close() error {
	m.close.Do(func() {
		close(m.done)
		for range m.opts.States {
			if s := <-m.free; s != nil {
				s.release()
			}
		}
		if m.teams != nil {
			m.teams.close()
		}
		C.whisper_free(m.ctx)
		m.vad.close()
	})
	return nil
}

// findCard loads the library that computes on GPUs, where it is not loaded yet, and looks whether it sees the card: whisper.cpp
// itself would go on with the CPU, without a word.
func findCard(backend string, card int) error {
	if int(C.steno_gpus()) == 0 && backend != "" {
		path := C.CString(backend)
		defer C.free(unsafe.Pointer(path))
		if !C.steno_load_backend(path) {
			return fmt.Errorf("the library %s cannot be loaded: is CUDA's runtime of its version here, and the driver?", backend)
		}
	}
	switch n := int(C.steno_gpus()); {
	case n == 0 && backend == "":
		return errors.New("this steno has no library for GPUs: build it with `make cuda`")
	case card < 0 || card >= n:
		return fmt.Errorf("there is no card %d: CUDA sees %d", card, n)
	}
	return nil
}
