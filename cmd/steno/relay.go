package main

import (
	"context"

	"steno/job"
	"steno/queue"
	"steno/relay"
)

// relayQueue is a queue as package relay wants it.
type relayQueue struct{ *queue.Queue }

var _ relay.Queue = relayQueue{}

// Submit implements relay.Commands: all jobs of the gateway go to the default pool.
func (q relayQueue) Submit(ctx context.Context, j job.Job) error { return q.Queue.Submit(ctx, j) }

// Status implements relay.Jobs.
func (q relayQueue) Status(ctx context.Context, id job.ID) (relay.Status, error) {
	s, err := q.Queue.Status(ctx, id)
	return relayStatus(s), err
}

// WatchAll implements relay.Jobs.
func (q relayQueue) WatchAll(ctx context.Context) (<-chan relay.Status, error) {
	in, err := q.Queue.WatchAll(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan relay.Status)
	go func() {
		defer close(out)
		for s := range in {
			select {
			case out <- relayStatus(s):
			case <-ctx.Done(): // and on, until in is closed
			}
		}
	}()
	return out, nil
}

func relayStatus(s queue.Status) relay.Status {
	return relay.Status{
		Job: s.Job, State: s.State, Claims: s.Claims, Version: s.Version, Progress: s.Progress, Error: s.Error,
		Started: s.Started, Finished: s.Finished, Recorded: s.Recorded, Retried: s.Retries > 0,
	}
}
