package queue

import (
	"context"
	"errors"
	"time"

	"steno/job"
)

// recordEvery is how often progress is written to the record, for those who only ask once.
const recordEvery = 2 * time.Second

// keep starts the goroutine that holds the lease while the handler makes progress.
func (d *Delivery) keep() {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		d.heartbeats(stop)
	}()
	d.stopKeeper = func() {
		select {
		case <-stop:
		default:
			close(stop)
		}
		<-stopped
	}
}

// heartbeats renews the lease until stop is closed, the lease is lost, or the handler hangs.
func (d *Delivery) heartbeats(stop <-chan struct{}) {
	cfg := d.w.cfg
	tick := time.NewTicker(min(cfg.HeartbeatEvery, recordEvery))
	defer tick.Stop()
	var told job.Progress
	renewed := time.Now() // by the claim
	for {
		now := false
		select {
		case <-stop:
			return
		case <-d.kick:
			now = true
		case <-tick.C:
		}
		p, alive := d.state()
		if time.Since(alive) > cfg.StallAfter {
			d.log.Error("job makes no progress: giving up its lease", "stage", p.Stage, "since", alive)
			d.w.q.metrics.leasesLost.WithLabelValues("stalled").Inc()
			d.cancel(ErrStalled)
			return
		}
		if !now && p == told && time.Since(renewed) < cfg.HeartbeatEvery {
			continue
		}
		switch err := d.renew(p); {
		case err == nil:
			renewed, told = time.Now(), p
		case errors.Is(err, ErrLeaseLost):
			d.log.Warn("lease lost: another worker has the job")
			d.w.q.metrics.leasesLost.WithLabelValues("taken").Inc()
			d.cancel(ErrLeaseLost)
			return
		case errors.Is(err, ErrCancelled):
			d.cancel(ErrCancelled) // and go on: the lease is needed until the job is settled
			renewed, told = time.Now(), p
		default:
			// The work goes on: while the broker is away nobody else can take the job, and afterwards the record decides.
			d.log.Warn("renew lease", "error", err)
		}
	}
}

// renew moves the lease in the record and then the message's deadline, in this order: when the message is given to somebody
// else, the lease has run out as well.
func (d *Delivery) renew(p job.Progress) error {
	ctx, stop := context.WithTimeout(context.Background(), d.w.cfg.HeartbeatEvery)
	defer stop()
	var cancelled bool
	_, err := d.w.q.change(ctx, d.Job.ID, func(r *record, _ time.Time) error {
		err := r.renew(d.lease, p)
		cancelled = errors.Is(err, ErrCancelled)
		if cancelled {
			return nil // written all the same
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return ErrLeaseLost // the record was erased
	}
	if err != nil {
		return err
	}
	if err := d.msg.InProgress(); err != nil {
		return err
	}
	if cancelled {
		return ErrCancelled
	}
	return nil
}
