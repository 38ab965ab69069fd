package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"steno/internal/failpoint"
	"steno/job"
)

// claim takes the lease of the message's job. It returns nil where there is nothing to run; the message is then dealt with.
func (w *worker) claim(ctx context.Context, msg jetstream.Msg) *Delivery {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.AckWait)
	defer cancel()
	log := w.q.cfg.Log.With("subject", msg.Subject())
	meta, err := msg.Metadata()
	if err != nil {
		log.Error("read message", "error", err)
		return nil
	}
	if meta.NumDelivered > 1 {
		w.q.metrics.redelivered.Inc()
	}
	j, err := parseMessage(msg.Subject(), msg.Data())
	if err != nil {
		log.Error("message is no job", "error", err)
		w.q.reject(ctx, msg, err)
		return nil
	}
	log = w.q.cfg.Log.With("job", j.ID)
	now := time.Now().UTC()
	l := lease{ID: nuid.Next(), Worker: w.cfg.Name, TTL: w.cfg.AckWait, Ack: msg.Reply()}
	var got claimed
	var left time.Duration // of a lease that looks alive
	reserved := false      // by this claim, and not by a stay of the same job that still runs here
	reserve := func() bool {
		reserved = reserved || w.reserve(j.ID)
		return reserved
	}
	r, err := w.q.change(ctx, j.ID, func(r *record, renewed time.Time) error {
		now = time.Now().UTC()
		if r.Lease != nil {
			left = renewed.Add(r.Lease.TTL).Sub(now)
		}
		got = r.claim(l, w.cfg.MaxDeaths, reserve, now, renewed)
		return nil
	})
	if reserved && (err != nil || got != claimRun) {
		w.release(j.ID)
	}
	if errors.Is(err, ErrNotFound) {
		// The message is all there is of an accepted job: begin its record anew. It comes back at once.
		err = w.q.restore(ctx, j, msg.Subject())
		got = claimBusy
	}
	if err != nil {
		log.Warn("claim job", "error", err)
		_ = msg.NakWithDelay(w.cfg.RetryBase) // otherwise it comes back after AckWait
		return nil
	}
	if got != claimRun {
		w.decline(ctx, msg, r, got, left)
		return nil
	}
	d := &Delivery{
		Job: r.Job, Attempt: r.Attempt, Redelivered: r.Claims > 1, Waited: max(0, now.Sub(r.Queued)),
		w: w, msg: msg, rec: r, lease: l.ID, chunks: &Chunks{q: w.q}, kick: make(chan struct{}, 1),
		progress: r.Progress, alive: time.Now(),
	}
	d.log = log.With("attempt", d.Attempt, "claim", r.Claims, "worker", w.cfg.Name)
	d.log.Info("attempt began", "waited", d.Waited.Seconds(), "redelivered", d.Redelivered)
	w.q.metrics.wait.Observe(d.Waited.Seconds())
	if failpoint.On {
		failpoint.Hit(failpoint.JobClaimed)
	}
	return d
}

// decline deals with a message whose job is not to be run. left is what a lease that looks alive still has, by this worker's
// clock.
func (w *worker) decline(ctx context.Context, msg jetstream.Msg, r record, why claimed, left time.Duration) {
	q := w.q
	var err error
	switch why {
	case claimBusy:
		if r.Lease == nil { // restored just now
			err = msg.Nak()
			break
		}
		err = msg.NakWithDelay(contest(r.Lease.TTL, left))
	case claimPaused:
		err = msg.NakWithDelay(time.Until(r.RetryAt))
	case claimEnded:
		if r.State == job.Failed {
			err = q.bury(ctx, r.Job.ID) // whoever failed it may have died before
		}
		if err == nil {
			err = msg.DoubleAck(ctx)
		}
	case claimCancelled:
		q.metrics.ended(verdict{outcome: OutcomeCancelled})
		err = msg.TermWithReason("cancelled")
	case claimExhausted:
		q.metrics.ended(verdict{outcome: OutcomeFailed, err: r.Error})
		if err = q.bury(ctx, r.Job.ID); err == nil {
			err = msg.TermWithReason(r.Error.Code)
		}
	}
	if err != nil {
		q.cfg.Log.Warn("decline job", "job", r.Job.ID, "error", err)
	}
}

// contest is when to look again at a lease that looks alive although its message has come back. The owner of a lease that is
// young gets more than a heartbeat, which is at most half the lease, so that it will have moved it by then. One that has missed
// a heartbeat is most likely dead: the message's deadline runs from its delivery, the lease from the claim a moment later.
func contest(ttl, left time.Duration) time.Duration {
	return min(left+ttl/15, ttl/3*2)
}

// parseMessage reads a job and checks that it is the one its subject names.
func parseMessage(subject string, data []byte) (job.Job, error) {
	var j job.Job
	if err := json.Unmarshal(data, &j); err != nil {
		return j, fmt.Errorf("decode job: %w", err)
	}
	id, err := job.ParseID(string(j.ID))
	if err != nil {
		return j, err
	}
	if id != j.ID {
		return j, fmt.Errorf("job id %q is not in upper case", j.ID)
	}
	if !strings.HasSuffix(subject, "."+string(id)) {
		return j, fmt.Errorf("job %s came on subject %s", id, subject)
	}
	return j, nil
}

// restore makes the record of a job that only has a message.
func (q *Queue) restore(ctx context.Context, j job.Job, subject string) error {
	pool := strings.Split(subject, ".")[2]
	r := newRecord(j, pool, time.Now().UTC())
	data, err := r.encode()
	if err != nil {
		return err
	}
	_, err = q.records.Create(ctx, string(j.ID), data)
	if err != nil && !conflict(err) {
		return fmt.Errorf("restore record of job %s: %w", j.ID, err)
	}
	return nil
}
