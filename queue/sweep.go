package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// How often a queue is maintained, over all its workers.
const (
	reconcileEvery = 30 * time.Second
	sweepEvery     = 10 * time.Minute
)

// uploadAge is how long an upload may take; chunks without an object that are older belong to one that was cut.
const uploadAge = 6 * time.Hour

// Maintain reconciles and sweeps until ctx ends. All processes of a queue may run it: they take turns.
func (q *Queue) Maintain(ctx context.Context) {
	var swept time.Time
	for sleep(ctx, reconcileEvery/2+rand.N(reconcileEvery/2)) {
		if !q.nc.IsConnected() || !q.ourTurn(ctx) {
			continue
		}
		if _, err := q.Reconcile(ctx); err != nil && ctx.Err() == nil {
			q.cfg.Log.Warn("reconcile queue", "error", err)
		}
		if time.Since(swept) < sweepEvery {
			continue
		}
		if err := q.Sweep(ctx); err != nil && ctx.Err() == nil {
			q.cfg.Log.Warn("sweep queue", "error", err)
		}
		swept = time.Now()
	}
}

// ourTurn reports whether nobody has maintained the queue lately, and says that we do now.
func (q *Queue) ourTurn(ctx context.Context) bool {
	now := []byte(time.Now().UTC().Format(time.RFC3339))
	entry, err := q.chunks.Get(ctx, keyMaintenance)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		_, err = q.chunks.Create(ctx, keyMaintenance, now)
		return err == nil
	}
	if err != nil || time.Since(entry.Created()).Abs() < reconcileEvery/2 {
		return false
	}
	_, err = q.chunks.Update(ctx, keyMaintenance, now, entry.Revision())
	return err == nil
}

// Sweep removes what nobody needs any more: records and results of jobs that ended long ago, results that no record names,
// audio without a job, and chunks of uploads that were cut by a crash.
func (q *Queue) Sweep(ctx context.Context) error {
	now := time.Now()
	var old []job.ID
	results, audio := map[string]bool{}, map[string]bool{} // that are needed
	err := q.each(ctx, func(r record, renewed time.Time) {
		if q.cfg.Limits.outlived(r, now) {
			old = append(old, r.Job.ID)
			return
		}
		if !r.State.Terminal() || now.Sub(r.Finished) <= q.cfg.Limits.AudioAge {
			audio[r.Job.Source.Object] = true
		}
		results[r.Result] = true
	})
	if err != nil {
		return unreachable("sweep the queue", err)
	}
	errs := []error{
		q.sweepObjects(ctx, q.results, func(o *jetstream.ObjectInfo) bool {
			return !results[o.Name] && now.Sub(o.ModTime) > q.cfg.Grace
		}),
		q.sweepObjects(ctx, q.audio, func(o *jetstream.ObjectInfo) bool {
			return !audio[o.Name] && !kept(o) && now.Sub(o.ModTime) > q.cfg.Limits.AudioAge
		}),
		q.sweepChunks(ctx, q.results, now), q.sweepChunks(ctx, q.audio, now),
	}
	for _, id := range old {
		errs = append(errs, q.forget(ctx, id))
	}
	return unreachable("sweep the queue", errors.Join(errs...))
}

// outlived reports whether nobody needs a record and its result any more.
func (l Limits) outlived(r record, now time.Time) bool {
	switch {
	case !r.State.Terminal():
		return false
	case !r.Job.External:
		return now.Sub(r.Finished) > l.ResultAge
	case r.Recorded.IsZero():
		return now.Sub(r.Finished) > l.UnrecordedAge
	}
	return now.Sub(r.Recorded) > l.RecordedAge
}

// sweepObjects removes the objects that are not needed.
func (q *Queue) sweepObjects(ctx context.Context, o *objects, useless func(*jetstream.ObjectInfo) bool) error {
	list, err := o.store.List(ctx)
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list objects of %s: %w", o.bucket, err)
	}
	var errs []error
	for _, info := range list {
		if useless(info) {
			errs = append(errs, o.erase(ctx, info))
		}
	}
	return errors.Join(errs...)
}

// sweepChunks removes chunks that belong to no object: those of uploads whose process was killed.
func (q *Queue) sweepChunks(ctx context.Context, o *objects, now time.Time) error {
	uploads, err := idsOn(ctx, o.stream, chunkSubject(o.bucket, "*"))
	if err != nil || len(uploads) == 0 {
		return err
	}
	list, err := o.store.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return fmt.Errorf("list objects of %s: %w", o.bucket, err)
	}
	for _, info := range list {
		delete(uploads, info.NUID)
	}
	var errs []error
	for id := range uploads {
		subject := chunkSubject(o.bucket, id)
		last, err := o.stream.GetLastMsgForSubject(ctx, subject)
		if err != nil || now.Sub(last.Time) < uploadAge {
			continue // gone since, or an upload that is under way
		}
		errs = append(errs, o.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)))
	}
	return errors.Join(errs...)
}
