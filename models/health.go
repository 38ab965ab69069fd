package models

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"steno/job"
)

// Health reports what keeps jobs from a model that can only be a fault of the pool or of what is under it. It asks as a job
// does: a request that wants no model goes through the queue, and must come out within AnswerTimeout. A fault is, too, a load or
// a close that does not end; a request that outlived its time-out, or could have been served but was not (it serves that one);
// and one that has waited for a model or a slot for longer than StallTimeout while nothing moved: no load, no release, and no
// step of a decode that has a slot. Busy models are no fault, nor is one that rests (Quarantined). Nothing is loaded for it: to
// see that a model can really be loaded, call Preload.
//
// It returns when ctx ends. However often it is called, one look at a time is under way.
func (p *Pool) Health(ctx context.Context) error {
	l := p.look()
	wait := time.NewTimer(p.cfg.AnswerTimeout - time.Since(l.began))
	defer wait.Stop()
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return fmt.Errorf("ask the model pool: %w", context.Cause(ctx))
	case <-wait.C:
	}
	select {
	case <-l.done: // both were true
		return l.err
	default:
		return stuck(fmt.Errorf("a request that wants no model has had no answer for %s", age(l.began)))
	}
}

func stuck(faults ...error) error {
	if len(faults) == 0 {
		return nil
	}
	err := errors.Join(faults...)
	return &job.Error{
		Class: job.Internal, Code: "POOL_STUCK", Err: err,
		Message: fmt.Sprintf("the model pool is stuck (%s); restart the worker and report this",
			strings.ReplaceAll(err.Error(), "\n", "; ")),
	}
}

// age is for people.
func age(since time.Time) time.Duration {
	d := time.Since(since)
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(time.Second)
}

// look is one look at the pool, which may not end.
type look struct {
	began time.Time
	done  chan struct{} // closed with err set
	err   error
}

// look starts one, or joins that which is under way.
func (p *Pool) look() *look {
	p.looking.Lock()
	defer p.looking.Unlock()
	if l := p.last; l != nil {
		select {
		case <-l.done:
		default:
			return l
		}
	}
	l := &look{began: time.Now(), done: make(chan struct{})}
	p.last = l
	go func() {
		defer close(l.done)
		l.err = p.examine()
	}()
	return l
}

// examine is a look. Whatever blocks the pool or a gate blocks it, too.
func (p *Pool) examine() error {
	missed, err := p.ask()
	if err != nil {
		return err
	}
	var faults []error
	if missed {
		faults = append(faults, errors.New("a request could be served but was not"))
	}
	faults = append(faults, p.overdue()...)
	waits, moved, lent := p.waits()
	for _, w := range waits {
		if w.gate != nil {
			oldest, missed := w.gate.look()
			if missed {
				faults = append(faults, fmt.Errorf("%s could be given but was not", w.what))
			}
			if w.since = oldest; oldest.IsZero() {
				continue
			}
		}
		if still := w.still(moved); time.Since(still) > p.cfg.StallTimeout {
			faults = append(faults, fmt.Errorf("a request for %s waits since %s, and nothing has moved for %s (lent: %s)",
				w.what, age(w.since), age(still), lent))
		}
	}
	return stuck(faults...)
}

// ask sends a request that wants no model through the queue. missed tells that before it somebody else could have been served.
func (p *Pool) ask() (missed bool, err error) {
	t := &ticket{nothing: true, at: time.Now(), done: make(chan struct{})}
	p.mu.Lock()
	// An engine that ended this instant is something to do that nobody has missed.
	ended := p.ended
	missed = p.pass() && p.ended == ended
	p.queue = append(p.queue, t)
	p.unlock()
	<-t.done
	return missed, t.err
}

// overdue lists what outlived its bound.
func (p *Pool) overdue() (faults []error) {
	const slack = 10 * time.Second
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := range p.all {
		took := time.Since(e.since)
		if e.state == loading && took > p.cfg.LoadTimeout+slack || e.state == closing && took > p.cfg.CloseTimeout {
			faults = append(faults, fmt.Errorf("model %s is %s since %s", e.spec, e.state, age(e.since)))
		}
	}
	for _, t := range p.queue {
		if time.Since(t.at) > p.cfg.AcquireTimeout+slack {
			faults = append(faults, fmt.Errorf("a request for model %s waits since %s", t.spec, age(t.at)))
		}
	}
	return faults
}

// wait is the oldest request for something.
type wait struct {
	what   string
	since  time.Time
	device string // on which something must move; any if empty
	gate   *Gate  // knows since when, outside the pool's mutex; or nil
}

// still is since when it has waited while nothing moved.
func (w wait) still(moved map[string]time.Time) time.Time {
	still := w.since
	for device, at := range moved {
		if (w.device == "" || w.device == device) && at.After(still) {
			still = at
		}
	}
	return still
}

// waits lists who may wait, when each device last moved, and which models are lent.
func (p *Pool) waits() (list []wait, moved map[string]time.Time, lent string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	if len(p.queue) > 0 {
		list = append(list, wait{what: "model " + p.queue[0].spec.String(), since: p.queue[0].at})
	}
	for id, g := range p.gates {
		list = append(list, wait{what: "a decode slot of " + id, device: id, gate: g})
	}
	for e := range p.all {
		if e.state == loading {
			p.move(e.device)
		}
		if e.refs > 0 {
			names = append(names, e.spec.String())
		}
		if e.states != nil {
			list = append(list, wait{what: "a decode state of model " + e.spec.String(), device: e.device, gate: e.states})
		}
	}
	for d := range p.decodes {
		if n := d.activity.Load(); n != d.seen {
			d.seen = n
			p.move(d.device)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		names = []string{"none"}
	}
	return list, maps.Clone(p.moved), strings.Join(names, ", ")
}

// move notes that something went on on a device. mu is held.
func (p *Pool) move(device string) { p.moved[device] = time.Now() }

// decoding is a decode that has its slot.
type decoding struct {
	device   string
	activity *atomic.Uint64
	seen     uint64 // what activity was at the last look; guarded by Pool.mu
}

// follow lets Health see a decode until ended is called.
func (p *Pool) follow(device string, activity *atomic.Uint64) (ended func()) {
	d := &decoding{device: device, activity: activity, seen: activity.Load()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decodes[d] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.decodes, d)
		p.move(device)
	}
}
