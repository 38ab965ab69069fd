package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"steno/models"
	"steno/transcript"
)

// bubble is a backend that works for a second of virtual time.
type bubble struct {
	running, most atomic.Int32
	closed        bool
}

func (b *bubble) Info() models.Info { return models.Info{Model: "bubble", States: 2} }

func (b *bubble) Transcribe(ctx context.Context, r models.Request, emit func([]transcript.Segment)) (models.Result, error) {
	b.most.Store(max(b.most.Load(), b.running.Add(1)))
	defer b.running.Add(-1)
	select {
	case <-time.After(time.Second):
		return models.Result{Language: r.Language}, nil
	case <-ctx.Done():
		return models.Result{}, ctx.Err()
	}
}

func (b *bubble) Close() error {
	b.closed = true
	if b.running.Load() > 0 {
		return errors.New("closed under a decode")
	}
	return nil
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{}
		e := InProcess(b)
		results := make(chan error, 10)
		began := time.Now()
		for range 6 {
			go func() {
				_, err := e.Transcribe(t.Context(), chunk(""), nil)
				results <- err
			}()
		}
		for range 6 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); b.most.Load() != 2 || took != 3*time.Second {
			t.Errorf("%d at once, %s for six", b.most.Load(), took)
		}

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := e.Transcribe(ctx, chunk(""), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled: %v", err)
		}

		go func() {
			_, err := e.Transcribe(t.Context(), chunk(""), nil)
			results <- err
		}()
		synctest.Wait()
		if err := e.Close(); err != nil || !b.closed {
			t.Errorf("close: %v", err)
		}
		if err := <-results; !errors.Is(err, models.ErrEngineDied) {
			t.Errorf("in flight at close: %v", err)
		}
		<-e.Done()
		if _, err := e.Transcribe(t.Context(), chunk(""), nil); !errors.Is(err, ErrClosed) || !errors.Is(e.Err(), ErrClosed) {
			t.Errorf("after close: %v, %v", err, e.Err())
		}
	})
}
