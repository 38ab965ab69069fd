package main

import (
	"context"

	"steno/api"
	"steno/job"
	"steno/queue"
)

// deadLetters are a queue's as package api wants them.
type deadLetters struct{ q *queue.Queue }

var _ api.DeadLetters = deadLetters{}

// Page implements api.DeadLetters.
func (d deadLetters) Page(ctx context.Context, before uint64, limit int) ([]api.DeadLetter, uint64, error) {
	list, next, err := d.q.DeadPage(ctx, before, limit)
	page := make([]api.DeadLetter, len(list))
	for i, l := range list {
		page[i] = apiLetter(l)
	}
	return page, next, err
}

// Get implements api.DeadLetters.
func (d deadLetters) Get(ctx context.Context, id string) (api.DeadLetter, error) {
	l, err := d.q.DeadLetter(ctx, id)
	return apiLetter(l), err
}

// Retry implements api.DeadLetters.
func (d deadLetters) Retry(ctx context.Context, id string) error {
	return d.q.RetryDead(ctx, job.ID(id))
}

func apiLetter(l queue.DeadLetter) api.DeadLetter {
	letter := api.DeadLetter{ID: l.ID, Job: l.Job, Error: l.Error, Stage: l.Stage, Retries: l.Retries, Failed: l.Failed}
	for _, a := range l.History {
		letter.Attempts = append(letter.Attempts, api.Attempt{
			Number: a.Number, Worker: a.Worker, Started: a.Started, Ended: a.Ended, Outcome: string(a.Outcome), Stage: a.Stage,
			Error: a.Error,
		})
	}
	return letter
}
