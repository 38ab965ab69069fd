//go:build cgo

package main

import (
	"context"

	"steno/models/engine"
	"steno/models/voices"
	"steno/models/voices/nets"
	"steno/models/whisper"
)

const hasEngine = true

// kernels names what large matrix products run on, and what those of few columns.
func kernels() (matrices, few string) { return whisper.Kernels() }

// variant names the instruction set that the library's own kernels use.
func variant() string { return whisper.Variant() }

// gathers tells whether a core decodes several windows faster side by side than one after the other.
func gathers() bool { return whisper.Gathers() }

// traceC lets profiles of this process see into C.
func traceC() { whisper.Trace() }

// loadBackend loads whisper.cpp into this process.
func loadBackend(_ context.Context, r engine.LoadRequest) (engine.Backend, error) {
	return whisper.Load(whisper.Options{
		Path: r.Path, SHA256: r.SHA256, VADPath: r.VADPath, Name: r.Model, Device: r.Device, Card: r.Card, Backend: r.Backend,
		States: r.States, Words: r.Words, Cores: r.Cores, Kernels: r.Kernels,
	})
}

// loadVoices loads the networks that tell voices apart into this process.
func loadVoices(library string, segment, embed []byte, threads int) (voices.Loaded, error) {
	return nets.Load(nets.Config{Library: library, Segment: segment, Embed: embed, Threads: threads})
}
