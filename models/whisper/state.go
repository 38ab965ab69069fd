//go:build cgo

package whisper

/*
#include <stdlib.h>
#include "mel.h"
#include "shim.h"

static steno_abort *flag_new(void) { return calloc(1, sizeof(steno_abort)); }
static steno_window *window_new(void) { return calloc(1, sizeof(steno_window)); }
static void flag_set(steno_abort *f, int v) { atomic_store(&f->set, v); }
*/
import "C"

import (
	"context"
	"fmt"
	"slices"
	"time"
	"unsafe"

	binding "github.com/ggerganov/whisper.cpp/bindings/go"

	"steno/models"
	"steno/models/decode"
)

// state is one decode state; it implements decode.Model. One goroutine uses it at a time, except
// abort, which any may call.
type state struct {
	m    *Model
	c    *C.struct_whisper_state
	flag *C.steno_abort // set to end the run
	// window is what runs; it lies where Go does not move it.
	window *C.steno_window
	// grown says that a run with temperature fallback may have made the self-attention cache seven times as large, for its five
	// decoders; the library never makes it smaller again.
	grown bool
	mel   []float32 // the last spectrogram, kept for its memory
}

func newState(m *Model) (*state, error) {
	c := C.whisper_init_state(m.ctx)
	if c == nil {
		return nil, fmt.Errorf("make a decode state of %s: out of memory", m.opts.Name)
	}
	return &state{m: m, c: c, flag: C.flag_new(), window: C.window_new()}, nil
}

func (s *state) release() {
	C.whisper_free_state(s.c)
	C.free(unsafe.Pointer(s.flag))
	C.free(unsafe.Pointer(s.window))
}

func (s *state) abort() { C.flag_set(s.flag, 1) }

// rearm clears the abort of an earlier call, unless ctx has ended already.
func (s *state) rearm(ctx context.Context) {
	C.flag_set(s.flag, 0)
	if ctx.Err() != nil {
		s.abort()
	}
}

// Run implements decode.Model.
func (s *state) Run(ctx context.Context, w decode.Window) (decode.Output, error) {
	if err := ctx.Err(); err != nil {
		return decode.Output{}, err
	}
	*s.window = C.steno_window{
		language: C.CString(w.Language), threads: C.int(w.Threads), audio_ctx: C.int(w.AudioCtx),
		translate: C.bool(w.Translate), fallback: C.bool(w.Fallback), duration_ms: C.int(10 * wholeFrames(len(w.Samples))),
		words: C.bool(s.m.opts.Words), lag: C.int(attentionLag(s.m.opts.Name)),
	}
	defer C.free(unsafe.Pointer(s.window.language))
	defer func() { C.free(unsafe.Pointer(s.window.attention)) }()
	s.grown = s.grown || w.Fallback
	if w.Prompt != "" {
		s.window.prompt = C.CString(w.Prompt)
		defer C.free(unsafe.Pointer(s.window.prompt))
	}
	frames := 2 * w.AudioCtx
	if frames == 0 {
		frames = fullFrames
	}
	start := time.Now()
	if err := s.hear(w.Samples, frames); err != nil {
		return decode.Output{}, err
	}
	mel := time.Since(start).Seconds()
	rc := s.decode()
	if err := ctx.Err(); err != nil {
		return decode.Output{}, err
	}
	if rc != 0 {
		return decode.Output{}, fmt.Errorf("run the model: whisper_full returned %d", rc)
	}
	out := s.output()
	out.Steps = int(s.window.steps)
	out.Seconds = models.Seconds{Mel: mel, Encode: float64(s.window.encode), Decode: float64(s.window.decode)}
	if s.window.no_speech >= 0 {
		out.NoSpeech = float64(s.window.no_speech)
	}
	return out, nil
}

// decode runs s.window: in a team, beside others, or with several threads of its own.
func (s *state) decode() int {
	if s.m.teams != nil && s.window.threads == 1 {
		return s.m.teams.run(s)
	}
	return int(C.steno_run(s.m.ctx, s.c, s.window, s.flag))
}

// fullFrames is the length of a whole window in frames of 10 ms.
const fullFrames = 3000

// wholeFrames is how many frames of n samples the library takes for audio; where they end, so may the decode.
func wholeFrames(n int) int { return 1 + (n-C.MEL_FRAME/2)/C.MEL_STEP }

// hear gives the state the spectrogram of samples, with silence after them up to frames.
func (s *state) hear(samples []float32, frames int) error {
	s.mel = s.m.mel.spectrogram(s.mel, samples, frames)
	if rc := C.whisper_set_mel_with_state(s.m.ctx, s.c, floats(s.mel), C.int(frames), C.int(s.m.mel.bands)); rc != 0 {
		return fmt.Errorf("hand over the spectrogram: code %d", int(rc))
	}
	return nil
}

// output copies the tokens of the last run.
func (s *state) output() decode.Output {
	var out decode.Output
	eot, beg := s.m.lib.Whisper_token_eot(), s.m.lib.Whisper_token_beg()
	attention := s.attention()
	for i := range C.whisper_full_n_segments_from_state(s.c) {
		out.NoSpeech = float64(C.whisper_full_get_segment_no_speech_prob_from_state(s.c, i))
		for j := range C.whisper_full_n_tokens_from_state(s.c, i) {
			d := C.whisper_full_get_token_data_from_state(s.c, i, j)
			t := decode.Token{Prob: float64(d.p), Logprob: float64(d.plog)}
			switch id := binding.Token(d.id); {
			case id >= beg:
				t.Kind, t.Time = decode.Timestamp, float64(id-beg)*0.02
			case id == eot:
				t.Kind = decode.End
			case id > eot:
				continue
			default:
				t.Text = C.GoString(C.whisper_token_to_str(s.m.ctx, d.id))
				if len(attention) > 0 {
					t.Attention, attention = attention[0], attention[1:]
				}
			}
			out.Tokens = append(out.Tokens, t)
		}
	}
	return out
}

// attention copies that of the last run's text, a row for each of its tokens.
func (s *state) attention() [][]float32 {
	w := s.window
	if w.attention == nil {
		return nil
	}
	steps := int(w.attention_steps)
	all := slices.Clone(unsafe.Slice((*float32)(w.attention), int(w.attention_rows)*steps))
	return slices.Collect(slices.Chunk(all, steps))
}

// Detect implements decode.Model.
func (s *state) Detect(ctx context.Context, samples []float32, threads int) (string, float64, error) {
	if err := ctx.Err(); err != nil {
		return "", 0, err
	}
	if err := s.hear(samples, fullFrames); err != nil {
		return "", 0, err
	}
	probs := make([]C.float, C.whisper_lang_max_id()+1)
	id := C.whisper_lang_auto_detect_with_state(s.m.ctx, s.c, 0, C.int(threads), &probs[0])
	if id < 0 {
		return "", 0, fmt.Errorf("detect the language: code %d", int(id))
	}
	return C.GoString(C.whisper_lang_str(id)), float64(probs[id]), nil
}

// Speech implements decode.Model.
func (s *state) Speech(samples []float32) ([]float32, error) {
	return s.m.vad.probabilities(samples), nil
}
