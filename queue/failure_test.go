package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"steno/job"
	"steno/transcript"
)

func TestPermanentFailureIsBuriedAndTheQueueGoesOn(t *testing.T) {
	q := newQueue(t)
	bad, good := submit(t, q, 10), submit(t, q, 11)
	cause := errors.New("moov atom not found")
	work(t, q, quick(), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		if d.Job.ID == bad.ID {
			d.Progress(job.Progress{Stage: job.StageProbe})
			return transcript.Transcript{}, fmt.Errorf("probe: %w",
				job.Errorf(job.Input, "TRUNCATED", "the file ends early: %w", cause))
		}
		return echo(ctx, d)
	})
	s := await(t, q, bad.ID, job.Failed)
	if s.Attempt != 1 || s.Error.Code != "TRUNCATED" {
		t.Errorf("status %+v", s)
	}
	await(t, q, good.ID, job.Done)
	drained(t, q)
	_, err := q.Result(t.Context(), bad.ID)
	wantCode(t, err, job.Input, "TRUNCATED")
	list, err := q.DeadLetters(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%d dead letters, %v", len(list), err)
	}
	l, err := q.DeadLetter(t.Context(), string(bad.ID))
	if err != nil || l.Error.Code != "TRUNCATED" || l.Cause != cause.Error() || l.Stage != job.StageProbe ||
		l.Job.Source != bad.Source || len(l.History) != 1 || l.History[0].Outcome != OutcomeFailed || l.Failed.IsZero() {
		t.Errorf("dead letter %+v, %v", l, err)
	}
	for _, id := range []string{"", "*", "absent", string(good.ID)} {
		_, err := q.DeadLetter(t.Context(), id)
		wantCode(t, err, job.Input, "DEAD_LETTER_NOT_FOUND")
	}
}

func TestRetryThenSuccess(t *testing.T) {
	q := newQueue(t)
	j := submit(t, q, 10)
	work(t, q, quick(), func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
		if d.Redelivered != (d.Attempt > 1) {
			return transcript.Transcript{}, job.Errorf(job.Input, "WRONG", "attempt %d, redelivered %t", d.Attempt, d.Redelivered)
		}
		switch d.Attempt {
		case 1:
			return transcript.Transcript{}, errors.New("the database was away")
		case 2:
			panic("index out of range")
		}
		return say("third time"), nil
	})
	s := await(t, q, j.ID, job.Done)
	if s.Attempt != 3 || len(s.History) != 3 || s.History[0].Error.Class != job.Internal || s.History[1].Error.Code != "PANIC" {
		t.Errorf("status %+v", s)
	}
	drained(t, q)
}

func TestAttemptsRunOutAndDeadRetryGivesNewOnes(t *testing.T) {
	q := newQueue(t)
	j := submit(t, q, 10)
	var healthy atomic.Bool
	work(t, q, quick(), func(context.Context, *Delivery) (transcript.Transcript, error) {
		if healthy.Load() {
			return say("at last"), nil
		}
		return transcript.Transcript{}, job.Errorf(job.Transient, "MIRROR_AWAY", "the model's mirror is away: try again later")
	})
	if s := await(t, q, j.ID, job.Failed); s.Attempt != 3 || s.Error.Code != "MIRROR_AWAY" {
		t.Errorf("status %+v", s)
	}
	drained(t, q)
	healthy.Store(true)
	if err := q.RetryDead(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the retried job is done", func() bool {
		s, err := q.Status(t.Context(), j.ID)
		return err == nil && s.State == job.Done
	})
	s := await(t, q, j.ID, job.Done)
	if s.Attempt != 1 || len(s.History) != 4 || s.Job.Source != j.Source || s.Error != nil {
		t.Errorf("status after retry %+v", s)
	}
	_, err := q.DeadLetter(t.Context(), string(j.ID))
	wantCode(t, err, job.Input, "DEAD_LETTER_NOT_FOUND")
	wantCode(t, q.RetryDead(t.Context(), j.ID), job.Input, "DEAD_LETTER_NOT_FOUND")
	drained(t, q)
}

