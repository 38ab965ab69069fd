package queue

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
	"steno/transcript"
)

// follow collects what WatchAll sends: the last status of each job. It fails the test when a job's states go back.
func follow(t *testing.T, q *Queue) (last func(job.ID) Status, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	updates, err := q.WatchAll(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mu := make(chan map[job.ID]Status, 1)
	mu <- map[job.ID]Status{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range updates {
			m := <-mu
			if old := m[s.Job.ID]; s.Version < old.Version || s.Claims < old.Claims {
				t.Errorf("job %s went from version %d, claim %d to %d, %d", s.Job.ID, old.Version, old.Claims, s.Version, s.Claims)
			}
			m[s.Job.ID] = s
			mu <- m
		}
	}()
	last = func(id job.ID) Status {
		m := <-mu
		defer func() { mu <- m }()
		return m[id]
	}
	stop = func() {
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("the channel of WatchAll was not closed")
		}
	}
	t.Cleanup(stop)
	return last, stop
}

func TestWatchAll(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	before := submit(t, q, 10)
	last, _ := follow(t, q)
	eventually(t, "a job of before is told", func() bool { return last(before.ID).State == job.Queued })
	work(t, q, quick(), echo)
	after := submit(t, q, 20)
	for _, id := range []job.ID{before.ID, after.ID} {
		eventually(t, "the end is told", func() bool { return last(id).State == job.Done })
		if s := last(id); s.Claims != 1 || s.Version == 0 {
			t.Errorf("%+v", s)
		}
	}
	if s, err := q.Status(t.Context(), after.ID); err != nil || s.Version != last(after.ID).Version {
		t.Errorf("Status has version %d, WatchAll %d, %v", s.Version, last(after.ID).Version, err)
	}
}

