package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"steno/job"
)

// maxRequeues bounds how often a job goes back for want of memory or disk before it fails.
const maxRequeues = 20

// judge decides what a handler's error means. cause is why the handler's context ended, nil where it did not; stopping says
// that the worker is being stopped. r is the job's record as the attempt began.
func (c WorkerConfig) judge(err, cause error, stopping bool, r record) verdict {
	if err == nil {
		return verdict{outcome: OutcomeDone}
	}
	e := job.AsError(err)
	switch {
	case errors.Is(cause, ErrLeaseLost):
		return verdict{outcome: OutcomeLost}
	case errors.Is(cause, ErrCancelled):
		return verdict{outcome: OutcomeCancelled}
	case stopping && e.Class != job.Input:
		// Whatever it says: a stop of the whole service ends the engine processes too, and that is not the job's fault.
		return verdict{outcome: OutcomeHandedOn}
	case errors.Is(cause, ErrStalled):
		e = &job.Error{
			Class: job.Internal, Code: "STALLED", Err: err,
			Message: fmt.Sprintf("the job made no progress for %s: read the worker's log", c.StallAfter),
		}
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		if !isJobError(err) {
			e = &job.Error{Class: job.Transient, Code: "TIMEOUT", Err: err, Message: "the work took too long: try again"}
		}
	}
	switch {
	case e.Permanent():
		return verdict{outcome: OutcomeFailed, err: e}
	case e.Class == job.Resource && r.Requeues < maxRequeues:
		return verdict{outcome: OutcomeRequeued, err: e, delay: c.backoff(r.Requeues)}
	case e.Class == job.Resource || r.failures() >= c.MaxAttempts:
		return verdict{outcome: OutcomeFailed, err: e}
	}
	return verdict{outcome: OutcomeRetried, err: e, delay: c.backoff(r.failures() - 1)}
}

func isJobError(err error) bool {
	var e *job.Error
	return errors.As(err, &e)
}

// backoff is RetryBase doubled n times, at most RetryCap, and up to a quarter more, so that jobs which failed together do not
// come back together.
func (c WorkerConfig) backoff(n int) time.Duration {
	d := c.RetryCap
	if n < 30 {
		d = min(d, c.RetryBase<<n)
	}
	return d + rand.N(d/4+1)
}
