package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"steno/job"
	"steno/store"
)

// reconciler compares the open tasks with the queue.
type reconciler struct {
	cfg       Config
	metrics   *metrics
	recorder  *recorder
	published func() // tells the publisher that there are commands
}

// finding is what was put right.
type finding string

const (
	foundNothing  finding = ""
	foundLost     finding = "republished" // the queue did not know the job
	foundEnded    finding = "recorded"    // the queue knew an end that was not recorded
	foundCancel   finding = "cancelled"   // to be cancelled, and the queue did not know it
	foundHopeless finding = "failed"      // the queue did not know it, and it cannot be published again
	foundBehind   finding = "caught up"   // the state in the record was old
)

const (
	reconcilePage    = 200
	reconcileTimeout = 5 * time.Minute // for one comparison
)

func (r *reconciler) run(ctx context.Context) {
	for {
		if err := r.all(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Log.Warn("reconcile record and queue", "error", err)
		}
		if !sleep(ctx, r.cfg.ReconcileEvery) {
			return
		}
	}
}

// all looks at each open task that is not new. A task that cannot be looked at does not keep the others from it.
func (r *reconciler) all(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	before := r.cfg.Now().Add(-r.cfg.Grace)
	var after *store.Task
	var errs []error
	for {
		page, err := r.cfg.Store.OpenTasks(ctx, before, after, reconcilePage)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, t := range page {
			found, err := r.one(ctx, t)
			if err != nil {
				errs = append(errs, fmt.Errorf("task %s: %w", t.ID, err))
			}
			r.note(t, found)
			if ctx.Err() != nil || len(errs) > 10 { // whatever is away is away for all
				return errors.Join(errs...)
			}
		}
		if len(page) < reconcilePage {
			return errors.Join(errs...)
		}
		after = &page[len(page)-1].Task
	}
}

func (r *reconciler) note(t store.OpenTask, found finding) {
	if found == foundNothing {
		return
	}
	r.metrics.findings.WithLabelValues(string(found)).Inc()
	r.cfg.Log.Info("reconciled", "task", t.ID, "state", t.Status, "finding", found)
}

// one looks at a task. What it finds it puts right.
func (r *reconciler) one(ctx context.Context, t store.OpenTask) (finding, error) {
	if t.Pending {
		return foundNothing, nil // the publisher is at it
	}
	s, err := r.cfg.Queue.Status(ctx, t.ID)
	switch {
	case codeOf(err) == codeNotFound:
		return r.lost(ctx, t)
	case err != nil:
		return foundNothing, err
	case s.State.Terminal():
		return r.ended(ctx, t, s)
	case s.State != t.Status:
		r.recorder.take(s)
		return foundBehind, nil
	}
	return foundNothing, nil
}

// lost deals with a task that the queue does not know.
func (r *reconciler) lost(ctx context.Context, t store.OpenTask) (finding, error) {
	if t.Cancelling {
		return foundCancel, r.recorder.end(ctx, t.ID, job.Cancelled, nil)
	}
	did, err := r.cfg.Store.Republish(ctx, t.ID)
	if e := refusal(err); e != nil { // its file is gone
		return foundHopeless, r.recorder.end(ctx, t.ID, job.Failed, e)
	}
	if err != nil || !did {
		return foundNothing, err
	}
	r.published()
	r.cfg.OnChange(t.User, t.ID)
	return foundLost, nil
}

// ended records an end that the queue knows.
func (r *reconciler) ended(ctx context.Context, t store.OpenTask, s Status) (finding, error) {
	s.Recorded = time.Time{} // the record says that it was not
	s.Claims = max(s.Claims, t.Attempt)
	effect, err := r.recorder.record(ctx, s, 0)
	if effect == store.Late {
		// The job's record was lost and began anew with lower numbers. This is its end all the same: it was read just now.
		s.Version = last
		effect, err = r.recorder.record(ctx, s, 0)
	}
	if err != nil || effect != store.Applied {
		return foundNothing, err
	}
	return foundEnded, nil
}
