package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"steno/job"
	"steno/transcript"
)

const weights = "0123456789abcdef0123456789abcdef"

// helps is a helper with room for two, which has the weights.
func helps(decode func(ctx context.Context, c Chunk) ([]byte, error)) *Helper {
	return &Helper{
		Free:   func(inHand int) int { return 2 - inHand },
		Has:    func(model string) bool { return model == weights },
		Decode: decode,
	}
}

// shout is what a helper makes of a chunk.
func shout(_ context.Context, c Chunk) ([]byte, error) {
	return fmt.Appendf(nil, "%s %s: %s", c.Key, c.Task, bytes.ToUpper(c.Audio)), nil
}

func named(name string) WorkerConfig {
	cfg := quick()
	cfg.Name = name
	return cfg
}

// spreading is a handler that has n chunks decoded by others and passes on what comes of each. It ends when all have.
func spreading(n int, audio string, each func(i int, data []byte, err error)) Handler {
	return func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		s, err := d.Spread(ctx, weights)
		if err != nil {
			return transcript.Transcript{}, err
		}
		defer s.Close()
		for i := range n {
			select {
			case <-s.Places():
			case <-ctx.Done():
				return transcript.Transcript{}, context.Cause(ctx)
			}
			data, err := s.Decode(ctx, Chunk{Key: fmt.Sprintf("k%d", i), Task: []byte(`"loud"`), Audio: []byte(audio)})
			each(i, data, err)
			if ctx.Err() != nil {
				return transcript.Transcript{}, context.Cause(ctx)
			}
		}
		return say("done"), nil
	}
}

// TestSpread: chunks of one worker's job are decoded by another, their results are kept until the job has ended, and nothing is
// left on the stream.
func TestSpread(t *testing.T) {
	t.Parallel()
	s := startServer(t, EmbeddedConfig{})
	q, other := open(t, s), open(t, s)
	other.metrics.helped.Reset()
	work(t, other, WorkerConfig{
		Name: "other", Pools: []string{"elsewhere", DefaultPool}, Slots: 1, PollEvery: 50 * time.Millisecond, AckWait: 2 * time.Second,
		NoMaintenance: true, Ready: func(context.Context) error { return errors.New("it takes no jobs") }, Helper: helps(shout),
	}, echo)
	var got []string
	kept := false
	work(t, q, named("one"), spreading(3, "hello", func(i int, data []byte, err error) {
		if err != nil {
			t.Errorf("chunk %d: %v", i, err)
		}
		got = append(got, string(data))
		value, found, err := (&Chunks{q: q}).Get(t.Context(), fmt.Sprintf("k%d", i))
		kept = found && err == nil && bytes.Equal(value, data)
	}))
	j := submit(t, q, 100)
	await(t, q, j.ID, job.Done)
	if want := []string{`k0 "loud": HELLO`, `k1 "loud": HELLO`, `k2 "loud": HELLO`}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !kept {
		t.Error("results of others are not kept")
	}
	eventually(t, "the results are erased and the stream is empty", func() bool {
		_, found, err := (&Chunks{q: q}).Get(t.Context(), "k2")
		info, infoErr := q.spread.Info(t.Context())
		return err == nil && !found && infoErr == nil && info.State.Msgs == 0
	})
	if done := testutil.ToFloat64(other.metrics.helped.WithLabelValues("done")); done != 3 {
		t.Errorf("the helper counts %v chunks, want 3", done)
	}
}

// TestSpreadComesBack: whatever a helper does with a chunk, whoever has the job learns soon that it has to decode it.
func TestSpreadComesBack(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name    string
		decode  func(ctx context.Context, c Chunk) ([]byte, error)
		audio   string
		within  time.Duration
		want    error
		outcome string
	}{
		{"refused", func(context.Context, Chunk) ([]byte, error) { return nil, errors.New("no memory") }, "a", time.Second, errRefused, "refused"},
		{"panics", func(context.Context, Chunk) ([]byte, error) { panic("oh") }, "a", time.Second, errRefused, "refused"},
		{"too long for a message", shout, long, time.Second, errNoHelp, "unsent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, EmbeddedConfig{})
			q, other := open(t, s), open(t, s)
			helper := named("other")
			helper.Helper = helps(c.decode)
			helper.Ready = func(context.Context) error { return errors.New("it takes no jobs") }
			work(t, other, helper, echo)
			var got error
			var took time.Duration
			began := time.Now()
			work(t, q, named("one"), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
				return spreading(1, c.audio, func(_ int, _ []byte, err error) { got, took = err, time.Since(began) })(ctx, d)
			})
			await(t, q, submit(t, q, 100).ID, job.Done)
			if !errors.Is(got, c.want) {
				t.Errorf("error %v, want %v", got, c.want)
			}
			if took > c.within+2*time.Second { // the worker's start is in it
				t.Errorf("it took %v", took)
			}
			if n := testutil.ToFloat64(q.metrics.spread.WithLabelValues(c.outcome)); n != 1 {
				t.Errorf("%v chunks are counted as %s, want 1", n, c.outcome)
			}
		})
	}
}

