package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// Report says what Reconcile put right.
type Report struct {
	Republished int `json:"republished"` // jobs that waited, but were not in the stream
	Removed     int `json:"removed"`     // messages of jobs that had ended
	Buried      int `json:"buried"`      // failed jobs without a dead letter, and jobs that JetStream gave up
	Cancelled   int `json:"cancelled"`   // jobs to be cancelled whose worker had died
	Exhumed     int `json:"exhumed"`     // dead letters of jobs that were queued again
	Renewed     int `json:"renewed"`     // messages that JetStream held and did not deliver any more
}

// Reconcile compares the records with the streams and puts right what a crash between two writes has left. All it does is
// idempotent, so several may run at once.
func (q *Queue) Reconcile(ctx context.Context) (Report, error) {
	rep, err := q.reconcile(ctx)
	if rep != (Report{}) {
		q.cfg.Log.Info("queue reconciled", "report", rep)
	}
	return rep, unreachable("reconcile the queue", err)
}

func (q *Queue) reconcile(ctx context.Context) (Report, error) {
	var rep Report
	if err := q.buryGivenUp(ctx, &rep); err != nil {
		return rep, err
	}
	// What was in the streams before the records were read: who is missing here and queued there is looked at twice.
	waiting, err := idsOn(ctx, q.jobs, subjectJobs+".>")
	if err != nil {
		return rep, err
	}
	dead, err := idsOn(ctx, q.dead, subjectDead+".>")
	if err != nil {
		return rep, err
	}
	stuck, err := q.stuck(ctx)
	if err != nil {
		return rep, err
	}
	var odd []func(context.Context) error
	now := time.Now()
	err = q.each(ctx, func(r record, renewed time.Time) {
		if now.Sub(renewed) < q.cfg.Grace {
			return // somebody is at it
		}
		if fix := q.fix(r, renewed, waiting[string(r.Job.ID)], dead[string(r.Job.ID)], &rep); fix != nil {
			odd = append(odd, fix)
		} else if stuck[string(r.Job.ID)] && r.forgotten(now, q.cfg.Grace) {
			odd = append(odd, func(ctx context.Context) error { return q.renew(ctx, r, &rep) })
		}
	})
	if err != nil {
		return rep, err
	}
	var errs []error
	for _, fix := range odd {
		errs = append(errs, fix(ctx))
	}
	return rep, errors.Join(errs...)
}

// fix returns what is to be done about a record, or nil. It only looks; the fix itself checks again.
func (q *Queue) fix(r record, renewed time.Time, waiting, dead bool, rep *Report) func(context.Context) error {
	id, now := r.Job.ID, time.Now().UTC()
	switch {
	case r.State.Terminal() && waiting:
		return func(ctx context.Context) error {
			if err := q.bury(ctx, id); err != nil { // does nothing for jobs that have not failed
				return err
			}
			rep.Removed++
			return q.unpublish(ctx, r)
		}
	case r.State == job.Failed && !dead && now.Sub(r.Finished) < q.cfg.Limits.DeadAge:
		return func(ctx context.Context) error {
			rep.Buried++
			return q.bury(ctx, id)
		}
	case r.State != job.Failed && dead:
		return func(ctx context.Context) error {
			rep.Exhumed++
			return q.exhume(ctx, string(id))
		}
	case r.CancelAsked && r.lapsed(now, renewed, q.cfg.Grace):
		return func(ctx context.Context) error { return q.cancelAbandoned(ctx, id, rep) }
	case !r.State.Terminal() && !waiting && (r.Lease == nil || r.lapsed(now, renewed, q.cfg.Grace)):
		return func(ctx context.Context) error { return q.republish(ctx, id, rep) }
	}
	return nil
}

// cancelAbandoned ends a job that was to be cancelled and whose worker does not answer.
func (q *Queue) cancelAbandoned(ctx context.Context, id job.ID, rep *Report) error {
	now := time.Now().UTC()
	r, err := q.change(ctx, id, func(r *record, renewed time.Time) error {
		if !r.CancelAsked || !r.lapsed(now, renewed, q.cfg.Grace) {
			return errUnchanged
		}
		r.leave(OutcomeLost, nil, now)
		r.end(job.Cancelled, "", now)
		return nil
	})
	if err != nil || r.State != job.Cancelled {
		return err
	}
	rep.Cancelled++
	q.metrics.ended(verdict{outcome: OutcomeCancelled})
	return q.unpublish(ctx, r)
}

// forgotten reports whether a job waits whose message should have come.
func (r *record) forgotten(now time.Time, margin time.Duration) bool {
	return !r.State.Terminal() && r.Lease == nil && now.Sub(r.RetryAt) > margin
}

