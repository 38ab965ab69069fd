package queue

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"steno/job"
)

// Attempt is one stay of a job with a worker.
type Attempt struct {
	Number  int        `json:"number"`
	Worker  string     `json:"worker"`
	Started time.Time  `json:"started"`
	Ended   time.Time  `json:"ended"`
	Outcome Outcome    `json:"outcome"`
	Stage   job.Stage  `json:"stage,omitempty"` // where it ended
	Error   *job.Error `json:"error,omitempty"`
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes of an attempt. The first three end the job.
const (
	OutcomeDone      Outcome = "done"
	OutcomeFailed    Outcome = "failed"
	OutcomeCancelled Outcome = "cancelled"
	OutcomeRetried   Outcome = "retried"     // a failure that may pass: the job waits and is tried again
	OutcomeRequeued  Outcome = "requeued"    // no memory or disk: tried again, the attempt does not count
	OutcomeHandedOn  Outcome = "handed back" // the worker was stopped: the attempt does not count
	OutcomeLost      Outcome = "lost"        // the worker died or hung
)

// keptAttempts bounds the history in a record: 3 attempts, 20 requeues and room for drains.
const keptAttempts = 32

// lease is a worker's right to a job. It is held as long as the record carries its id.
type lease struct {
	ID      string        `json:"id"`
	Worker  string        `json:"worker"`
	Started time.Time     `json:"started"`
	TTL     time.Duration `json:"ttl"`
	Beat    int           `json:"beat"` // moves with each renewal; the first is 1
	// Ack is the subject on which the message is acknowledged.
	Ack string `json:"ack,omitempty"`
	// Contested is the Beat that another worker saw when the message was given to it while the lease looked alive.
	Contested int `json:"contested,omitempty"`
}

// record is what the bucket holds of a job. Its methods are the whole state machine; they are pure, and what they return is
// written by compare-and-swap (Queue.change).
type record struct {
	Job   job.Job   `json:"job"`
	Pool  string    `json:"pool"`
	State job.State `json:"state"`
	// Attempt counts the attempts that count; Claims all of them, so that it names results; Requeues those for want of memory.
	Attempt  int `json:"attempt"`
	Claims   int `json:"claims"`
	Requeues int `json:"requeues,omitempty"`
	// Lost counts the attempts whose worker died or hung, and Deaths those since the job last got further than ever before, which
	// is Furthest, in seconds of audio.
	Lost     int     `json:"lost,omitempty"`
	Deaths   int     `json:"deaths,omitempty"`
	Furthest float64 `json:"furthest,omitempty"`
	// Generation is part of the message id: a job that is published again on purpose is no duplicate.
	Generation int `json:"generation,omitempty"`
	// Retries counts how often an operator has had the job tried again after it had failed.
	Retries int    `json:"retries,omitempty"`
	Lease   *lease `json:"lease,omitempty"`
	// Closed is the lease that ended the job, so that a worker whose confirmation got lost knows its own work.
	Closed      string       `json:"closed,omitempty"`
	Progress    job.Progress `json:"progress"`
	Error       *job.Error   `json:"error,omitempty"`
	Cause       string       `json:"cause,omitempty"`  // what lies below Error, for the dead letter
	Result      string       `json:"result,omitempty"` // object name
	CancelAsked bool         `json:"cancel_asked,omitempty"`
	Created     time.Time    `json:"created"`
	Queued      time.Time    `json:"queued"`
	Started     time.Time    `json:"started,omitzero"`
	Finished    time.Time    `json:"finished,omitzero"`
	RetryAt     time.Time    `json:"retry_at,omitzero"`
	// Recorded is when the record outside the queue had the end of an external job.
	Recorded time.Time `json:"recorded,omitzero"`
	History  []Attempt `json:"history,omitempty"`
}

func newRecord(j job.Job, pool string, now time.Time) record {
	return record{Job: j, Pool: pool, State: job.Queued, Created: now, Queued: now, Progress: job.Progress{Stage: job.StageQueue}}
}

func (r *record) encode() ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record of job %s: %w", r.Job.ID, err)
	}
	return data, nil
}

func decodeRecord(data []byte) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("decode job record: %w", err)
	}
	return r, nil
}

func (r *record) subject() string { return jobSubject(r.Pool, r.Job) }

func (r *record) messageID() string {
	if r.Generation == 0 {
		return string(r.Job.ID)
	}
	return fmt.Sprintf("%s.%d", r.Job.ID, r.Generation)
}