// TestSpreadOverDeath: a helper that dies with a chunk costs that chunk only, and not for long.
func TestSpreadOverDeath(t *testing.T) {
	t.Parallel()
	s := startServer(t, EmbeddedConfig{})
	q, other := open(t, s), open(t, s)
	helper := named("other")
	helper.Helper = helps(func(ctx context.Context, c Chunk) ([]byte, error) {
		other.nc.Close() // nobody hears of it any more
		<-ctx.Done()
		return nil, ctx.Err()
	})
	helper.Ready = func(context.Context) error { return errors.New("it takes no jobs") }
	work(t, other, helper, echo)
	var got error
	began := time.Now()
	work(t, q, named("one"), spreading(1, "a", func(_ int, _ []byte, err error) { got = err }))
	await(t, q, submit(t, q, 100).ID, job.Done)
	if !errors.Is(got, errNoHelp) {
		t.Errorf("error %v, want %v", got, errNoHelp)
	}
	if took := time.Since(began); took > silentFor+3*time.Second {
		t.Errorf("the chunk came back after %v", took)
	}
}

// TestSpreadCancelled: when the user cancels the job, who decodes a chunk of it stops.
func TestSpreadCancelled(t *testing.T) {
	t.Parallel()
	s := startServer(t, EmbeddedConfig{})
	q, other := open(t, s), open(t, s)
	helper := named("other")
	taken, stopped := make(chan struct{}), make(chan error, 1)
	helper.Helper = helps(func(ctx context.Context, c Chunk) ([]byte, error) {
		close(taken)
		<-ctx.Done()
		stopped <- context.Cause(ctx)
		return nil, ctx.Err()
	})
	helper.Ready = func(context.Context) error { return errors.New("it takes no jobs") }
	work(t, other, helper, echo)
	work(t, q, named("one"), spreading(1, "a", func(int, []byte, error) {}))
	j := submit(t, q, 100)
	<-taken
	if err := q.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	await(t, q, j.ID, job.Cancelled)
	select {
	case err := <-stopped:
		if !errors.Is(err, ErrCancelled) {
			t.Errorf("the helper was stopped by %v, want %v", err, ErrCancelled)
		}
	case <-time.After(5 * time.Second):
		t.Error("the helper goes on")
	}
}

// TestSpreadDrained: a helper that is stopped gives its chunks back, and takes no more.
func TestSpreadDrained(t *testing.T) {
	t.Parallel()
	s := startServer(t, EmbeddedConfig{})
	q, other := open(t, s), open(t, s)
	helper := named("other")
	helper.DrainTimeout = 400 * time.Millisecond
	var calls atomic.Int64
	taken := make(chan struct{}, 1)
	helper.Helper = helps(func(ctx context.Context, c Chunk) ([]byte, error) {
		if calls.Add(1) == 1 {
			taken <- struct{}{}
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	helper.Ready = func(context.Context) error { return errors.New("it takes no jobs") }
	stop := work(t, other, helper, echo)
	var got error
	work(t, q, named("one"), spreading(1, "a", func(_ int, _ []byte, err error) { got = err }))
	j := submit(t, q, 100)
	<-taken
	if err := stop(); err != nil {
		t.Error(err)
	}
	await(t, q, j.ID, job.Done)
	if !errors.Is(got, errRefused) || calls.Load() != 1 {
		t.Errorf("error %v after %d decodes, want %v after 1", got, calls.Load(), errRefused)
	}
}

// TestSpreadNobody: without others there are no places, whether they lack the weights, have no room, or are of another pool; nor is
// a worker its own helper.
func TestSpreadNobody(t *testing.T) {
	t.Parallel()
	s := startServer(t, EmbeddedConfig{})
	q, other := open(t, s), open(t, s)
	busy := func(context.Context) error { return errors.New("it takes no jobs") }
	full, foreign, apart, own := named("full"), named("foreign"), named("apart"), named("one")
	full.Helper, foreign.Helper, apart.Helper, own.Helper = helps(shout), helps(shout), helps(shout), helps(shout)
	full.Helper.Free = func(int) int { return 0 }
	foreign.Helper.Has = func(string) bool { return false }
	apart.Pools = []string{"elsewhere"}
	for _, cfg := range []WorkerConfig{full, foreign, apart} {
		cfg.Ready = busy
		work(t, other, cfg, echo)
	}
	work(t, q, own, func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		s, err := d.Spread(ctx, weights)
		if err != nil {
			return transcript.Transcript{}, err
		}
		defer s.Close()
		select {
		case <-s.Places():
			t.Error("there is a place")
		case <-time.After(3 * askEvery):
		}
		return say("done"), nil
	})
	await(t, q, submit(t, q, 100).ID, job.Done)
}