// Pages of dead letters follow each other, whatever is taken out between.
func TestDeadPages(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	pages := func(limit int) (ids []string) {
		t.Helper()
		for before := uint64(0); ; {
			page, next, err := q.DeadPage(t.Context(), before, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("a page of %d letters, %v", len(page), err)
			}
			for _, l := range page {
				ids = append(ids, l.ID)
			}
			if next == 0 {
				return ids
			}
			before = next
		}
	}
	if ids := pages(10); len(ids) != 0 {
		t.Fatalf("letters where none are: %v", ids)
	}
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("letter-%d", i)
		if err := q.publishDead(t.Context(), DeadLetter{ID: id}, id); err != nil {
			t.Fatal(err)
		}
		want = append([]string{id}, want...)
	}
	for _, limit := range []int{1, 2, 3, 7, 100} {
		if ids := pages(limit); !slices.Equal(ids, want) {
			t.Errorf("by %d: %v", limit, ids)
		}
	}
	for _, i := range []int{0, 3, 6} {
		if err := q.exhume(t.Context(), want[i]); err != nil {
			t.Fatal(err)
		}
	}
	want = []string{want[1], want[2], want[4], want[5]}
	for _, limit := range []int{1, 2, 3, 4} {
		if ids := pages(limit); !slices.Equal(ids, want) {
			t.Errorf("with gaps, by %d: %v", limit, ids)
		}
	}
}

