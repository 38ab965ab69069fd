package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"steno/internal/failpoint"
	"steno/job"
	"steno/store"
)

// publisher carries out what the outbox says to the queue.
type publisher struct {
	queue    Commands
	recorder *recorder
}

func newPublisher(cfg Config, m *metrics, rec *recorder) *lane {
	p := &publisher{queue: cfg.Queue, recorder: rec}
	return &lane{
		name: store.LaneQueue, outbox: cfg.Store, do: p.do, lease: cfg.Lease, tick: cfg.Tick,
		pause: func(tries int) time.Duration { return retryPause(tries, cfg.RetryCap) },
		slots: make(chan struct{}, cfg.Slots), wake: make(chan struct{}, 1), log: cfg.Log, metrics: m,
	}
}

func (p *publisher) do(ctx context.Context, cmd store.Command) error {
	switch cmd.Kind {
	case store.Publish:
		return p.publish(ctx, cmd)
	case store.Cancel:
		return p.cancel(ctx, cmd.Task)
	case store.Delete:
		return p.queue.Forget(ctx, cmd.Task)
	case store.Purge:
		return p.queue.DeleteAudio(ctx, cmd.Object)
	}
	return fmt.Errorf("command %d is a %q, which this version does not know: a newer gateway must do it", cmd.ID, cmd.Kind)
}

// publish puts a job on the queue. One that the queue will never take has failed.
func (p *publisher) publish(ctx context.Context, cmd store.Command) error {
	if failpoint.On {
		failpoint.Hit(failpoint.SubmitBefore)
	}
	j := cmd.Job
	j.External = true // the queue keeps its result until the recorder has it
	err := p.queue.Submit(ctx, j)
	if failpoint.On && err == nil {
		failpoint.Hit(failpoint.SubmitAfter)
	}
	if e := refusal(err); e != nil {
		return p.recorder.end(ctx, cmd.Task, job.Failed, e)
	}
	return err
}

// cancel asks for the end of a job. One that is not there has ended by that; one that has ended is the recorder's.
func (p *publisher) cancel(ctx context.Context, id job.ID) error {
	err := p.queue.Cancel(ctx, id)
	switch codeOf(err) {
	case codeEnded:
		return nil
	case codeNotFound:
		return p.recorder.end(ctx, id, job.Cancelled, nil)
	}
	return err
}

// Codes of the queue's errors, which are part of the contract.
const (
	codeEnded      = "JOB_ENDED"
	codeNotFound   = "JOB_NOT_FOUND"
	codeResultGone = "RESULT_GONE"
)

// codeOf is the code of a *job.Error, empty for all others.
func codeOf(err error) string {
	var e *job.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// refusal returns the error that says that no further try can help, or nil.
func refusal(err error) *job.Error {
	var e *job.Error
	if errors.As(err, &e) && e.Class == job.Input && e.Code != codeNotFound { // which is what a broker in trouble says
		return e
	}
	return nil
}