// What changes while a watcher is cut off reaches it all the same.
func TestWatchAllSurvivesTheBroker(t *testing.T) {
	t.Parallel()
	server := startServer(t, EmbeddedConfig{})
	q, other := open(t, server), open(t, server)
	last, stop := follow(t, q)
	work(t, other, quick(), echo)
	await(t, other, submit(t, other, 10).ID, job.Done) // a worker that cannot begin gives up
	var ids []job.ID
	for range 3 {
		for range 3 {
			ids = append(ids, submit(t, other, 10).ID)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the broker is back", func() bool { return other.Ping(t.Context()) == nil })
	}
	for _, id := range ids {
		eventually(t, "the end is told", func() bool { return last(id).State == job.Done })
	}
	stop()
	q.Close()
	if _, err := q.WatchAll(t.Context()); err == nil {
		t.Error("a closed queue is watched")
	}
}

func TestWatchAllEndsWithTheQueue(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	updates, err := q.WatchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
	select {
	case _, ok := <-updates:
		if ok {
			t.Error("a status of no job")
		}
	case <-time.After(10 * time.Second):
		t.Error("the channel stays open")
	}
}

// To submit a job again is no error at any time of its life, and runs it once.
func TestSubmitAgain(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	src, err := q.PutAudio(t.Context(), someReader("audio"))
	if err != nil {
		t.Fatal(err)
	}
	j := job.Job{ID: job.NewID(), FileName: "talk.mp3", Source: src, External: true}
	again := func(when string) {
		t.Helper()
		for range 2 {
			if err := q.Submit(t.Context(), j); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
	}
	again("new")
	begun, end := make(chan struct{}, 10), make(chan struct{})
	work(t, q, quick(), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		begun <- struct{}{}
		<-end
		return say("once"), nil
	})
	<-begun
	again("running")
	close(end)
	await(t, q, j.ID, job.Done)
	again("done")
	if err := q.audio.remove(t.Context(), src.Object); err != nil {
		t.Fatal(err)
	}
	again("without its audio")
	drained(t, q)
	if s, err := q.Status(t.Context(), j.ID); err != nil || s.Claims != 1 || s.State != job.Done || len(begun) != 0 {
		t.Errorf("%+v, %v, %d more runs", s, err, len(begun))
	}
	j.ID = job.NewID()
	wantCode(t, q.Submit(t.Context(), j), job.Input, "AUDIO_MISSING")
}

func someReader(s string) io.Reader { return &oneRead{s} }

type oneRead struct{ s string }

func (o *oneRead) Read(p []byte) (int, error) {
	if o.s == "" {
		return 0, io.EOF
	}
	n := copy(p, o.s)
	o.s = o.s[n:]
	return n, nil
}

func TestOutlived(t *testing.T) {
	l := Limits{ResultAge: 7 * day, RecordedAge: time.Hour, UnrecordedAge: 90 * day}
	for name, c := range map[string]struct {
		external           bool
		state              job.State
		finished, recorded time.Duration // ago; 0: not
		want               bool
	}{
		"running for long":            {false, job.Running, 0, 0, false},
		"external, running for long":  {true, job.Running, 0, 0, false},
		"ended":                       {false, job.Done, 6 * day, 0, false},
		"ended long ago":              {false, job.Done, 8 * day, 0, true},
		"external, not recorded":      {true, job.Done, 89 * day, 0, false},
		"external, never recorded":    {true, job.Failed, 91 * day, 0, true},
		"external, recorded just now": {true, job.Cancelled, 8 * day, time.Minute, false},
		"external, recorded":          {true, job.Done, 2 * time.Hour, 61 * time.Minute, true},
	} {
		r := record{Job: job.Job{External: c.external}, State: c.state}
		if c.finished > 0 {
			r.Finished = t0.Add(-c.finished)
		}
		if c.recorded > 0 {
			r.Recorded = t0.Add(-c.recorded)
		}
		if got := l.outlived(r, t0); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// The result of an external job outlasts every age until it is recorded, and goes then.
func TestSweepWaitsForTheRecord(t *testing.T) {
	t.Parallel()
	q := newQueue(t, func(c *Config) {
		c.Limits.ResultAge, c.Limits.RecordedAge, c.Grace = time.Millisecond, time.Millisecond, time.Millisecond
	})
	work(t, q, quick(), echo)
	plain := submit(t, q, 10)
	external := job.Job{ID: job.NewID(), FileName: "talk.mp3", Source: plain.Source, External: true}
	if err := q.Submit(t.Context(), external); err != nil {
		t.Fatal(err)
	}
	await(t, q, plain.ID, job.Done)
	await(t, q, external.ID, job.Done)
	sweep := func() {
		t.Helper()
		time.Sleep(5 * time.Millisecond)
		if err := q.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if _, err := q.Status(t.Context(), plain.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("the other job is still there: %v", err)
	}
	if r, err := q.Result(t.Context(), external.ID); err != nil || r.Text != "10 bytes" {
		t.Fatalf("the result is gone before it was recorded: %v", err)
	}
	s, err := q.Status(t.Context(), external.ID)
	if err != nil {
		t.Fatal(err)
	}
	finished := s.Finished
	for _, end := range []time.Time{finished.Add(-time.Second), {}} { // of other ends
		if err := q.Recorded(t.Context(), external.ID, end); err != nil {
			t.Fatal(err)
		}
		if s, err := q.Status(t.Context(), external.ID); err != nil || !s.Recorded.IsZero() {
			t.Fatalf("recorded by another end: %+v, %v", s, err)
		}
	}
	for range 2 {
		if err := q.Recorded(t.Context(), external.ID, finished); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if _, err := q.Status(t.Context(), external.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("the recorded job is still there: %v", err)
	}
	wantObjects(t, q.results)
	if err := q.Recorded(t.Context(), external.ID, finished); err != nil {
		t.Errorf("a job that is gone: %v", err)
	}
}

func TestRecordedNeedsAnEnd(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	j := submit(t, q, 10)
	if err := q.Recorded(t.Context(), j.ID, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if s, err := q.Status(t.Context(), j.ID); err != nil || !s.Recorded.IsZero() {
		t.Errorf("a waiting job counts as recorded: %+v, %v", s, err)
	}
}

// wantObjects checks the names in a store.
func wantObjects(t *testing.T, o *objects, want ...string) {
	t.Helper()
	list, err := o.store.List(t.Context())
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, info := range list {
		got[info.Name] = true
	}
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
		t.Errorf("objects %v, want %v", names, want)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	stop := work(t, q, quick(), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		if d.Job.FileName == "bad" {
			return transcript.Transcript{}, job.Errorf(job.Input, "BAD", "bad")
		}
		return echo(ctx, d)
	})
	done := submit(t, q, 10)
	await(t, q, done.ID, job.Done)
	failed := job.Job{ID: job.NewID(), FileName: "bad", Source: done.Source}
	if err := q.Submit(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	await(t, q, failed.ID, job.Failed)
	drained(t, q)
	_ = stop()
	waiting := submit(t, q, 10)
	for _, id := range []job.ID{done.ID, failed.ID, waiting.ID, job.NewID(), done.ID} {
		if err := q.Forget(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Status(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("job %s is still there: %v", id, err)
		}
	}
	wantObjects(t, q.results)
	if d, err := q.Depth(t.Context()); err != nil || d != (Depth{}) {
		t.Errorf("left over: %+v, %v", d, err)
	}
}

func TestForgetRunning(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	begun := make(chan struct{})
	work(t, q, quick(), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		close(begun)
		<-ctx.Done()
		return transcript.Transcript{}, ctx.Err()
	})
	j := submit(t, q, 10)
	<-begun
	wantCode(t, q.Forget(t.Context(), j.ID), job.Transient, "JOB_RUNNING")
	await(t, q, j.ID, job.Cancelled)
	if err := q.Forget(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
}

// A message whose record was lost does not run after Cancel has said that there is no such job.
func TestCancelWithoutRecord(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	j := submit(t, q, 10)
	if err := q.forget(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, q.Cancel(t.Context(), j.ID), job.Input, "JOB_NOT_FOUND")
	if d, err := q.Depth(t.Context()); err != nil || d.Pending != 0 {
		t.Errorf("left over: %+v, %v", d, err)
	}
}

func TestKeepAudio(t *testing.T) {
	t.Parallel()
	q := newQueue(t, func(c *Config) { c.Limits.AudioAge = time.Millisecond })
	put := func() string {
		t.Helper()
		src, err := q.PutAudio(t.Context(), someReader("kept"))
		if err != nil {
			t.Fatal(err)
		}
		return src.Object
	}
	name := put()
	if err := q.KeepAudio(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	put() // makes it young, and must not let go of it
	time.Sleep(5 * time.Millisecond)
	if err := q.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantObjects(t, q.audio, name)
	for range 2 {
		if err := q.DeleteAudio(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		wantObjects(t, q.audio)
	}
	wantCode(t, q.KeepAudio(t.Context(), name), job.Input, "AUDIO_MISSING")
}

// Audio that a job needs stays, and goes by Sweep after it.
func TestDeleteAudioInUse(t *testing.T) {
	t.Parallel()
	q := newQueue(t, func(c *Config) { c.Limits.AudioAge = time.Millisecond })
	j := submit(t, q, 10)
	if err := q.KeepAudio(t.Context(), j.Source.Object); err != nil {
		t.Fatal(err)
	}
	if err := q.DeleteAudio(t.Context(), j.Source.Object); err != nil {
		t.Fatal(err)
	}
	work(t, q, quick(), echo)
	await(t, q, j.ID, job.Done)
	time.Sleep(5 * time.Millisecond)
	if err := q.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantObjects(t, q.audio)
}
