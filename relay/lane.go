package relay

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"steno/internal/failpoint"
	"steno/store"
)

// stopGrace is how long what was begun may take after the relay was told to stop.
const stopGrace = 5 * time.Second

// lane carries out the commands of one lane of the outbox, up to cap(slots) at the same time.
type lane struct {
	name   store.Lane
	outbox Outbox
	// do carries a command out. An error means that it is to be tried again, after pause.
	do      func(ctx context.Context, cmd store.Command) error
	pause   func(tries int) time.Duration
	lease   time.Duration // of a claim; do gets two thirds of it
	tick    time.Duration
	slots   chan struct{} // holds a token for each command that is carried out
	wake    chan struct{}
	log     *slog.Logger
	metrics *metrics
}

// notify makes the lane look at the outbox now.
func (l *lane) notify() {
	select {
	case l.wake <- struct{}{}:
	default: // it is about to
	}
}

// run works until ctx ends; what was begun is finished then, or given back.
func (l *lane) run(ctx context.Context) {
	// Outlives ctx by stopGrace: a command that is cut must wait for its lease.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if sleep(work, stopGrace) {
			cancel()
		}
	})()
	var running sync.WaitGroup
	defer running.Wait()
	failures := 0
	for {
		wait := l.tick
		full, err := l.claim(ctx, work, &running)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			wait = retryPause(failures, 10*time.Second)
			l.log.Warn("claim commands", "lane", l.name, "error", err, "pause", wait)
		default:
			failures = 0
		}
		if full {
			continue
		}
		if !l.idle(ctx, wait, failures > 0) {
			return
		}
	}
}

// idle waits for a notice or for d to pass. Where the outbox has just failed, a notice is no reason to try sooner.
func (l *lane) idle(ctx context.Context, d time.Duration, deaf bool) bool {
	wake := l.wake
	if deaf {
		wake = nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// claim starts as many commands as there are free slots, once there is one. It reports whether there may be more.
func (l *lane) claim(ctx, work context.Context, running *sync.WaitGroup) (full bool, err error) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return false, nil
	}
	n := 1
	for more := true; more; {
		select {
		case l.slots <- struct{}{}:
			n++
		default:
			more = false
		}
	}
	bounded, cancel := context.WithTimeout(ctx, l.lease/3)
	list, err := l.outbox.Claim(bounded, l.name, n, l.lease)
	cancel()
	for range n - len(list) {
		<-l.slots
	}
	for _, cmd := range list {
		running.Go(func() {
			defer func() { <-l.slots }()
			l.carryOut(ctx, work, cmd)
		})
	}
	return err == nil && len(list) == n, err
}

// carryOut does one command and takes it off the outbox, or gives it back.
func (l *lane) carryOut(stop, work context.Context, cmd store.Command) {
	// Well within the lease, so that nobody else is at it meanwhile.
	ctx, cancel := context.WithTimeout(work, l.lease/3)
	err := l.do(ctx, cmd)
	cancel()
	ctx, cancel = context.WithTimeout(context.WithoutCancel(work), l.lease/3)
	defer cancel()
	if err == nil {
		if err = l.outbox.Complete(ctx, cmd.ID); err != nil {
			l.log.Warn("complete command: it is carried out again", "command", cmd.ID, "error", err)
			return
		}
		if failpoint.On {
			failpoint.Hit(failpoint.CompleteAfter)
		}
		l.metrics.done.WithLabelValues(string(cmd.Kind)).Inc()
		return
	}
	pause := l.pause(cmd.Tries)
	if stop.Err() != nil {
		pause = 0 // we were stopped: others may go on at once
	} else {
		l.metrics.retries.WithLabelValues(string(cmd.Kind)).Inc()
	}
	l.log.Warn("command failed", "kind", cmd.Kind, "task", cmd.Task, "object", cmd.Object, "tries", cmd.Tries, "error", err,
		"pause", pause)
	if err := l.outbox.RetryAfter(ctx, cmd, pause, err); err != nil {
		l.log.Warn("give command back: it waits for its lease", "command", cmd.ID, "error", err)
	}
}

// retryPause is a second, doubled with each failure after the first up to most, and up to a quarter more, so that what failed
// together does not come back together.
func retryPause(failures int, most time.Duration) time.Duration {
	d := most
	if failures <= 20 {
		d = min(most, time.Second<<max(0, failures-1))
	}
	return d + rand.N(d/4+1)
}
