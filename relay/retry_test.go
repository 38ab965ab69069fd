package relay_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"steno/job"
	"steno/queue"
	"steno/store"
	"steno/transcript"
)

// mendable is a handler that fails until the flag is set.
func mendable(mended *atomic.Bool) queue.Handler {
	return func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		if !mended.Load() {
			return transcript.Transcript{}, job.Errorf(job.Input, "NO_AUDIO_STREAM", "there is no sound: send another file")
		}
		return echo(ctx, d)
	}
}

// retry has a job tried again, as soon as it has a dead letter.
func (r *rig) retry(id job.ID) {
	r.Helper()
	r.eventually("it has a dead letter", func() bool { _, err := r.q.DeadLetter(r.Context(), string(id)); return err == nil })
	if err := r.q.RetryDead(r.Context(), id); err != nil {
		r.Fatal(err)
	}
}

// A job that the queue brings back opens its task again, whoever has asked for it, and the task takes another end.
func TestRetryOpensTheTask(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		r := newRig(t, dsn)
		hooks := newReceiver(t, 200)
		var seen changes
		cfg := r.calling()
		cfg.OnChange = seen.note
		rel, _ := r.relay(cfg)
		var mended atomic.Bool
		stop := r.work(r.q, mendable(&mended))
		task := r.create(to(hooks.URL))
		rel.Notify()
		for range 2 { // it fails again after the first retry
			failed := r.await(task.ID, job.Failed)
			r.settled()
			stop()
			_, before := seen.of(task.ID)
			r.retry(task.ID)
			var got store.Task
			r.eventually("it is open again", func() bool {
				got = must(r.s.AnyTask(t.Context(), task.ID))(t)
				return !got.Status.Terminal()
			})
			if got.Status != job.Queued || got.Error != nil || !got.Ended.IsZero() || got.Progress != 0 || got.Attempt != failed.Attempt {
				t.Errorf("it is opened again as %+v", got)
			}
			r.eventually("somebody is told", func() bool { _, n := seen.of(task.ID); return n > before })
			if code := codeOf(r.q.RetryDead(t.Context(), task.ID)); code != "DEAD_LETTER_NOT_FOUND" {
				t.Errorf("a second time: %s", code)
			}
			stop = r.work(r.q, mendable(&mended))
			r.eventually("it has failed again", func() bool {
				now := must(r.s.AnyTask(t.Context(), task.ID))(t)
				return now.Status == job.Failed && now.Attempt > failed.Attempt
			})
		}
		mended.Store(true)
		r.settled()
		r.retry(task.ID)
		r.eventually("it is done", func() bool { return must(r.s.AnyTask(t.Context(), task.ID))(t).Status == job.Done })
		r.done(task.ID)
		r.settled()
		told := map[string]bool{}
		for _, c := range hooks.got() {
			told[c.header.Get("Steno-Delivery")] = true
		}
		if len(told) != 4 {
			t.Errorf("three failures and one end were told as %v", told)
		}
		if letters := must(r.q.DeadLetters(t.Context()))(t); len(letters) != 0 {
			t.Errorf("dead letters are left: %+v", letters)
		}
	})
}

// What happens while no gateway is there is found by the next one: here the retry and the end that follows.
func TestRetryWithoutARelay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		r := newRig(t, dsn)
		_, away := r.relay(r.config())
		var mended atomic.Bool
		r.work(r.q, mendable(&mended))
		one, two := r.create(), r.create()
		r.await(one.ID, job.Failed)
		r.await(two.ID, job.Failed)
		r.eventually("the queue knows that they are recorded", func() bool {
			a, b := must(r.q.Status(t.Context(), one.ID))(t), must(r.q.Status(t.Context(), two.ID))(t)
			return !a.Recorded.IsZero() && !b.Recorded.IsZero()
		})
		away()
		mended.Store(true)
		if err := errors.Join(r.q.RetryDead(t.Context(), one.ID), r.s.DeleteTask(t.Context(), r.user.ID, two.ID),
			r.q.RetryDead(t.Context(), two.ID)); err != nil { // by the command line, which does not know that it is deleted
			t.Fatal(err)
		}
		r.eventually("both have run", func() bool {
			a, b := must(r.q.Status(t.Context(), one.ID))(t), must(r.q.Status(t.Context(), two.ID))(t)
			return a.State == job.Done && b.State == job.Done
		})
		r.relay(r.config())
		r.eventually("the record has the end", func() bool { return must(r.s.AnyTask(t.Context(), one.ID))(t).Status == job.Done })
		r.done(one.ID)
		r.settled()
		if _, err := r.q.Status(t.Context(), two.ID); codeOf(err) != "JOB_NOT_FOUND" {
			t.Errorf("of the task that was deleted the queue still has its job: %v", err)
		}
	})
}

// The queue forgets a recorded job long before its dead letter goes. What follows a retry is newer than the failure all the same.
func TestRetryOfAForgottenJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"), queue.Limits{RecordedAge: time.Millisecond})
	r.relay(r.config())
	var mended atomic.Bool
	r.work(r.q, mendable(&mended))
	task := r.create()
	failed := r.await(task.ID, job.Failed)
	r.eventually("the queue has forgotten it", func() bool {
		if err := r.q.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := r.q.Status(t.Context(), task.ID)
		return codeOf(err) == "JOB_NOT_FOUND"
	})
	mended.Store(true)
	r.retry(task.ID)
	r.eventually("it is done", func() bool { return must(r.s.AnyTask(t.Context(), task.ID))(t).Status == job.Done })
	r.done(task.ID)
	if now := must(r.s.AnyTask(t.Context(), task.ID))(t); now.Attempt <= failed.Attempt {
		t.Errorf("attempt %d after %d", now.Attempt, failed.Attempt)
	}
}