// claimed is what became of a worker's wish to run a job.
type claimed int

const (
	claimRun       claimed = iota // the lease is ours
	claimEnded                    // the job has ended: drop the message
	claimBusy                     // another worker holds it and lives: look again later
	claimCancelled                // it was to be cancelled: it now is
	claimExhausted                // too many workers died with it: it has now failed
	claimPaused                   // it is suspected of killing workers, and has to wait: look again later
)

// claim takes the job for l, if it is to be had. renewed is the broker's time of the record's last write; now is this
// worker's. The clocks may differ: a lease that looks alive is contested first, and taken when it does not move afterwards.
// reserve is asked whether this worker may run a suspect now.
func (r *record) claim(l lease, deaths int, reserve func() bool, now, renewed time.Time) claimed {
	if r.Lease != nil && r.Lease.ID == l.ID {
		return claimRun // our write of before, whose confirmation got lost
	}
	if r.State.Terminal() {
		return claimEnded
	}
	old := r.Lease
	if old != nil {
		if now.Before(renewed.Add(old.TTL)) && old.Contested != old.Beat {
			old.Contested = old.Beat
			return claimBusy
		}
		r.lose(now)
	}
	switch {
	case r.CancelAsked:
		r.end(job.Cancelled, l.ID, now)
		return claimCancelled
	case r.Deaths >= deaths:
		r.Error = workerDied(r)
		r.end(job.Failed, l.ID, now)
		return claimExhausted
	case r.suspect() && (old != nil || !reserve()):
		r.wait(now, deathPause(r.Deaths))
		return claimPaused
	}
	l.Started, l.Beat = now, 1
	r.Lease = &l
	r.State, r.Started, r.RetryAt, r.Error = job.Running, now, time.Time{}, nil
	r.Attempt++
	r.Claims++
	return claimRun
}

func workerDied(r *record) *job.Error {
	return &job.Error{
		Class: job.Engine, Code: "WORKER_DIED",
		Message: fmt.Sprintf("workers died or hung %d times in a row while they had this job, the last time in stage %s: read "+
			"their logs, then try again with `steno dead retry %s`", r.Deaths, r.Progress.Stage, r.Job.ID),
	}
}

// renew moves the lease on. It returns ErrLeaseLost where the lease is not l any more, and ErrCancelled where the job is to
// be cancelled.
func (r *record) renew(l string, p job.Progress) error {
	if r.Lease == nil || r.Lease.ID != l {
		return ErrLeaseLost
	}
	r.Lease.Beat++
	r.Progress = p
	if r.CancelAsked {
		return ErrCancelled
	}
	return nil
}

// verdict is what to do with a job after its handler has returned.
type verdict struct {
	outcome Outcome
	err     *job.Error
	delay   time.Duration // until the next try
	result  string        // object name
}

// settle writes the verdict of the holder of lease l, and returns the outcome that holds: a cancel that came meanwhile wins.
func (r *record) settle(l string, v verdict, p job.Progress, now time.Time) (Outcome, error) {
	if r.Closed == l {
		return Outcome(r.State), nil // our write of before, whose confirmation got lost
	}
	if r.Lease == nil || r.Lease.ID != l {
		return "", ErrLeaseLost
	}
	if r.CancelAsked {
		v = verdict{outcome: OutcomeCancelled}
	}
	r.Progress = p
	r.Error, r.Cause = shorten(v.err)
	r.leave(v.outcome, r.Error, now)
	switch v.outcome {
	case OutcomeDone:
		r.Result = v.result
		r.end(job.Done, l, now)
	case OutcomeFailed:
		r.end(job.Failed, l, now)
	case OutcomeCancelled:
		r.end(job.Cancelled, l, now)
	case OutcomeRequeued:
		r.Requeues++
		r.Attempt--
		r.wait(now, v.delay)
	case OutcomeHandedOn:
		r.Attempt--
		r.wait(now, 0)
	default:
		r.wait(now, v.delay)
	}
	return v.outcome, nil
}

// Bounds on what a record keeps of an error: 8 KiB of a child's stderr hold any assertion with its backtrace.
const (
	maxMessage = 1 << 10
	maxCause   = 8 << 10
)

