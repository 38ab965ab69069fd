//go:build !cgo

package main

import (
	"context"
	"errors"

	"steno/models/engine"
	"steno/models/voices"
)

const hasEngine = false

func kernels() (matrices, few string) { return "", "" }

func variant() string { return "" }

func gathers() bool { return false }

func traceC() {}

// loadBackend says why this binary cannot transcribe.
func loadBackend(context.Context, engine.LoadRequest) (engine.Backend, error) {
	return nil, errors.New("this steno was built without cgo and has no engine: use it for the queue, or build it with `make build`")
}

// loadVoices says why this binary cannot tell voices apart.
func loadVoices(string, []byte, []byte, int) (voices.Loaded, error) {
	return nil, errors.New("this steno was built without cgo and cannot tell voices apart: build it with `make build`")
}