func TestRetryOfAJobWhoseRecordIsGone(t *testing.T) {
	q := newQueue(t)
	j := submit(t, q, 10)
	stop := work(t, q, quick(), func(context.Context, *Delivery) (transcript.Transcript, error) {
		return transcript.Transcript{}, job.Errorf(job.Input, "BAD", "bad")
	})
	await(t, q, j.ID, job.Failed)
	drained(t, q)
	if err := errors.Join(stop(), q.forget(t.Context(), j.ID), q.RetryDead(t.Context(), j.ID)); err != nil {
		t.Fatal(err)
	}
	if s, err := q.Status(t.Context(), j.ID); err != nil || s.Claims != 2 || s.Retries != 1 || s.State != job.Queued {
		t.Errorf("brought back as %+v, %v", s, err)
	}
	work(t, q, quick(), echo)
	if s := await(t, q, j.ID, job.Done); s.Job.Source != j.Source || len(s.History) != 2 || s.Claims != 3 || s.Retries != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestPoisonAmongGoodJobs(t *testing.T) {
	q := newQueue(t)
	cfg := quick()
	cfg.Slots = 4
	var bad, good []job.Job
	src := submit(t, q, 10)
	good = append(good, src)
	for i := range 50 {
		j := job.Job{ID: job.NewID(), Source: src.Source}
		if err := q.Submit(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 {
			bad = append(bad, j)
		} else {
			good = append(good, j)
		}
	}
	poison := map[job.ID]bool{}
	for _, j := range bad {
		poison[j.ID] = true
	}
	for i, data := range []string{"{", `{"id":"x"}`, string(make([]byte, 60<<10)), `{"id":"` + string(job.NewID()) + `"}`} {
		m := nats.NewMsg(jobSubject(DefaultPool, job.Job{ID: job.ID(fmt.Sprint("poison", i))}))
		m.Data = []byte(data)
		if _, err := q.js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	work(t, q, cfg, func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
		if poison[d.Job.ID] {
			return transcript.Transcript{}, job.Errorf(job.Engine, "ENGINE_CRASH", "the engine died twice on this file")
		}
		return say("ok"), nil
	})
	drained(t, q)
	done, err := q.List(t.Context(), Filter{States: []job.State{job.Done}})
	if err != nil || len(done) != len(good) {
		t.Errorf("%d jobs done, %v; want %d", len(done), err, len(good))
	}
	dead, err := q.DeadLetters(t.Context())
	if err != nil || len(dead) != len(bad)+4 {
		t.Fatalf("%d dead letters, %v; want %d", len(dead), err, len(bad)+4)
	}
	foreign := 0
	for _, l := range dead {
		if l.Error.Code == "BAD_MESSAGE" {
			foreign++
			if l.Message == "" || l.Job.ID != "" {
				t.Errorf("dead letter %+v", l)
			}
			wantCode(t, q.RetryDead(t.Context(), job.ID(l.ID)), job.Input, "NOT_A_JOB")
		}
	}
	if foreign != 4 {
		t.Errorf("%d of them are no jobs, want 4", foreign)
	}
}

func TestResourceErrorsSpendNoAttempt(t *testing.T) {
	q := newQueue(t)
	cfg := quick()
	cfg.RetryBase, cfg.RetryCap = time.Millisecond, 2*time.Millisecond
	cfg.PollEvery = 5 * time.Millisecond
	passes, never := submit(t, q, 10), submit(t, q, 11)
	var tries atomic.Int32
	work(t, q, cfg, func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
		if d.Attempt != 1 {
			return transcript.Transcript{}, job.Errorf(job.Input, "WRONG", "attempt %d", d.Attempt)
		}
		if d.Job.ID == passes.ID && tries.Add(1) > 5 {
			return say("room at last"), nil
		}
		return transcript.Transcript{}, job.Errorf(job.Resource, "NO_DISK", "the disk is full: make room")
	})
	if s := await(t, q, passes.ID, job.Done); s.Attempt != 1 || len(s.History) != 6 {
		t.Errorf("status %+v", s)
	}
	if s := await(t, q, never.ID, job.Failed); s.Error.Code != "NO_DISK" || len(s.History) != maxRequeues+1 {
		t.Errorf("%d attempts, %v; want the bound of %d requeues", len(s.History), s.Error, maxRequeues)
	}
}

func TestCancelQueued(t *testing.T) {
	q := newQueue(t)
	j := submit(t, q, 10)
	if err := q.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	await(t, q, j.ID, job.Cancelled)
	drained(t, q)
	wantCode(t, q.Cancel(t.Context(), j.ID), job.Input, "JOB_ENDED")
	wantCode(t, q.Cancel(t.Context(), job.NewID()), job.Input, "JOB_NOT_FOUND")
	_, err := q.Result(t.Context(), j.ID)
	wantCode(t, err, job.Input, "CANCELLED")
	next := submit(t, q, 10)
	work(t, q, quick(), echo)
	await(t, q, next.ID, job.Done)
	if s, err := q.Status(t.Context(), j.ID); err != nil || s.State != job.Cancelled || s.Attempt != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestCancelRunning(t *testing.T) {
	q := newQueue(t)
	cfg := quick()
	cfg.AckWait = time.Minute // so that only the message can have told the worker
	j := submit(t, q, 10)
	kept, cause := make(chan error, 1), make(chan error, 1)
	work(t, q, cfg, func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		d.Progress(job.Progress{Stage: job.StageTranscribe})
		kept <- d.Chunks().Put(ctx, "k", []byte("v"))
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return transcript.Transcript{}, ctx.Err()
	})
	await(t, q, j.ID, job.Running)
	if err := <-kept; err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := q.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-cause; !errors.Is(err, ErrCancelled) {
		t.Errorf("cause %v", err)
	}
	s := await(t, q, j.ID, job.Cancelled)
	if took := time.Since(start); took > 2*time.Second || s.Error != nil {
		t.Errorf("cancelled after %s: %+v", took, s)
	}
	drained(t, q)
	if _, err := q.chunks.Get(t.Context(), chunkName("k")); err == nil {
		t.Error("the chunk results of a cancelled job are kept")
	}
}

func TestCancelWinsOverALateResult(t *testing.T) {
	q := newQueue(t)
	j := submit(t, q, 10)
	begun, finish := make(chan struct{}), make(chan struct{})
	work(t, q, quick(), func(context.Context, *Delivery) (transcript.Transcript, error) {
		close(begun)
		<-finish
		return say("too late"), nil
	})
	<-begun
	if err := q.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	close(finish)
	await(t, q, j.ID, job.Cancelled)
	drained(t, q)
	eventually(t, "the result is thrown away", func() bool {
		list, _ := q.results.store.List(t.Context())
		return len(list) == 0
	})
}

func TestStalledHandlerLosesItsLease(t *testing.T) {
	q := newQueue(t)
	cfg := quick()
	cfg.StallAfter, cfg.AckWait = 300*time.Millisecond, time.Second
	j := submit(t, q, 10)
	work(t, q, cfg, func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		if d.Attempt > 1 {
			return say("went on"), nil
		}
		<-ctx.Done()
		return transcript.Transcript{}, context.Cause(ctx)
	})
	s := await(t, q, j.ID, job.Done)
	if s.Attempt != 2 || s.History[0].Error == nil || s.History[0].Error.Code != "STALLED" {
		t.Errorf("status %+v", s)
	}
}

