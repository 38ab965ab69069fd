package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"steno/models"
)

var (
	// ErrBadFile says that a model file is absent, is not the one that was pinned, or is refused by the library.
	ErrBadFile = errors.New("bad model file")
	// ErrStalled says that the parent killed an engine that did not move any more.
	ErrStalled = errors.New("the engine stalled")
	// ErrClosed says that Close ended the engine.
	ErrClosed = errors.New("the engine was closed")
)

// remoteError is a failure that the child told of; the child lives.
type remoteError struct {
	failure
	is error
}

func (e *remoteError) Error() string { return e.Message }
func (e *remoteError) Unwrap() error { return e.is }

// toFailure classes err for the wire. Messages are cut to fit a frame.
func toFailure(err error) failure {
	const longest = 8 << 10
	f := failure{Kind: failOther, Message: err.Error()}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		f.Kind = failCancelled
	case errors.Is(err, models.ErrOutOfMemory):
		f.Kind = failMemory
	case errors.Is(err, ErrBadFile):
		f.Kind = failFile
	}
	f.Message = f.Message[:min(len(f.Message), longest)]
	return f
}

// toError is the inverse of toFailure, as far as callers can tell.
func (f failure) toError() error {
	e := &remoteError{failure: f}
	switch f.Kind {
	case failCancelled:
		e.is = context.Canceled
	case failMemory:
		e.is = models.ErrOutOfMemory
	case failFile:
		e.is = ErrBadFile
	}
	return e
}

// asDied makes the end of an engine an error for a request that it cut short: always models.ErrEngineDied.
func asDied(err error) error {
	if errors.Is(err, models.ErrEngineDied) {
		return err
	}
	return fmt.Errorf("%w: %w", models.ErrEngineDied, err)
}

// memoryText is how ggml, CUDA and the C++ library say that memory ran out before they end the process.
var memoryText = regexp.MustCompile(`(?i)out of memory|bad_alloc|failed to allocate|cannot allocate memory|cudaMalloc failed`)
