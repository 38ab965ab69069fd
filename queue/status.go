package queue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
	"steno/transcript"
)

// Status is where a job stands.
type Status struct {
	Job      job.Job      `json:"job"`
	Pool     string       `json:"pool"`
	State    job.State    `json:"state"`
	Attempt  int          `json:"attempt"`
	Progress job.Progress `json:"progress"`
	Error    *job.Error   `json:"error,omitempty"`
	// Worker runs the job now; it is empty while the job waits and after its end.
	Worker string `json:"worker,omitempty"`
	// Cancelling says that the job's worker was told to stop and has not stopped yet.
	Cancelling bool      `json:"cancelling,omitempty"`
	Created    time.Time `json:"created"`
	Queued     time.Time `json:"queued"`
	Started    time.Time `json:"started,omitzero"`
	Finished   time.Time `json:"finished,omitzero"`
	RetryAt    time.Time `json:"retry_at,omitzero"` // when a job that waits after a failure is tried again
	// Claims counts all stays with workers, those too that are no attempts, and never falls. Version grows with each change of the
	// job; List leaves it 0.
	Claims  int    `json:"claims,omitempty"`
	Version uint64 `json:"version,omitempty"`
	// Recorded is when Queue.Recorded was called for the end of an external job.
	Recorded time.Time `json:"recorded,omitzero"`
	// Retries counts how often RetryDead has brought the job back from a failure.
	Retries int       `json:"retries,omitempty"`
	History []Attempt `json:"history,omitempty"`
	// Segments are new with this update; only Watch sends them, and a slow receiver misses some.
	Segments []transcript.Segment `json:"segments,omitempty"`
}

func (r *record) status() Status {
	s := Status{
		Job: r.Job, Pool: r.Pool, State: r.State, Attempt: r.Attempt, Progress: r.Progress, Error: r.Error,
		Cancelling: r.CancelAsked && !r.State.Terminal(),
		Created:    r.Created, Queued: r.Queued, Started: r.Started, Finished: r.Finished, RetryAt: r.RetryAt, History: r.History,
		Claims: r.Claims, Recorded: r.Recorded, Retries: r.Retries,
	}
	if r.Lease != nil {
		s.Worker = r.Lease.Worker
	}
	return s
}

// Status returns where a job stands. Its progress is at most a few seconds old; Watch has it fresh. The error for an unknown
// job wraps ErrNotFound.
func (q *Queue) Status(ctx context.Context, id job.ID) (Status, error) {
	r, entry, err := q.record(ctx, id)
	if err != nil {
		return Status{}, unreachable("read the job's status", err)
	}
	s := r.status()
	s.Version = entry.Revision()
	return s, nil
}

// Filter picks jobs. The zero value picks all.
type Filter struct {
	States []job.State
	User   string
	Limit  int // 0: no limit
}

func (f Filter) matches(r record) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, r.State)) && (f.User == "" || f.User == r.Job.User)
}

// List returns the jobs that match f, newest first. It reads every record: ended jobs are in it until Limits.ResultAge.
func (q *Queue) List(ctx context.Context, f Filter) ([]Status, error) {
	var all []Status
	err := q.each(ctx, func(r record, _ time.Time) {
		if f.matches(r) {
			all = append(all, r.status())
		}
	})
	if err != nil {
		return nil, unreachable("list the jobs", err)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(b.Job.ID, a.Job.ID) }) // ids sort by time
	if f.Limit > 0 && len(all) > f.Limit {
		all = all[:f.Limit]
	}
	return all, nil
}

// Result returns the transcript of a job that is done. For a job that has not ended the error's code is NOT_DONE; for one that
// has failed or was cancelled it is the job's own error.
func (q *Queue) Result(ctx context.Context, id job.ID) (transcript.Transcript, error) {
	var t transcript.Transcript
	r, _, err := q.record(ctx, id)
	if err != nil {
		return t, unreachable("read the result", err)
	}
	switch r.State {
	case job.Done:
	case job.Failed:
		return t, r.Error
	case job.Cancelled:
		return t, job.Errorf(job.Input, "CANCELLED", "job %s was cancelled: submit it again for a transcript", id)
	default:
		return t, job.Errorf(job.Input, "NOT_DONE", "job %s is %s: wait until it is done", id, r.State)
	}
	var buf bytes.Buffer
	err = q.results.fetch(ctx, r.Result, &buf)
	if errors.Is(err, jetstream.ErrDigestMismatch) {
		return t, job.Errorf(job.Internal, "RESULT_DAMAGED", "the result of job %s is damaged: submit the file again (%w)", id, err)
	}
	if errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		return t, &job.Error{
			Class: job.Input, Code: "RESULT_GONE", Err: err,
			Message: fmt.Sprintf("the result of job %s is no longer kept: submit the file again", id),
		}
	}
	if err != nil {
		return t, unreachable("read the result", err)
	}
	if err := json.Unmarshal(buf.Bytes(), &t); err != nil {
		return t, fmt.Errorf("decode result of job %s: %w", id, err)
	}
	return t, nil
}

// Depth is how much work the queue holds.
type Depth struct {
	// Pending jobs have not been given to a worker yet.
	Pending int `json:"pending"`
	// InFlight jobs run, or wait for another try.
	InFlight int `json:"in_flight"`
	// OldestAge is how long the oldest pending job has been waiting.
	OldestAge time.Duration `json:"oldest_age"`
	// Dead is the number of dead letters.
	Dead int `json:"dead"`
}

// Depth asks the broker how much work there is. It is cheap: no record is read.
func (q *Queue) Depth(ctx context.Context) (Depth, error) {
	d, err := q.depth(ctx)
	return d, unreachable("read the queue's depth", err)
}

func (q *Queue) depth(ctx context.Context) (Depth, error) {
	info, err := q.jobs.Info(ctx)
	if err != nil {
		return Depth{}, fmt.Errorf("read stream %s: %w", streamJobs, err)
	}
	dead, err := q.dead.Info(ctx)
	if err != nil {
		return Depth{}, fmt.Errorf("read stream %s: %w", streamDead, err)
	}
	d := Depth{Pending: int(info.State.Msgs), Dead: int(dead.State.Msgs)}
	unseen := map[string]uint64{subjectJobs + ".>": info.State.FirstSeq} // where no worker has ever been
	list := q.jobs.ListConsumers(ctx)
	for c := range list.Info() {
		d.InFlight += c.NumAckPending
		delete(unseen, subjectJobs+".>")
		if c.NumPending > 0 {
			unseen[c.Config.FilterSubject] = c.Delivered.Stream + 1
		}
	}
	if err := list.Err(); err != nil {
		return Depth{}, fmt.Errorf("list consumers of stream %s: %w", streamJobs, err)
	}
	d.Pending = max(0, d.Pending-d.InFlight)
	if d.Pending == 0 {
		return d, nil
	}
	for subject, seq := range unseen {
		m, err := q.jobs.GetMsg(ctx, max(1, seq), jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // taken since
		}
		if err != nil {
			return Depth{}, fmt.Errorf("read oldest job: %w", err)
		}
		d.OldestAge = max(d.OldestAge, time.Since(m.Time))
	}
	if d.OldestAge == 0 { // all of them in pools that no worker has ever served
		d.OldestAge = time.Since(info.State.FirstTime)
	}
	return d, nil
}
