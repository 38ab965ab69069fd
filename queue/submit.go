package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/internal/failpoint"
	"steno/job"
)

// SubmitOption changes one Submit.
type SubmitOption func(*record)

// InPool puts the job into a pool of workers, such as "gpu". Default DefaultPool.
func InPool(name string) SubmitOption { return func(r *record) { r.Pool = name } }

// Submit puts a job on the queue. The job is accepted, and survives the end of any process, when Submit returns nil.
// Submitting the same id again is no error and makes no second job. After an error of class TRANSIENT it is unknown whether
// the job was accepted; submitting it again with its id is safe.
func (q *Queue) Submit(ctx context.Context, j job.Job, opts ...SubmitOption) error {
	id, err := job.ParseID(string(j.ID))
	if err != nil {
		return &job.Error{Class: job.Input, Code: "BAD_JOB_ID", Err: err, Message: err.Error()}
	}
	if err := j.Params.Validate(); err != nil {
		return err
	}
	j.ID, j.Params = id, j.Params.WithDefaults()
	now := time.Now().UTC()
	j.Created = or(j.Created, now)
	r := newRecord(j, DefaultPool, now)
	for _, o := range opts {
		o(&r)
	}
	if !poolName.MatchString(r.Pool) {
		return job.Errorf(job.Input, "BAD_POOL", "%q is no pool name: use lower-case letters, digits and dashes", r.Pool)
	}
	if err := q.checkAudio(ctx, j.Source); err != nil && !q.accepted(ctx, id) {
		return q.unreachable(submitting, err)
	}
	return q.unreachable(submitting, q.accept(ctx, r))
}

// accepted reports whether the queue has a record of the job. The audio of one that has ended may be gone, and to submit it
// again is no error all the same.
func (q *Queue) accepted(ctx context.Context, id job.ID) bool {
	_, _, err := q.record(ctx, id)
	return err == nil
}

// accept writes the record, then the message. Whoever dies in between leaves a record that Reconcile publishes, and that a
// second Submit completes.
func (q *Queue) accept(ctx context.Context, r record) error {
	if err := q.headroom(ctx); err != nil {
		return err
	}
	data, err := r.encode()
	if err != nil {
		return err
	}
	_, err = q.records.Create(ctx, string(r.Job.ID), data)
	if conflict(err) {
		old, _, err := q.record(ctx, r.Job.ID)
		if err != nil {
			return err
		}
		if old.State != job.Queued {
			return nil // accepted before, and further on already
		}
		return q.publish(ctx, old)
	}
	if err != nil {
		return fmt.Errorf("write record of job %s: %w", r.Job.ID, err)
	}
	if failpoint.On {
		failpoint.Hit(failpoint.RecordCreated)
	}
	err = q.publish(ctx, r)
	if refused(err) {
		// The job was not accepted: leave no trace of it. Where that does not succeed, Reconcile will find the record and run it.
		if left := q.forget(context.WithoutCancel(ctx), r.Job.ID); left != nil {
			return &job.Error{
				Class: job.Transient, Code: "QUEUE_UNREACHABLE", Err: errors.Join(err, left),
				Message: err.Error() + "; it could not be taken back either, so it may run later: submit it again with its id",
			}
		}
	}
	return err
}

// headroom refuses jobs while the records could not grow: what was accepted must always find room to be finished.
func (q *Queue) headroom(ctx context.Context) error {
	info, err := q.recordStream.Info(ctx)
	if err != nil {
		return fmt.Errorf("read size of the records: %w", err)
	}
	if limit := info.Config.MaxBytes; limit > 0 && info.State.Bytes > uint64(limit)/10*9 {
		return queueFull(nil)
	}
	return nil
}

func queueFull(err error) error {
	return &job.Error{
		Class: job.Resource, Code: "QUEUE_FULL", Err: err,
		Message: "the queue is full: try again when some jobs have finished",
	}
}

// refused reports whether the broker has said no, as against nothing.
func refused(err error) bool {
	var e *job.Error
	return errors.As(err, &e) && e.Class != job.Transient
}

// publish puts the message of a record on the stream. That it is there already is no error.
func (q *Queue) publish(ctx context.Context, r record) error {
	data, err := json.Marshal(r.Job)
	if err != nil {
		return fmt.Errorf("encode job %s: %w", r.Job.ID, err)
	}
	m := nats.NewMsg(r.subject())
	m.Data = data
	m.Header.Set("Steno-Schema", "1")
	_, err = q.js.PublishMsg(ctx, m, jetstream.WithMsgID(r.messageID()), jetstream.WithExpectStream(streamJobs))
	code, text := apiError(err)
	switch {
	case err == nil, alreadyInStream(err):
		return nil
	case code == codeStoreFailed && (text == overMessages || text == overBytes):
		return queueFull(err)
	case diskFull(err), storeFull(err):
		return unreachable(submitting, err)
	case code == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return &job.Error{
			Class: job.Input, Code: "JOB_TOO_LARGE", Err: err,
			Message: fmt.Sprintf("the job's parameters are larger than %d KiB: shorten the prompt", maxJobSize>>10),
		}
	}
	return fmt.Errorf("publish job %s: %w", r.Job.ID, err)
}

// forget erases a job's record, without a marker.
func (q *Queue) forget(ctx context.Context, id job.ID) error {
	err := q.recordStream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+bucketJobs+"."+string(id)))
	if err != nil {
		return fmt.Errorf("delete record of job %s: %w", id, err)
	}
	return nil
}

// unpublish removes a job's message from the stream, wherever it stands.
func (q *Queue) unpublish(ctx context.Context, r record) error {
	if err := q.jobs.Purge(ctx, jetstream.WithPurgeSubject(r.subject())); err != nil {
		return fmt.Errorf("remove job %s from the queue: %w", r.Job.ID, err)
	}
	return nil
}

// unpublishAnywhere removes a job's message from the stream where its pool and priority are not known.
func (q *Queue) unpublishAnywhere(ctx context.Context, id job.ID) error {
	err := q.jobs.Purge(ctx, jetstream.WithPurgeSubject(fmt.Sprintf("%s.*.*.%s", subjectJobs, id)))
	if err != nil {
		return fmt.Errorf("remove job %s from the queue: %w", id, err)
	}
	return nil
}

// Cancel ends a waiting job at once. A running one is told to stop: it is cancelled when its worker has stopped, within
// seconds, or when a dead worker's lease has run out. A job that has ended gives an error of code JOB_ENDED, one that the queue
// does not know JOB_NOT_FOUND; it will not run then, for a message that had lost its record is removed.
func (q *Queue) Cancel(ctx context.Context, id job.ID) error {
	r, err := q.change(ctx, id, func(r *record, _ time.Time) error { return r.requestCancel(time.Now().UTC()) })
	if errors.Is(err, ErrNotFound) {
		if purge := q.unpublishAnywhere(ctx, id); purge != nil {
			err = purge
		}
	}
	if err != nil {
		return q.unreachable("cancel the job", err)
	}
	if r.State == job.Cancelled {
		q.metrics.completed.WithLabelValues(string(OutcomeCancelled)).Inc()
		if err := q.unpublish(ctx, r); err != nil {
			q.cfg.Log.Warn("cancelled job stays in the stream for now", "job", id, "error", err)
		}
		return nil
	}
	// Faster than the worker's next renewal, which would notice as well.
	if err := q.nc.Publish(subjectCancel+"."+string(id), nil); err != nil {
		q.cfg.Log.Warn("tell worker to cancel", "job", id, "error", err)
	}
	return nil
}