// A worker that dies right after its claim leaves a lease that ends a moment after its message has come back.
func TestLeaseEndsAfterItsMessage(t *testing.T) {
	t.Parallel() // it mostly waits
	q := newQueue(t)
	cfg := quick()
	cfg.AckWait = 6 * time.Second
	dead := &worker{q: q, cfg: cfg.WithDefaults()}
	c, err := dead.consumer(t.Context(), DefaultPool, "normal")
	if err != nil {
		t.Fatal(err)
	}
	j := submit(t, q, 10)
	batch, err := c.Fetch(1)
	if err != nil {
		t.Fatal(err)
	}
	for range batch.Messages() {
		time.Sleep(500 * time.Millisecond)
	}
	if _, err := q.change(t.Context(), j.ID, func(r *record, renewed time.Time) error {
		r.claim(lease{ID: "dead", Worker: "dead", TTL: cfg.AckWait}, 3, yes, time.Now(), renewed)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	claimed := time.Now()
	work(t, q, cfg, echo)
	s := await(t, q, j.ID, job.Done)
	if took := time.Since(claimed); s.Attempt != 2 || took < cfg.AckWait-time.Second || took > cfg.AckWait+2*time.Second {
		t.Errorf("recovered after %s, with a lease of %s: %+v", took, cfg.AckWait, s)
	}
}

func TestHungHandlerIsReplacedByAnotherWorker(t *testing.T) {
	t.Parallel() // it mostly waits
	server := startServer(t, EmbeddedConfig{})
	q := open(t, server)
	cfg := quick()
	cfg.StallAfter, cfg.AckWait = 200*time.Millisecond, 900*time.Millisecond
	j := submit(t, q, 10)
	wake, begun := make(chan struct{}), make(chan struct{})
	hung := work(t, q, cfg, func(context.Context, *Delivery) (transcript.Transcript, error) {
		close(begun)
		<-wake // deaf to its context
		return say("from the dead"), nil
	})
	<-begun
	cfg.Name = "second"
	work(t, open(t, server), cfg, echo)
	s := await(t, q, j.ID, job.Done)
	if s.Attempt != 2 || s.History[0].Outcome != OutcomeLost || s.History[1].Worker != "second" {
		t.Errorf("status %+v", s)
	}
	close(wake)
	if err := hung(); err != nil {
		t.Error(err)
	}
	if got, err := q.Result(t.Context(), j.ID); err != nil || got.Text != "10 bytes" {
		t.Errorf("result %q, %v", got.Text, err)
	}
	list, err := q.results.store.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Errorf("%d results, %v; want 1", len(list), err)
	}
	drained(t, q)
}

func TestProgressKeepsALongJob(t *testing.T) {
	t.Parallel() // it mostly waits
	q := newQueue(t)
	cfg := quick()
	cfg.AckWait, cfg.StallAfter, cfg.Slots = time.Second, time.Second, 2
	j := submit(t, q, 10)
	work(t, q, cfg, func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
		for i := range 50 { // for 2.5 s
			d.Progress(job.Progress{Stage: job.StageTranscribe, Done: float64(i), Total: 50})
			time.Sleep(50 * time.Millisecond)
		}
		return say("long"), nil
	})
	if s := await(t, q, j.ID, job.Done); s.Attempt != 1 || len(s.History) != 1 {
		t.Errorf("status %+v", s)
	}
	drained(t, q)
}

