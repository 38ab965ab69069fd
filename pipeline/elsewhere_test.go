package pipeline_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"steno/job"
	"steno/models"
	"steno/pipeline"
)

// another is another machine's runner, without a network between. It takes as many chunks as there are places.
type another struct {
	r       *pipeline.Runner
	places  chan struct{}
	store   *memory
	decode  func(ctx context.Context, t pipeline.Task, pcm []byte) ([]byte, error) // in place of r, if set
	closed  atomic.Bool
	weights string
}

func (a *another) Places() <-chan struct{} { return a.places }
func (a *another) Close()                  { a.closed.Store(true) }

func (a *another) Decode(ctx context.Context, t pipeline.Task, pcm []byte) ([]byte, error) {
	if a.decode != nil {
		return a.decode(ctx, t, pcm)
	}
	return a.help(ctx, t, pcm)
}

func (a *another) help(ctx context.Context, t pipeline.Task, pcm []byte) ([]byte, error) {
	data, err := a.r.Help(ctx, job.NewID(), "base", t, pcm)
	if err == nil {
		err = a.store.Put(ctx, t.Key, data)
	}
	return data, err
}

// with gives in another machine of so many places.
func (a *another) with(in pipeline.Input, places int) pipeline.Input {
	a.places, a.store = make(chan struct{}, places), &memory{}
	for range places {
		a.places <- struct{}{}
	}
	in.Chunks = a.store
	in.Elsewhere = func(_ context.Context, weights string) pipeline.Elsewhere {
		a.weights = weights
		return a
	}
	return in
}

// pieces is a job of twelve chunks.
func pieces(path string) pipeline.Input {
	in := input(path)
	in.Job.Params.ChunkSeconds, in.Chunks = 5, &memory{}
	return in
}

// until is an engine that answers once gate is closed.
func until(gate <-chan struct{}, n *atomic.Int64) *loader {
	return &loader{run: func(ctx context.Context, call int, r models.Request) (models.Result, error) {
		n.Add(1)
		select {
		case <-gate:
		case <-ctx.Done():
			return models.Result{}, ctx.Err()
		}
		return says(ctx, call, r)
	}}
}

// TestElsewhere spreads a recording over two machines: the transcript is that of one, each chunk is decoded once, and its result is
// kept under the same key by whoever decoded it.
func TestElsewhere(t *testing.T) {
	path := tone(t, 60)
	open := make(chan struct{})
	close(open)
	var here, there atomic.Int64
	want, err := runner(t, until(open, &here), nil).Run(t.Context(), pieces(path))
	if err != nil {
		t.Fatal(err)
	}
	here.Store(0)
	// This machine is busy until the other has done its share.
	gate := make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	a := &another{r: runner(t, until(open, &there), nil)}
	in := a.with(pieces(path), 5)
	a.decode = func(ctx context.Context, task pipeline.Task, pcm []byte) ([]byte, error) {
		data, err := a.help(ctx, task, pcm)
		if there.Load() == 5 {
			release()
		}
		return data, err
	}
	got, err := runner(t, until(gate, &here), nil).Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Segments, want.Segments) || got.Text != want.Text || got.Language != want.Language {
		t.Error("the transcript of two machines differs from that of one")
	}
	if got.ChunksElsewhere != 5 || there.Load() != 5 || int(here.Load()) != got.Chunks-5 {
		t.Errorf("of %d chunks %d are said to be decoded elsewhere, %d were; %d here: want 5 elsewhere",
			got.Chunks, got.ChunksElsewhere, there.Load(), here.Load())
	}
	if !a.closed.Load() || a.weights != "abc" {
		t.Errorf("closed %v, weights %q: want true and abc", a.closed.Load(), a.weights)
	}
	again := pieces(path)
	again.Chunks = a.store
	if got, err = runner(t, until(open, &here), nil).Run(t.Context(), again); err != nil || got.ChunksReused != got.Chunks {
		t.Errorf("%d of %d chunks were kept, %v: want all", got.ChunksReused, got.Chunks, err)
	}
}

// TestElsewhereFails: whatever another machine does, the job gets its transcript, from here.
func TestElsewhereFails(t *testing.T) {
	path := tone(t, 60)
	open := make(chan struct{})
	close(open)
	var n atomic.Int64
	want, err := runner(t, until(open, &n), nil).Run(t.Context(), pieces(path))
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]struct {
		data []byte
		err  error
	}{"refuses": {nil, errors.New("no")}, "babbles": {[]byte("{"), nil}} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			calls := atomic.Int64{}
			a := &another{decode: func(context.Context, pipeline.Task, []byte) ([]byte, error) {
				if calls.Add(1) == 5 {
					close(gate)
				}
				return answer.data, answer.err
			}}
			got, err := runner(t, until(gate, &n), nil).Run(t.Context(), a.with(pieces(path), 5))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Segments, want.Segments) || got.ChunksElsewhere != 0 || calls.Load() != 5 {
				t.Errorf("another transcript, or %d chunks from elsewhere after %d calls: want the same, none and 5",
					got.ChunksElsewhere, calls.Load())
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := &another{decode: func(ctx context.Context, _ pipeline.Task, _ []byte) ([]byte, error) {
			cancel() // of the job's user
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}
		_, err := runner(t, until(nil, &n), nil).Run(ctx, a.with(pieces(path), 1))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want the cancellation", err)
		}
		if !a.closed.Load() {
			t.Error("the other machine was not let go")
		}
	})
}

// TestHelpRefuses: what is no audio is refused, and so is what comes after the context's end.
func TestHelpRefuses(t *testing.T) {
	r := runner(t, &loader{run: says}, nil)
	for _, pcm := range [][]byte{nil, {1}, {1, 2, 3}} {
		if _, err := r.Help(t.Context(), job.NewID(), "base", pipeline.Task{Language: "en"}, pcm); err == nil {
			t.Errorf("%d bytes were decoded", len(pcm))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Help(ctx, job.NewID(), "base", pipeline.Task{Language: "en"}, []byte{1, 0}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the cancellation", err)
	}
}
