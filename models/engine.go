// Package models owns loaded models: the pool that loads them on demand, shares them between jobs and evicts them, and the
// fair gate in front of each device. What runs inference is an Engine; models/engine has the one that lives in a child
// process, models/whisper the library itself.
package models

import (
	"context"
	"errors"
	"sync/atomic"

	"steno/transcript"
)

// Request is one chunk to transcribe.
type Request struct {
	// PCM is 16 kHz mono, at least one sample; chunks up to 30 s take one pass where one is enough, longer ones take several.
	PCM []int16
	// Language is an ISO 639-1 code. "auto" detects it in this chunk, at the price of one more encoder pass.
	Language string
	// DetectOnly stops after the language is known; the result has no segments.
	DetectOnly bool
	Translate  bool
	Words      bool
	Prompt     string
	// Threads is the number of threads for this chunk, at least 1. More than 1 only pays where there is a single chunk.
	Threads int
	// Activity, if not nil, is to be moved by the engine while the decode moves, at least at every step of the model, so that
	// a watchdog can tell a slow decode from a hung one. An engine that cannot leaves it alone.
	Activity *atomic.Uint64
}

// Result is what a chunk's speech says. Times are seconds from the chunk's first sample.
type Result struct {
	Segments     []transcript.Segment `json:"segments"`
	Language     string               `json:"language"`
	LanguageProb float64              `json:"language_probability"`
	Stats        Stats                `json:"stats"`
}

// Stats says what a chunk cost.
type Stats struct {
	Passes    int `json:"passes"`    // encoder passes
	FullSize  int `json:"full_size"` // passes repeated with the full encoder context because a guard spoke
	Fallbacks int `json:"fallbacks"` // decodes repeated at a higher temperature
	Seeks     int `json:"seeks"`     // passes that picked up speech after the last timestamp
	Dropped   int `json:"dropped"`   // segments that the hallucination guards removed
	NoSpeech  int `json:"no_speech"` // windows without speech that were not decoded
	Tokens    int `json:"tokens"`    // steps of the decoder, those of repeated decodes and of timestamps included
	// Seconds alone differ from run to run.
	Seconds Seconds `json:"seconds"`
}

// Seconds are what the thread of a chunk spent on it. Time in which it worked for others beside is not in them.
type Seconds struct {
	VAD    float64 `json:"vad"`
	Mel    float64 `json:"mel"`
	Encode float64 `json:"encode"` // encoder and prompt
	Decode float64 `json:"decode"`
}

// Add adds up what two chunks cost.
func (s Stats) Add(o Stats) Stats {
	return Stats{
		Passes: s.Passes + o.Passes, FullSize: s.FullSize + o.FullSize, Fallbacks: s.Fallbacks + o.Fallbacks, Seeks: s.Seeks + o.Seeks,
		Dropped: s.Dropped + o.Dropped, NoSpeech: s.NoSpeech + o.NoSpeech, Tokens: s.Tokens + o.Tokens,
		Seconds: Seconds{
			VAD: s.Seconds.VAD + o.Seconds.VAD, Mel: s.Seconds.Mel + o.Seconds.Mel,
			Encode: s.Seconds.Encode + o.Seconds.Encode, Decode: s.Seconds.Decode + o.Seconds.Decode,
		},
	}
}

// Info describes a loaded engine.
type Info struct {
	Model        string `json:"model"`
	Device       string `json:"device"`
	SHA256       string `json:"sha256"`
	Multilingual bool   `json:"multilingual"`
	States       int    `json:"states"` // decodes that can run at the same time
	Bytes        int64  `json:"bytes"`  // weights and states
	PID          int    `json:"pid,omitempty"`
}

// Engine is a loaded model. It is safe for concurrent use by up to Info().States callers.
type Engine interface {
	Info() Info
	// Transcribe blocks until the chunk is done. emit, if not nil, is called in order with segments as they are final; it must
	// not block. Cancelling ctx ends the decode within a second; the engine stays usable.
	Transcribe(ctx context.Context, r Request, emit func([]transcript.Segment)) (Result, error)
	// Done is closed when the engine has died or was closed; Err then says why.
	Done() <-chan struct{}
	Err() error
	// Close frees everything, ends decodes in flight, and returns when the memory is back with the system.
	Close() error
}

// ErrEngineDied wraps the cause when an engine ended under a request. The same request may be tried on a fresh engine.
var ErrEngineDied = errors.New("the engine process died")

// ErrEngineKilled says, beside ErrEngineDied, that somebody else killed the engine process: no fault of what it was decoding.
var ErrEngineKilled = errors.New("killed from outside")

// ErrOutOfMemory says that a model did not fit on its device.
var ErrOutOfMemory = errors.New("out of device memory")
