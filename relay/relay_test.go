package relay_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"steno/job"
	"steno/queue"
	"steno/relay"
	"steno/store"
	"steno/transcript"
)

// From the commit of the task to its transcript in the database, and back to the queue that it is there.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		r := newRig(t, dsn)
		var seen changes
		cfg := r.config()
		cfg.Tick, cfg.OnChange = time.Hour, seen.note // so that only Notify can be what wakes it
		rel, _ := r.relay(cfg)
		r.work(r.q, echo)
		time.Sleep(100 * time.Millisecond) // until it has found nothing
		start := time.Now()
		task := r.create()
		rel.Notify()
		r.done(task.ID)
		t.Logf("%v from create to done", time.Since(start))
		r.settled()
		r.eventually("the queue knows that it is recorded", func() bool {
			s, err := r.q.Status(t.Context(), task.ID)
			return err == nil && !s.Recorded.IsZero()
		})
		got := must(r.s.AnyTask(t.Context(), task.ID))(t)
		if got.Attempt != 1 || got.Started.IsZero() || got.Ended.Before(got.Started) || got.Progress != 1 {
			t.Errorf("%+v", got)
		}
		if user, n := seen.of(task.ID); user != r.user.ID || n < 2 {
			t.Errorf("%d changes of user %q were told", n, user)
		}
		counted(t, cfg, "steno_outbox_commands_done_total", "kind", "publish", 1)
	})
}

// Without Notify the tick finds what another gateway has committed.
func TestTick(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	r.relay(r.config())
	r.work(r.q, echo)
	r.done(r.create().ID)
}

func TestFailureIsRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	r.relay(r.config())
	r.work(r.q, func(context.Context, *queue.Delivery) (transcript.Transcript, error) {
		return transcript.Transcript{}, job.Errorf(job.Input, "NO_AUDIO_STREAM", "there is no sound: send another file")
	})
	got := r.await(r.create().ID, job.Failed)
	if got.Error == nil || got.Error.Code != "NO_AUDIO_STREAM" || got.Error.Class != job.Input {
		t.Errorf("%+v", got.Error)
	}
}

// What the queue will never take has failed, and is not tried for ever.
func TestRefusedJobFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	var seen changes
	cfg := r.config()
	cfg.OnChange = seen.note
	if err := r.q.DeleteAudio(t.Context(), r.file.Object); err != nil {
		t.Fatal(err)
	}
	task := r.create()
	r.relay(cfg)
	if got := r.await(task.ID, job.Failed); got.Error == nil || got.Error.Code != "AUDIO_MISSING" {
		t.Errorf("%+v", got.Error)
	}
	r.settled()
	if user, _ := seen.of(task.ID); user != r.user.ID {
		t.Errorf("the change was told to %q", user)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		r := newRig(t, dsn)
		rel, _ := r.relay(r.config())
		waiting := r.create()
		r.settled()
		cancel := func(id job.ID) {
			t.Helper()
			if _, err := r.s.CancelTask(t.Context(), r.user.ID, id); err != nil {
				t.Fatal(err)
			}
			rel.Notify()
			r.await(id, job.Cancelled)
		}
		cancel(waiting.ID)
		begun := make(chan job.ID, 1)
		r.work(r.q, func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
			begun <- d.Job.ID
			<-ctx.Done()
			return transcript.Transcript{}, ctx.Err()
		})
		running := r.create()
		if id := <-begun; id != running.ID {
			t.Fatalf("job %s runs, want %s", id, running.ID)
		}
		cancel(running.ID)
	})
}

// A job that the queue has lost is cancelled by that.
func TestCancelOfALostJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.config()
	cfg.Queue, cfg.ReconcileEvery, cfg.Grace = blind{jobs{r.q}}, time.Hour, time.Hour
	rel, _ := r.relay(cfg)
	task := r.create()
	r.settled()
	if err := r.q.Forget(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.s.CancelTask(t.Context(), r.user.ID, task.ID); err != nil {
		t.Fatal(err)
	}
	rel.Notify()
	r.await(task.ID, job.Cancelled)
	r.settled()
}

// blind is a queue whose jobs nobody sees.
type blind struct{ jobs }

func (blind) WatchAll(ctx context.Context) (<-chan relay.Status, error) {
	nothing := make(chan relay.Status)
	context.AfterFunc(ctx, func() { close(nothing) })
	return nothing, nil
}

