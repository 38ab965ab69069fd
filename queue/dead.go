package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/internal/failpoint"
	"steno/job"
)

// DeadLetter is a job that failed, with what led to it.
type DeadLetter struct {
	// ID is the job's, or "seq-N" for a message that was no job.
	ID      string     `json:"id"`
	Job     job.Job    `json:"job"`
	Pool    string     `json:"pool,omitempty"`
	Error   *job.Error `json:"error"`
	Cause   string     `json:"cause,omitempty"` // the error below Error, for those who look for the reason
	Stage   job.Stage  `json:"stage,omitempty"`
	History []Attempt  `json:"history,omitempty"`
	Failed  time.Time  `json:"failed"`
	// Claims and Retries are those of Status. Letters of older versions have none.
	Claims  int `json:"claims,omitempty"`
	Retries int `json:"retries,omitempty"`
	// Message is what came where it was no job, up to 64 KiB.
	Message string `json:"message,omitempty"`
}

// bury writes the dead letter of a failed job. It is idempotent: a job has one dead letter, on a subject of its own.
func (q *Queue) bury(ctx context.Context, id job.ID) error {
	r, _, err := q.record(ctx, id)
	if err != nil {
		return err
	}
	if r.State != job.Failed {
		return nil // retried meanwhile
	}
	letter := DeadLetter{
		ID: string(id), Job: r.Job, Pool: r.Pool, Error: r.Error, Cause: r.Cause, Stage: r.Progress.Stage,
		History: r.History, Failed: r.Finished, Claims: r.Claims, Retries: r.Retries,
	}
	return q.publishDead(ctx, letter, fmt.Sprintf("dead.%s.%d.%d", id, r.Generation, r.Claims))
}

// reject moves a message that is no job to the dead letters.
func (q *Queue) reject(ctx context.Context, msg jetstream.Msg, why error) {
	meta, err := msg.Metadata()
	if err == nil {
		id := fmt.Sprintf("seq-%d", meta.Sequence.Stream)
		err = q.publishDead(ctx, DeadLetter{
			ID: id, Failed: time.Now().UTC(), Message: strings.ToValidUTF8(string(msg.Data()), "�"),
			Error: &job.Error{Class: job.Input, Code: "BAD_MESSAGE", Message: "the message is no job: " + why.Error()},
		}, "dead."+id)
	}
	if err == nil {
		err = msg.TermWithReason("BAD_MESSAGE")
	}
	if err != nil {
		q.cfg.Log.Warn("reject message", "subject", msg.Subject(), "error", err)
		return
	}
	q.metrics.failures.WithLabelValues(string(job.Input)).Inc()
}

func (q *Queue) publishDead(ctx context.Context, l DeadLetter, msgID string) error {
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode dead letter %s: %w", l.ID, err)
	}
	m := nats.NewMsg(deadSubject(l.ID))
	m.Data = data
	m.Header.Set("Steno-Schema", "1")
	if _, err := q.js.PublishMsg(ctx, m, jetstream.WithMsgID(msgID), jetstream.WithExpectStream(streamDead)); err != nil {
		return fmt.Errorf("publish dead letter %s: %w", l.ID, err)
	}
	return nil
}

// DeadLetters returns all dead letters, newest first.
func (q *Queue) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	var all []DeadLetter
	info, err := q.dead.Info(ctx)
	if err != nil {
		return nil, unreachable("list the dead letters", err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := q.dead.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subjectDead+".*")) // the first at or after seq
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, unreachable("list the dead letters", err)
		}
		seq = m.Sequence
		l, err := decodeDead(m)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	slices.SortStableFunc(all, func(a, b DeadLetter) int { return b.Failed.Compare(a.Failed) })
	return all, nil
}

// DeadPage returns up to limit dead letters, the last that were written first, and where the next page begins: 0 where this is
// the last. Before is 0 for the first page. A page costs as much as it has letters, however many there are.
func (q *Queue) DeadPage(ctx context.Context, before uint64, limit int) (page []DeadLetter, next uint64, err error) {
	info, err := q.dead.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return nil, 0, unreachable("list the dead letters", err)
	}
	gone := make(map[uint64]bool, len(info.State.Deleted))
	for _, seq := range info.State.Deleted {
		gone[seq] = true
	}
	seq := info.State.LastSeq
	if before > 0 {
		seq = min(seq, before-1)
	}
	for ; seq >= max(info.State.FirstSeq, 1); seq-- {
		if gone[seq] {
			continue
		}
		if len(page) == limit {
			return page, seq + 1, nil
		}
		m, err := q.dead.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // retried meanwhile
		}
		if err != nil {
			return nil, 0, unreachable("list the dead letters", err)
		}
		l, err := decodeDead(m)
		if err != nil {
			return nil, 0, err
		}
		page = append(page, l)
	}
	return page, 0, nil
}