func TestDrainHandsBackWithoutSpendingAnAttempt(t *testing.T) {
	server := startServer(t, EmbeddedConfig{})
	q := open(t, server)
	cfg := quick()
	cfg.DrainTimeout, cfg.Slots = 600*time.Millisecond, 2
	short, long := submit(t, q, 10), submit(t, q, 11)
	var mu sync.Mutex
	attempts := map[job.ID][]int{}
	handler := func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		mu.Lock()
		attempts[d.Job.ID] = append(attempts[d.Job.ID], d.Attempt)
		n := len(attempts[d.Job.ID])
		mu.Unlock()
		d.Progress(job.Progress{Stage: job.StageTranscribe})
		if d.Job.ID == short.ID {
			time.Sleep(200 * time.Millisecond)
			return say("in time"), nil
		}
		if n > 1 {
			data, found, err := d.Chunks().Get(ctx, "0-30")
			return say(string(data)), errors.Join(err, check(found, "the chunk is gone"))
		}
		if err := d.Chunks().Put(ctx, "0-30", []byte("kept")); err != nil {
			return transcript.Transcript{}, err
		}
		<-ctx.Done()
		// As when a stop of the service takes the engine down, too.
		return transcript.Transcript{}, job.Errorf(job.Engine, "ENGINE_CRASH", "the engine died")
	}
	stop := work(t, q, cfg, handler)
	await(t, q, long.ID, job.Running)
	await(t, q, short.ID, job.Running)
	start := time.Now()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > cfg.DrainTimeout {
		t.Errorf("drained in %s, more than %s", took, cfg.DrainTimeout)
	}
	await(t, q, short.ID, job.Done)
	if s, err := q.Status(t.Context(), long.ID); err != nil || s.State != job.Queued || s.Attempt != 0 {
		t.Errorf("status after the drain %+v, %v", s, err)
	}
	work(t, open(t, server), quick(), handler)
	s := await(t, q, long.ID, job.Done)
	if s.Attempt != 1 || s.History[0].Outcome != OutcomeHandedOn {
		t.Errorf("status %+v", s)
	}
	if got, err := q.Result(t.Context(), long.ID); err != nil || got.Text != "kept" {
		t.Errorf("result %q, %v", got.Text, err)
	}
	drained(t, q)
	if _, err := q.chunks.Get(t.Context(), chunkName("0-30")); err == nil {
		t.Error("the chunk results of a recorded job are kept")
	}
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(attempts[long.ID]) != "[1 1]" {
		t.Errorf("attempts %v", attempts[long.ID])
	}
}

func check(ok bool, text string) error {
	if ok {
		return nil
	}
	return errors.New(text)
}

// TestStoppedBeforeItBegan: a worker that is told to stop while it starts ends as one that has drained.
func TestStoppedBeforeItBegan(t *testing.T) {
	q := newQueue(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.Work(ctx, quick(), echo); err != nil {
		t.Errorf("Work ended with %v", err)
	}
}

func TestDrainDoesNotWaitForADeafHandler(t *testing.T) {
	q := newQueue(t)
	cfg := quick()
	cfg.DrainTimeout = 400 * time.Millisecond
	j := submit(t, q, 10)
	wake, gone := make(chan struct{}), make(chan struct{})
	stop := work(t, q, cfg, func(context.Context, *Delivery) (transcript.Transcript, error) {
		defer close(gone)
		<-wake
		return say("too late"), nil
	})
	await(t, q, j.ID, job.Running)
	if err := stop(); err == nil {
		t.Error("no word of the handler that did not return")
	}
	if s, err := q.Status(t.Context(), j.ID); err != nil || s.State != job.Queued || s.Attempt != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
	close(wake)
	<-gone
	work(t, q, quick(), echo)
	await(t, q, j.ID, job.Done)
	if got, err := q.Result(t.Context(), j.ID); err != nil || got.Text != "10 bytes" {
		t.Errorf("result %q, %v", got.Text, err)
	}
}

func TestFetchErrors(t *testing.T) {
	q := newQueue(t)
	cfg := quick()
	cfg.MaxAttempts = 1
	j := submit(t, q, 10)
	if err := q.audio.remove(t.Context(), j.Source.Object); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "audio")
	work(t, q, cfg, func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		return transcript.Transcript{}, d.FetchTo(ctx, path)
	})
	if s := await(t, q, j.ID, job.Failed); s.Error.Code != "AUDIO_MISSING" {
		t.Errorf("status %+v", s)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a half file is left: %v", err)
	}
	drained(t, q)
	wantCode(t, q.RetryDead(t.Context(), j.ID), job.Input, "AUDIO_MISSING")
}

func TestWorkerTakesNothingWhileNotReady(t *testing.T) {
	q := newQueue(t)
	var ready atomic.Bool
	cfg := quick()
	cfg.Ready = func(context.Context) error { return check(ready.Load(), "the disk is full") }
	j := submit(t, q, 10)
	work(t, q, cfg, echo)
	time.Sleep(200 * time.Millisecond)
	if s, err := q.Status(t.Context(), j.ID); err != nil || s.State != job.Queued {
		t.Errorf("status %s, %v", s.State, err)
	}
	ready.Store(true)
	await(t, q, j.ID, job.Done)
}
