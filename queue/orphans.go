package queue

import (
	"context"
	"fmt"
	"time"
)

// releaseOrphans frees the jobs whose workers went with the embedded server before this one, so that they go on at once and
// not when their leases have run out. Their workers cannot come back: whoever embeds the broker has died with it, and others
// knew the token of that server, which this one does not take.
func (q *Queue) releaseOrphans(ctx context.Context) error {
	var held []record
	err := q.each(ctx, func(r record, _ time.Time) {
		if r.Lease != nil && r.Lease.Started.Before(q.cfg.Server.started) {
			held = append(held, r)
		}
	})
	if err != nil {
		return err
	}
	for _, r := range held {
		now := time.Now().UTC()
		freed, err := q.change(ctx, r.Job.ID, func(current *record, _ time.Time) error {
			return current.orphan(r.Lease.ID, now)
		})
		if err != nil {
			return fmt.Errorf("release job %s: %w", r.Job.ID, err)
		}
		q.cfg.Log.Info("job of a worker that died is released", "job", r.Job.ID, "worker", r.Lease.Worker)
		if r.Lease.Ack == "" {
			continue // by an older version: the message comes back after AckWait
		}
		// The message is the dead worker's, too. If this gets lost, it comes back after AckWait.
		nak := fmt.Appendf(nil, `-NAK {"delay": %d}`, max(0, freed.RetryAt.Sub(now)))
		if err := q.nc.Publish(r.Lease.Ack, nak); err != nil {
			return fmt.Errorf("release the message of job %s: %w", r.Job.ID, err)
		}
	}
	return nil
}
