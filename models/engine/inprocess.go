package engine

import (
	"context"
	"sync"

	"steno/models"
	"steno/transcript"
)

// InProcess makes an engine of a backend in this very process: for tests, and for those who want no second process and accept
// that an abort of the library ends everything. It is safe for concurrent use; more than Info().States requests wait for
// each other.
func InProcess(b Backend) models.Engine {
	ctx, cancel := context.WithCancel(context.Background())
	return &inProcess{
		backend: b, ctx: ctx, cancel: cancel, done: make(chan struct{}), slots: make(chan struct{}, max(1, b.Info().States)),
	}
}

type inProcess struct {
	backend Backend
	ctx     context.Context // ended by Close
	cancel  context.CancelFunc
	slots   chan struct{}
	done    chan struct{}
	close   sync.Once
	err     error // of closing the backend
}

func (e *inProcess) Info() models.Info { return e.backend.Info() }

func (e *inProcess) Transcribe(ctx context.Context, r models.Request, emit func([]transcript.Segment)) (models.Result, error) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return models.Result{}, ctx.Err()
	case <-e.ctx.Done():
		return models.Result{}, asDied(ErrClosed)
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	res, err := e.backend.Transcribe(inner, r, emit)
	if err != nil && ctx.Err() == nil && e.ctx.Err() != nil {
		err = asDied(ErrClosed)
	}
	return res, err
}

func (e *inProcess) Done() <-chan struct{} { return e.done }

func (e *inProcess) Err() error {
	select {
	case <-e.done:
		return ErrClosed
	default:
		return nil
	}
}

// Close ends decodes in flight, waits for them and frees the model.
func (e *inProcess) Close() error {
	e.close.Do(func() {
		e.cancel()
		for range cap(e.slots) {
			e.slots <- struct{}{}
		}
		e.err = e.backend.Close()
		close(e.done)
	})
	return e.err
}
