package relay

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"steno/internal/failpoint"
	"steno/job"
	"steno/store"
)

// recorder writes what the queue reports into the record.
type recorder struct {
	cfg     Config
	metrics *metrics
	box     *mailbox
	ended   func() // tells the webhooks that a task has ended
}

func newRecorder(cfg Config, m *metrics, ended func()) *recorder {
	r := &recorder{cfg: cfg, metrics: m, box: newMailbox(), ended: ended}
	m.waiting(r.box.len)
	return r
}

// How long the recorder waits for one answer, and between two tries.
const (
	recordTimeout  = 20 * time.Second
	recordRetryCap = 30 * time.Second
)

func (r *recorder) run(ctx context.Context) {
	defer r.box.closeWith(ctx)()
	var workers sync.WaitGroup
	defer workers.Wait()
	for range r.cfg.Recorders {
		workers.Go(func() { r.work(ctx) })
	}
	for failures := 1; ctx.Err() == nil; failures++ {
		jobs, err := r.cfg.Queue.WatchAll(ctx)
		if err == nil {
			failures = 1
			for s := range jobs {
				r.take(s)
			}
		}
		pause := retryPause(failures, 10*time.Second)
		if ctx.Err() == nil {
			r.cfg.Log.Warn("follow the queue", "error", err, "pause", pause)
		}
		sleep(ctx, pause)
	}
}

// echoAge is how long after a task was recorded its status is still passed on: other gateways record, too, and what this one
// shows to its users may be older. It allows for clocks that differ.
const echoAge = 5 * time.Minute

// take keeps what is to be recorded.
func (r *recorder) take(s Status) {
	if !s.Job.External || !s.Recorded.IsZero() && r.cfg.Now().Sub(s.Recorded) > echoAge {
		return
	}
	r.box.put(s)
}

func (r *recorder) work(ctx context.Context) {
	for {
		s, tries, ok := r.box.next()
		if !ok {
			return
		}
		pause := time.Duration(0)
		if _, err := r.record(ctx, s, tries); err != nil {
			pause = retryPause(tries+1, recordRetryCap)
			if ctx.Err() == nil {
				r.metrics.recordErrors.Inc()
				r.cfg.Log.Warn("record task", "task", s.Job.ID, "state", s.State, "error", err, "pause", pause)
			}
		}
		r.box.done(s.Job.ID, pause)
	}
}

// record applies a status to the record; tries is how often that has failed. The effect is empty where nothing was to be applied.
func (r *recorder) record(ctx context.Context, s Status, tries int) (store.Effect, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	if !s.Recorded.IsZero() { // by another gateway, or by us
		r.cfg.OnChange(s.Job.User, s.Job.ID)
		return "", nil
	}
	u, err := r.update(ctx, s, tries)
	if codeOf(err) == codeNotFound {
		return "", nil // deleted since, and so is the task
	}
	if err != nil {
		return "", err
	}
	effect, err := r.apply(ctx, s.Job.User, u)
	if err != nil || !s.State.Terminal() {
		return effect, err
	}
	return effect, r.confirm(ctx, s, effect)
}

// confirm tells the queue that the end of a job is in the record.
func (r *recorder) confirm(ctx context.Context, s Status, effect store.Effect) error {
	switch effect {
	case store.Applied, store.Duplicate:
	case store.Ended: // by what users did while the queue was away
		r.cfg.Log.Info("task had ended before its job", "task", s.Job.ID, "state", s.State)
	default:
		// Unknown: the task was deleted, which the queue is told by a command, or belongs to another database. Late: the reconciler
		// looks at it.
		return nil
	}
	if err := r.cfg.Queue.Recorded(ctx, s.Job.ID, s.Finished); err != nil {
		return err
	}
	if failpoint.On {
		failpoint.Hit(failpoint.ConfirmAfter)
	}
	return nil
}

// update makes a status into what the record takes, with the transcript where there has to be one.
func (r *recorder) update(ctx context.Context, s Status, tries int) (store.Update, error) {
	u := store.Update{
		Task: s.Job.ID, State: s.State, Attempt: s.Claims, Version: s.Version, Progress: s.Progress, Error: s.Error,
		Started: s.Started, Ended: s.Finished, Retried: s.Retried,
	}
	if u.State == job.Failed && (u.Error == nil || u.Error.Code == "") {
		u.Error = job.Errorf(job.Internal, "UNKNOWN", "the job failed and nothing says why: read the worker's log")
	}
	if u.State != job.Done {
		return u, nil
	}
	t, err := r.cfg.Queue.Result(ctx, s.Job.ID)
	if lost := lostResult(err, tries); lost != nil {
		u.State, u.Error = job.Failed, lost
		return u, nil //nolint:nilerr // the error is in the update
	}
	u.Result = &t
	return u, err
}

// maxResultTries is how often a result that cannot be read is asked for: with the pauses, for half a minute.
const maxResultTries = 5

// lostResult returns the error with which a task ends whose transcript will never be had, or nil where it may be had yet.
func lostResult(err error, tries int) *job.Error {
	e := job.AsError(err)
	switch {
	case e == nil, e.Code == codeNotFound, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case tries+1 < maxResultTries: // not at once, for a broker in trouble says such things, too
	case e.Code == codeResultGone:
		return e
	case e.Class == job.Internal || e.Class == job.Input:
		return job.Errorf(job.Internal, "RESULT_DAMAGED", "the transcript cannot be read: create the task again (%w)", err)
	}
	return nil
}

// apply writes an update and tells those who show it.
func (r *recorder) apply(ctx context.Context, user string, u store.Update) (store.Effect, error) {
	if failpoint.On && u.State.Terminal() {
		failpoint.Hit(failpoint.ApplyBefore)
	}
	effect, err := r.cfg.Store.Apply(ctx, u)
	if err != nil {
		return "", err
	}
	if failpoint.On && u.State.Terminal() {
		failpoint.Hit(failpoint.ApplyAfter)
	}
	r.metrics.updates.WithLabelValues(string(effect)).Inc()
	if effect == store.Unknown {
		return effect, nil
	}
	if effect == store.Applied && u.State.Terminal() {
		r.ended()
	}
	r.cfg.OnChange(user, u.Task)
	return effect, nil
}

// last is a version above all others.
const last = math.MaxInt64

// end gives a task a terminal state that the queue does not know: it does not have the job, or will not take it. That the task
// has ended, or is not there, is no error.
func (r *recorder) end(ctx context.Context, id job.ID, s job.State, why *job.Error) error {
	t, err := r.cfg.Store.AnyTask(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = r.apply(ctx, t.User, store.Update{
		Task: id, State: s, Attempt: t.Attempt, Version: last, Error: why,
		Progress: job.Progress{Stage: t.Stage, Done: t.Progress, Total: 1},
	})
	return err
}