func decodeDead(m *jetstream.RawStreamMsg) (DeadLetter, error) {
	var l DeadLetter
	if err := json.Unmarshal(m.Data, &l); err != nil {
		return l, fmt.Errorf("decode dead letter %s: %w", m.Subject, err)
	}
	return l, nil
}

// DeadLetter returns one dead letter. The error for an unknown one wraps ErrNotFound.
func (q *Queue) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	if strings.ContainsAny(id, ".*> \t\r\n") || id == "" {
		return DeadLetter{}, noDeadLetter(id)
	}
	m, err := q.dead.GetLastMsgForSubject(ctx, deadSubject(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, noDeadLetter(id)
	}
	if err != nil {
		return DeadLetter{}, unreachable("read the dead letter", err)
	}
	return decodeDead(m)
}

func noDeadLetter(id string) error {
	return &job.Error{
		Class: job.Input, Code: "DEAD_LETTER_NOT_FOUND", Err: ErrNotFound,
		Message: fmt.Sprintf("there is no dead letter %q: list them with `steno dead list`", id),
	}
}

// RetryDead queues a failed job again, under its id, with its parameters as they were and all its attempts. Chunks that were
// finished are not computed again. The first write decides: whoever dies after it leaves a job that Reconcile puts on the stream,
// and a record outside follows it, for Status.Retries says that it was brought back.
//
// Codes: DEAD_LETTER_NOT_FOUND, which also is that of one that is being retried; NOT_A_JOB; JOB_NOT_FAILED; AUDIO_MISSING.
func (q *Queue) RetryDead(ctx context.Context, id job.ID) error {
	l, err := q.DeadLetter(ctx, string(id))
	if err != nil {
		return err
	}
	if l.Job.ID == "" {
		return job.Errorf(job.Input, "NOT_A_JOB", "dead letter %s is no job: it cannot be retried", id)
	}
	if err := q.checkAudio(ctx, l.Job.Source); err != nil {
		return q.unreachable("retry the job", err)
	}
	return q.unreachable("retry the job", q.retryDead(ctx, l))
}

func (q *Queue) retryDead(ctx context.Context, l DeadLetter) error {
	id := l.Job.ID
	revive := func(r *record, _ time.Time) error { return r.revive(time.Now().UTC()) }
	r, err := q.change(ctx, id, revive)
	if errors.Is(err, ErrNotFound) { // the record is kept for less long than the dead letter
		if r, err = q.reviveFrom(ctx, l); conflict(err) {
			r, err = q.change(ctx, id, revive) // somebody else was faster: this says so
		}
	}
	if err != nil {
		return err
	}
	if failpoint.On {
		failpoint.Hit(failpoint.RetryRevived)
	}
	// Before the job can fail again: that letter must stay.
	if err := q.exhume(ctx, string(id)); err != nil {
		return err
	}
	err = q.publish(ctx, r)
	if !refused(err) {
		return err // nil, or Reconcile publishes it
	}
	ctx = context.WithoutCancel(ctx)
	_, undo := q.change(ctx, id, func(r *record, _ time.Time) error {
		r.Error = l.Error
		r.end(job.Failed, "", l.Failed)
		return nil
	})
	return errors.Join(err, undo, q.bury(ctx, id))
}

// reviveFrom makes the record of a job anew, from its dead letter, as one that was brought back.
func (q *Queue) reviveFrom(ctx context.Context, l DeadLetter) (record, error) {
	r := newRecord(l.Job, or(l.Pool, DefaultPool), time.Now().UTC())
	// Above all that was ever told of the job, so that nobody takes what follows for something old.
	r.Claims = max(l.Claims, len(l.History)) + 1
	r.Generation, r.Retries, r.History = 1, l.Retries+1, l.History
	data, err := r.encode()
	if err != nil {
		return r, err
	}
	if _, err := q.records.Create(ctx, string(l.Job.ID), data); err != nil {
		return r, fmt.Errorf("make the record of job %s anew: %w", l.Job.ID, err)
	}
	return r, nil
}

// exhume removes a dead letter.
func (q *Queue) exhume(ctx context.Context, id string) error {
	if err := q.dead.Purge(ctx, jetstream.WithPurgeSubject(deadSubject(id))); err != nil {
		return fmt.Errorf("remove dead letter %s: %w", id, err)
	}
	return nil
}