// stuck returns the jobs whose messages JetStream will not deliver any more: they are in the stream, and their consumer counts
// them as acknowledged. Below the floor of a healthy consumer there are no messages, so this asks for one message of each.
func (q *Queue) stuck(ctx context.Context) (map[string]bool, error) {
	floors := map[string]uint64{} // by the subjects that the consumer delivers
	list := q.jobs.ListConsumers(ctx)
	for c := range list.Info() {
		floors[c.Config.FilterSubject] = c.AckFloor.Stream
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("list consumers of stream %s: %w", streamJobs, err)
	}
	ids := map[string]bool{}
	for filter, floor := range floors {
		for seq := uint64(1); seq <= floor; seq++ {
			m, err := q.jobs.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(filter)) // the first at or after seq
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("read oldest message of %s: %w", filter, err)
			}
			if seq = m.Sequence; seq <= floor {
				ids[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]] = true
			}
		}
	}
	return ids, nil
}

// renew puts a new message in place of one that is stuck. It is safe in any case: whoever has the old message finds the record as
// it is. In 3 of 38 long runs of the relay's random test, which restarts nats-server 2.15.2 in place now and then, a consumer had
// lost what it had out for another try: nothing pending, and its floor of acknowledgements above a message that was there.
func (q *Queue) renew(ctx context.Context, r record, rep *Report) error {
	q.cfg.Log.Warn("message is not delivered any more: publishing it again", "job", r.Job.ID)
	if err := q.unpublish(ctx, r); err != nil {
		return err
	}
	before := rep.Republished
	err := q.republish(ctx, r.Job.ID, rep)
	rep.Renewed += rep.Republished - before
	rep.Republished = before
	return err
}

// republish puts the message of a waiting job on the stream again, under a new message id.
func (q *Queue) republish(ctx context.Context, id job.ID, rep *Report) error {
	now := time.Now().UTC()
	did := false
	r, err := q.change(ctx, id, func(r *record, renewed time.Time) error {
		did = false
		if r.State.Terminal() || r.Lease != nil && !r.lapsed(now, renewed, q.cfg.Grace) {
			return errUnchanged
		}
		did = true
		r.Generation++
		return nil
	})
	if err != nil || !did {
		return err
	}
	rep.Republished++
	return q.publish(ctx, r)
}

// idsOn returns the last tokens of the subjects that a stream holds.
func idsOn(ctx context.Context, s jetstream.Stream, filter string) (map[string]bool, error) {
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("list subjects of %s: %w", filter, err)
	}
	ids := make(map[string]bool, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		ids[subject[strings.LastIndexByte(subject, '.')+1:]] = true
	}
	return ids, nil
}

// buryGivenUp deals with messages that JetStream has delivered too often, and which would stay in the stream for ever.
func (q *Queue) buryGivenUp(ctx context.Context, rep *Report) error {
	c, err := q.js.CreateOrUpdateConsumer(ctx, streamAdvisories, jetstream.ConsumerConfig{
		Durable: "reconcile", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 30 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("open consumer of advisories: %w", err)
	}
	for {
		batch, err := c.FetchNoWait(64)
		if err != nil {
			return fmt.Errorf("read advisories: %w", err)
		}
		n := 0
		for m := range batch.Messages() {
			n++
			if err := q.buryAdvised(ctx, m.Data(), rep); err != nil {
				return err
			}
			if err := m.Ack(); err != nil {
				return fmt.Errorf("acknowledge advisory: %w", err)
			}
		}
		if n == 0 {
			return batch.Error()
		}
	}
}

func (q *Queue) buryAdvised(ctx context.Context, data []byte, rep *Report) error {
	var advisory struct {
		StreamSeq  uint64 `json:"stream_seq"`
		Deliveries int    `json:"deliveries"`
	}
	if err := json.Unmarshal(data, &advisory); err != nil || advisory.StreamSeq == 0 {
		q.cfg.Log.Error("advisory is not understood", "error", err)
		return nil
	}
	m, err := q.jobs.GetMsg(ctx, advisory.StreamSeq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil // settled since
	}
	if err != nil {
		return fmt.Errorf("read message %d that was given up: %w", advisory.StreamSeq, err)
	}
	j, err := parseMessage(m.Subject, m.Data)
	if err != nil {
		return q.deleteMessage(ctx, m.Sequence)
	}
	now := time.Now().UTC()
	r, err := q.change(ctx, j.ID, func(r *record, _ time.Time) error {
		if r.State.Terminal() {
			return errUnchanged
		}
		if r.Lease != nil {
			r.leave(OutcomeLost, nil, now)
		}
		r.Error = &job.Error{
			Class: job.Internal, Code: "GIVEN_UP",
			Message: fmt.Sprintf("the job was delivered %d times without an end: read the workers' logs", advisory.Deliveries),
		}
		r.end(job.Failed, "", now)
		return nil
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err == nil && r.State == job.Failed {
		rep.Buried++
		q.metrics.ended(verdict{outcome: OutcomeFailed, err: r.Error})
		if err := q.bury(ctx, j.ID); err != nil {
			return err
		}
	}
	return q.deleteMessage(ctx, m.Sequence)
}

func (q *Queue) deleteMessage(ctx context.Context, seq uint64) error {
	if err := q.jobs.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return fmt.Errorf("delete message %d: %w", seq, err)
	}
	return nil
}
