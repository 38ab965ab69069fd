package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// errUnchanged is returned by the function of change to leave the record as it is, without that being an error.
var errUnchanged = errors.New("unchanged")

// change applies fn to a job's record by compare-and-swap, again after each write of others, until it is stored, fn returns
// an error, or ctx ends (10 s where it has no deadline). fn must be repeatable: when the broker's confirmation gets lost, fn
// sees its own change. renewed is the broker's time of the record's last write.
func (q *Queue) change(ctx context.Context, id job.ID, fn func(r *record, renewed time.Time) error) (record, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		r, err := q.swap(ctx, id, fn)
		switch {
		case err == nil:
			return r, nil
		case conflict(err): // at once: somebody else has made progress
			pause = time.Millisecond
		case !passing(err) || ctx.Err() != nil:
			return r, err
		}
		if !sleep(ctx, pause+rand.N(pause)) {
			return r, err
		}
	}
}

func (q *Queue) swap(ctx context.Context, id job.ID, fn func(r *record, renewed time.Time) error) (record, error) {
	r, entry, err := q.record(ctx, id)
	if err != nil {
		return r, err
	}
	if err := fn(&r, entry.Created()); errors.Is(err, errUnchanged) {
		return r, nil
	} else if err != nil {
		return r, err
	}
	data, err := r.encode()
	if err != nil {
		return r, err
	}
	if bytes.Equal(data, entry.Value()) {
		return r, nil
	}
	if _, err := q.records.Update(ctx, string(id), data, entry.Revision()); err != nil {
		return r, fmt.Errorf("write record of job %s: %w", id, err)
	}
	return r, nil
}

// record reads a job's record.
func (q *Queue) record(ctx context.Context, id job.ID) (record, jetstream.KeyValueEntry, error) {
	if _, err := job.ParseID(string(id)); err != nil {
		return record{}, nil, &job.Error{
			Class: job.Input, Code: "BAD_JOB_ID", Err: err,
			Message: fmt.Sprintf("%q is no job id: list the jobs with `steno status`", id),
		}
	}
	entry, err := q.records.Get(ctx, string(id))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{}, nil, notFound(id)
	}
	if err != nil {
		return record{}, nil, fmt.Errorf("read record of job %s: %w", id, err)
	}
	r, err := decodeRecord(entry.Value())
	return r, entry, err
}

// each calls fn with every record, in no order. A record that cannot be read is skipped and logged.
func (q *Queue) each(ctx context.Context, fn func(r record, renewed time.Time)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := q.records.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	defer stopWatch(w)
	for {
		select {
		case entry, ok := <-w.Updates():
			if !ok {
				return errors.New("list jobs: the connection ended")
			}
			if entry == nil {
				return nil // all that was there when the list began
			}
			r, err := decodeRecord(entry.Value())
			if err != nil {
				q.cfg.Log.Error("job record", "job", entry.Key(), "error", err)
				continue
			}
			fn(r, entry.Created())
		case <-ctx.Done():
			return fmt.Errorf("list jobs: %w", context.Cause(ctx))
		case <-time.After(patience):
			return fmt.Errorf("list jobs: %w", context.DeadlineExceeded)
		}
	}
}

// patience is how long one answer of the broker may take, where the caller's context does not say.
const patience = 10 * time.Second

// stopWatch ends a watcher and takes what it still has to give, for its callback blocks until somebody does.
func stopWatch(w jetstream.KeyWatcher) {
	_ = w.Stop() // an error means that it has ended
	go func() {
		for range w.Updates() { //nolint:revive // drained on purpose
		}
	}()
}