func TestDelete(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		r := newRig(t, dsn)
		rel, _ := r.relay(r.config())
		r.work(r.q, echo)
		task := r.create()
		r.done(task.ID)
		if err := r.s.DeleteTask(t.Context(), r.user.ID, task.ID); err != nil {
			t.Fatal(err)
		}
		freed, _, err := r.s.DeleteFile(t.Context(), r.user.ID, r.file.ID)
		if err != nil {
			t.Fatal(err)
		}
		rel.Notify()
		r.settled()
		if _, err := r.q.Status(t.Context(), task.ID); !errors.Is(err, queue.ErrNotFound) {
			t.Errorf("the queue still has the job: %v", err)
		}
		if err := r.q.KeepAudio(t.Context(), freed); codeOf(err) != "AUDIO_MISSING" {
			t.Errorf("the queue still has the audio: %v", err)
		}
	})
}

// Jobs of the command line are none of the relay's business, whatever they are.
func TestOthersJobs(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.config()
	r.relay(cfg)
	r.work(r.q, echo)
	src := job.Source{Object: r.file.Object, SHA256: r.file.SHA256, Size: r.file.Size}
	plain := job.Job{ID: job.NewID(), FileName: "x", Source: src}
	foreign := job.Job{ID: job.NewID(), FileName: "x", Source: src, External: true} // of another database
	for _, j := range []job.Job{plain, foreign} {
		if err := r.q.Submit(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	r.done(r.create().ID)
	r.eventually("the foreign job was seen", func() bool { return counter(t, cfg, "steno_recorder_updates_total", "effect", "unknown") > 0 })
	for _, j := range []job.Job{plain, foreign} {
		var s queue.Status
		r.eventually("it has ended", func() bool {
			s = must(r.q.Status(t.Context(), j.ID))(t)
			return s.State == job.Done
		})
		if !s.Recorded.IsZero() {
			t.Errorf("job %s counts as recorded", j.ID)
		}
		if res := must(r.q.Result(t.Context(), j.ID))(t); res.Text != string(j.ID) {
			t.Errorf("result %q", res.Text)
		}
	}
}

// A gateway shows what another one has recorded.
func TestAllRelaysTellOfChanges(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	var seen [3]changes
	for i := range seen {
		cfg := r.config()
		cfg.OnChange = seen[i].note
		r.relay(cfg)
	}
	r.work(r.q, echo)
	for range 20 {
		id := r.create().ID
		r.done(id)
		for i := range seen {
			r.eventually("it is told by all", func() bool { _, n := seen[i].of(id); return n > 0 })
		}
	}
	// One that comes when all is recorded may serve what it was shown before: it is told, too.
	last := r.create().ID
	r.done(last)
	r.eventually("the queue knows that it is recorded", func() bool {
		s, err := r.q.Status(t.Context(), last)
		return err == nil && !s.Recorded.IsZero()
	})
	var late changes
	cfg := r.config()
	cfg.OnChange = late.note
	r.relay(cfg)
	r.eventually("it is told", func() bool { _, n := late.of(last); return n > 0 })
}

// What was done while no relay ran is recorded by the next one.
func TestLateRelay(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	_, stop := r.relay(r.config())
	var ids []job.ID
	for range 10 {
		ids = append(ids, r.create().ID)
	}
	r.settled()
	stop()
	r.work(r.q, echo)
	r.eventually("the queue has done all", func() bool {
		return len(must(r.q.List(t.Context(), queue.Filter{States: []job.State{job.Done}}))(t)) == len(ids)
	})
	cfg := r.config()
	cfg.ReconcileEvery, cfg.Grace = time.Hour, time.Hour // the recorder alone must do it
	r.relay(cfg)
	for _, id := range ids {
		r.done(id)
	}
}

// A relay that stops ends what it has begun, or gives it back at once.
func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.config()
	cfg.Lease = time.Hour
	hang := &slowSubmit{jobs: jobs{r.q}, begun: make(chan struct{})}
	cfg.Queue = hang
	_, stop := r.relay(cfg)
	task := r.create()
	<-hang.begun
	start := time.Now()
	stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	cfg = r.config() // without the lease being over
	r.relay(cfg)
	r.work(r.q, echo)
	r.done(task.ID)
}

// slowSubmit takes jobs when its context ends, which is never confirmed.
type slowSubmit struct {
	jobs
	begun chan struct{}
}

func (s *slowSubmit) Submit(ctx context.Context, j job.Job) error {
	close(s.begun)
	<-ctx.Done()
	return errors.Join(ctx.Err(), s.jobs.Submit(context.WithoutCancel(ctx), j))
}

var _ relay.Store = (*store.Store)(nil)
