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
	"steno/relay"
	"steno/transcript"
)

// A queue that has lost its disk gets all open tasks again; those whose audio went with it fail and say so.
func TestReconcileLostQueue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		r := newRig(t, dsn)
		_, stop := r.relay(r.config())
		kept, lost := r.create(), r.create()
		r.file = r.upload("other audio")
		gone := r.create()
		r.settled()
		stop()
		r.q.Close()
		r.server.Shutdown()

		r.server = must(queue.Embedded(t.Context(), queue.EmbeddedConfig{Dir: t.TempDir(), MaxBytes: 256 << 20}))(t)
		t.Cleanup(r.server.Shutdown)
		r.q = r.connect()
		r.upload("audio") // as a backup would
		if _, err := r.s.CancelTask(t.Context(), r.user.ID, kept.ID); err != nil {
			t.Fatal(err)
		}
		cfg := r.config()
		r.relay(cfg)
		r.work(r.q, echo)
		r.await(kept.ID, job.Cancelled)
		r.done(lost.ID)
		if got := r.await(gone.ID, job.Failed); got.Error.Code != "AUDIO_MISSING" {
			t.Errorf("%+v", got.Error)
		}
		counted(t, cfg, "steno_reconciler_findings_total", "finding", "republished", 2)
	})
}

// What the recorder does not see, the reconciler finds: the end, and a state that is old.
func TestReconcileUnseen(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.config()
	cfg.Queue = blind{jobs{r.q}}
	r.relay(cfg)
	end := make(chan struct{})
	r.work(r.q, func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		<-end
		return echo(ctx, d)
	})
	task := r.create()
	r.await(task.ID, job.Running)
	close(end)
	r.done(task.ID)
	for _, f := range []string{"caught up", "recorded"} {
		r.eventually(f+" is counted", func() bool { return counter(t, cfg, "steno_reconciler_findings_total", "finding", f) > 0 })
	}
}

// A task that was cancelled while the queue lost its job ends as cancelled.
func TestReconcileCancelOfALostJob(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.config()
	cancelled := &lostCancel{jobs: jobs{r.q}}
	cfg.Queue = cancelled
	r.relay(cfg)
	task := r.create()
	r.settled()
	if _, err := r.s.CancelTask(t.Context(), r.user.ID, task.ID); err != nil {
		t.Fatal(err)
	}
	r.await(task.ID, job.Cancelled)
	counted(t, cfg, "steno_reconciler_findings_total", "finding", "cancelled", 1)
}

// lostCancel forgets the job instead of cancelling it, and shows nothing.
type lostCancel struct{ jobs }

func (l *lostCancel) WatchAll(ctx context.Context) (<-chan relay.Status, error) {
	return blind{l.jobs}.WatchAll(ctx)
}

func (l *lostCancel) Cancel(ctx context.Context, id job.ID) error { return l.Forget(ctx, id) }

// The numbers of a job whose record was lost begin anew, below those that were recorded. Its end counts all the same.
func TestReconcileNumbersBeginAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.config()
	renumbered := &renumber{jobs: jobs{r.q}}
	renumbered.by.Store(1000)
	cfg.Queue = renumbered
	r.relay(cfg)
	end := make(chan struct{})
	r.work(r.q, func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		<-end
		return echo(ctx, d)
	})
	task := r.create()
	if got := r.await(task.ID, job.Running); got.Attempt < 1000 {
		t.Fatalf("attempt %d", got.Attempt)
	}
	renumbered.by.Store(0)
	close(end)
	r.done(task.ID)
}

// renumber adds to the numbers of all states.
type renumber struct {
	jobs
	by atomic.Int64
}

func (n *renumber) add(s relay.Status) relay.Status {
	s.Claims += int(n.by.Load())
	s.Version += uint64(n.by.Load())
	return s
}

func (n *renumber) Status(ctx context.Context, id job.ID) (relay.Status, error) {
	s, err := n.jobs.Status(ctx, id)
	return n.add(s), err
}

func (n *renumber) WatchAll(ctx context.Context) (<-chan relay.Status, error) {
	in, err := n.jobs.WatchAll(ctx)
	out := make(chan relay.Status)
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(out)
		for s := range in {
			select {
			case out <- n.add(s):
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

// unreadable is a queue whose results cannot be read.
type unreadable struct {
	jobs
	err   error
	asked atomic.Int64
}

func (u *unreadable) Result(context.Context, job.ID) (transcript.Transcript, error) {
	u.asked.Add(1)
	return transcript.Transcript{}, u.err
}

// A task whose transcript will never be had fails, and says so, instead of staying open.
func TestResultThatIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err         error
		code        string
		least, most int64 // times that it is asked for; an event that comes twice asks twice
	}{
		"gone":    {job.Errorf(job.Input, "RESULT_GONE", "gone"), "RESULT_GONE", 5, 10},
		"damaged": {errors.New("unexpected end of JSON"), "RESULT_DAMAGED", 5, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
			cfg := r.config()
			u := &unreadable{jobs: jobs{r.q}, err: c.err}
			cfg.Queue, cfg.ReconcileEvery = u, time.Hour
			r.relay(cfg)
			r.work(r.q, echo)
			if got := r.await(r.create().ID, job.Failed); got.Error.Code != c.code {
				t.Errorf("%+v", got.Error)
			}
			if n := u.asked.Load(); n < c.least || n > c.most {
				t.Errorf("asked %d times, want %d to %d", n, c.least, c.most)
			}
		})
	}
}

// A transcript that cannot be had now is asked for until it can.
func TestResultThatIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.config()
	a := &away{jobs: jobs{r.q}}
	a.left.Store(2)
	cfg.Queue, cfg.ReconcileEvery = a, time.Hour
	r.relay(cfg)
	r.work(r.q, echo)
	r.done(r.create().ID)
	if n := a.left.Load(); n > 0 {
		t.Errorf("%d failures were left over", n)
	}
}

// away is a queue whose results are away for some calls.
type away struct {
	jobs
	left atomic.Int64
}

func (a *away) Result(ctx context.Context, id job.ID) (transcript.Transcript, error) {
	if a.left.Add(-1) >= 0 {
		return transcript.Transcript{}, job.Errorf(job.Transient, "QUEUE_UNREACHABLE", "away")
	}
	return a.jobs.Result(ctx, id)
}
