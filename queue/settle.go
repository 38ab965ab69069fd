package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"steno/internal/failpoint"
	"steno/job"
	"steno/transcript"
)

// finish is the one place where an attempt ends. It works once; what a handler returns after that is thrown away.
func (d *Delivery) finish(ctx context.Context, t transcript.Transcript, err error) {
	d.settle.Do(func() {
		v := d.w.cfg.judge(err, context.Cause(ctx), d.w.stopping(), d.rec)
		// Not bound to the handler's context, which has often ended; the lease bounds it, which is renewed until the result is stored.
		ctx = context.WithoutCancel(ctx)
		if v.outcome == OutcomeDone {
			v = d.store(ctx, t, v)
		}
		d.stopKeeper()
		ctx, cancel := context.WithTimeout(ctx, d.w.cfg.AckWait)
		defer cancel()
		if failpoint.On && v.result != "" {
			failpoint.Hit(failpoint.ResultStored)
		}
		if v.outcome != OutcomeLost {
			v.outcome = d.record(ctx, v)
		}
		if failpoint.On && v.outcome == OutcomeDone {
			failpoint.Hit(failpoint.EndRecorded)
		}
		d.conclude(ctx, v)
	})
}

// store writes the result under a name that only this claim uses, and turns v into a retry where that is impossible.
func (d *Delivery) store(ctx context.Context, t transcript.Transcript, v verdict) verdict {
	ctx, cancel := context.WithTimeout(ctx, d.w.cfg.AckWait)
	defer cancel()
	t.Timings.QueueWait = d.Waited.Seconds()
	data, err := json.Marshal(t)
	if err == nil {
		v.result = fmt.Sprintf("%s.%d", d.Job.ID, d.rec.Claims)
		_, err = d.w.q.results.put(ctx, bytes.NewReader(data), func(string) string { return v.result })
	}
	if err != nil {
		return d.w.cfg.judge(d.w.q.unreachable("store the result", err), nil, d.w.stopping(), d.rec)
	}
	return v
}

// record writes the verdict into the job's record, if the lease still is ours, and returns the outcome that holds.
func (d *Delivery) record(ctx context.Context, v verdict) Outcome {
	p, _ := d.state()
	var out Outcome
	_, err := d.w.q.change(ctx, d.Job.ID, func(r *record, _ time.Time) (err error) {
		out, err = r.settle(d.lease, v, p, time.Now().UTC())
		return err
	})
	switch {
	case errors.Is(err, ErrLeaseLost), errors.Is(err, ErrNotFound):
		d.log.Warn("result thrown away: another worker has the job, or it was erased")
		out = OutcomeLost
	case err != nil:
		// Whether it was written is not known, so the result stays: Sweep removes it where no record names it.
		d.log.Error("record the end of an attempt: the job is tried again when its lease has run out", "error", err)
		return OutcomeLost
	}
	if v.result != "" && out != OutcomeDone {
		d.discard(ctx, v.result)
	}
	return out
}

func (d *Delivery) discard(ctx context.Context, result string) {
	if err := d.w.q.results.remove(ctx, result); err != nil {
		d.log.Warn("unused result stays for now", "error", err)
	}
}

// conclude tells the stream, and those who count, how the attempt has ended. The record is written; whatever is lost from
// here on is made up for by the next delivery or by Reconcile.
func (d *Delivery) conclude(ctx context.Context, v verdict) {
	q, start := d.w.q, time.Now()
	var err error
	switch v.outcome {
	case OutcomeDone:
		d.chunks.clear(ctx)
		err = d.msg.DoubleAck(ctx)
	case OutcomeFailed:
		err = q.bury(ctx, d.Job.ID)
		if err == nil {
			err = d.msg.TermWithReason(v.err.Code)
		}
	case OutcomeCancelled:
		d.chunks.clear(ctx)
		err = d.msg.TermWithReason("cancelled")
	case OutcomeRetried, OutcomeRequeued:
		err = d.msg.NakWithDelay(v.delay)
	case OutcomeHandedOn:
		err = d.msg.Nak()
	case OutcomeLost:
		// The message belongs to another worker: to acknowledge it would take it from them.
	}
	q.metrics.ack.Observe(time.Since(start).Seconds())
	q.metrics.ended(v)
	d.log.Info("attempt ended", "outcome", v.outcome, "seconds", time.Since(d.rec.Started).Seconds(), "error", errText(v.err))
	if err != nil {
		d.log.Warn("acknowledge", "outcome", v.outcome, "error", err)
	}
}

func errText(e *job.Error) string {
	if e == nil {
		return ""
	}
	if e.Err != nil {
		return fmt.Sprintf("%s: %s (%v)", e.Code, e.Message, e.Err)
	}
	return e.Code + ": " + e.Message
}