func shorten(e *job.Error) (*job.Error, string) {
	if e == nil {
		return nil, ""
	}
	cause := ""
	if e.Err != nil {
		cause = e.Err.Error()
		cause = strings.ToValidUTF8(cause[max(0, len(cause)-maxCause):], "")
	}
	message := strings.ToValidUTF8(e.Message[:min(len(e.Message), maxMessage)], "")
	return &job.Error{Class: e.Class, Code: e.Code, Message: message}, cause
}

// lose closes the lease of a worker that died or hung. That counts against the job only where it had got no further than ever
// before: machines die for reasons of their own, and hours of audio meet more of that than a minute does.
func (r *record) lose(now time.Time) {
	r.leave(OutcomeLost, nil, now)
	r.Lost++
	r.Deaths++
	if r.Progress.Done > r.Furthest {
		r.Deaths, r.Furthest = 0, r.Progress.Done
	}
}

// suspect reports whether the job may be what kills workers. One suspect at a time runs on a worker: those which died with the
// culprit by chance get through then, and are not held against it any longer.
func (r *record) suspect() bool { return r.Deaths > 1 }

// deathPause is how long a job waits that n workers in a row have died with. It differs from job to job, so that those which died
// with the culprit are not all with it again the next time; and a machine that dies again and again is left time.
func deathPause(n int) time.Duration {
	if n < 2 {
		return 0
	}
	d := 2 * time.Second << min(n-2, 4)
	return d/2 + rand.N(d)
}

// leave closes the current lease and keeps it in the history.
func (r *record) leave(o Outcome, err *job.Error, now time.Time) {
	r.History = append(r.History, Attempt{
		Number: r.Attempt, Worker: r.Lease.Worker, Started: r.Lease.Started, Ended: now, Outcome: o,
		Stage: r.Progress.Stage, Error: err,
	})
	if over := len(r.History) - keptAttempts; over > 0 {
		r.History = r.History[over:]
	}
	r.Lease = nil
}

// failures counts the attempts that ended in an error of the job's own, the present one included.
func (r *record) failures() int { return r.Attempt - r.Lost }

func (r *record) end(s job.State, closedBy string, now time.Time) {
	r.State, r.Closed, r.Finished, r.Lease = s, closedBy, now, nil
}

func (r *record) wait(now time.Time, delay time.Duration) {
	r.State, r.Queued = job.Queued, now
	if delay > 0 {
		r.RetryAt = now.Add(delay)
	}
}

// requestCancel ends a waiting job at once and asks the worker of a running one to stop.
func (r *record) requestCancel(now time.Time) error {
	switch {
	case r.State.Terminal():
		return &job.Error{
			Class: job.Input, Code: "JOB_ENDED",
			Message: fmt.Sprintf("job %s is %s already: there is nothing to cancel", r.Job.ID, r.State),
		}
	case r.Lease != nil:
		r.CancelAsked = true
	default:
		r.CancelAsked = true
		r.end(job.Cancelled, "", now)
	}
	return nil
}

// orphan makes the job wait again after the holder of lease l has surely died. The attempt counts.
func (r *record) orphan(l string, now time.Time) error {
	if r.Lease == nil || r.Lease.ID != l {
		return errUnchanged
	}
	r.lose(now)
	r.wait(now, deathPause(r.Deaths))
	return nil
}

// revive queues a failed job again with all its attempts. It is the one way out of a terminal state, and only RetryDead takes it.
func (r *record) revive(now time.Time) error {
	if r.State != job.Failed {
		return &job.Error{
			Class: job.Input, Code: "JOB_NOT_FAILED",
			Message: fmt.Sprintf("job %s is %s: only a failed job can be retried", r.Job.ID, r.State),
		}
	}
	r.State, r.Queued, r.Finished, r.RetryAt = job.Queued, now, time.Time{}, time.Time{}
	r.Attempt, r.Requeues, r.Lost, r.Deaths, r.Furthest = 0, 0, 0, 0, 0
	r.Error, r.Cause, r.Closed, r.CancelAsked = nil, "", "", false
	r.Recorded = time.Time{}
	r.Progress = job.Progress{Stage: job.StageQueue}
	r.Generation++
	r.Retries++
	return nil
}

// lapsed reports whether the lease has surely run out, with a margin for clocks that differ.
func (r *record) lapsed(now, renewed time.Time, margin time.Duration) bool {
	return r.Lease != nil && now.After(renewed.Add(3*r.Lease.TTL+margin))
}
