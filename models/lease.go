package models

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"steno/gpu"
	"steno/job"
	"steno/transcript"
)

// Lease is the right to use a loaded model, which stays loaded until Release. It is safe for concurrent use.
type Lease struct {
	pool     *Pool
	entry    *entry // engine, info, states, device and fallback no longer change
	flow     string
	cold     bool
	released atomic.Bool
}

// errReleased is a fault of the caller.
var errReleased = errors.New("the lease was released")

// Info describes the engine; its Device is where it really is.
func (l *Lease) Info() Info { return l.entry.info }

// Fallback says in one sentence why the model is not on the device that was asked for; it is empty where it is.
func (l *Lease) Fallback() string { return l.entry.fallback }

// Cold tells whether the lease had to wait for the model to be loaded.
func (l *Lease) Cold() bool { return l.cold }

// Transcribe waits for one of the device's decode slots, fairly among flows, and then does what Engine.Transcribe does. flow
// is the job's id. r.Threads is a wish: it is granted while no other job uses or wants the device, else it is one thread.
//
// An error that wraps ErrEngineDied means that the model is gone from the pool; acquire it anew to try again. A device that
// ran out of memory gives a *job.Error of class RESOURCE, and idle models on it are evicted.
func (l *Lease) Transcribe(ctx context.Context, flow string, r Request, emit func([]transcript.Segment)) (Result, error) {
	if !l.hold() {
		return Result{}, fmt.Errorf("transcribe: %w", errReleased)
	}
	defer l.unhold(false)
	e := l.entry
	alone := true
	if e.states != nil {
		release, first, err := e.states.Acquire(ctx, flow)
		if err != nil {
			return Result{}, fmt.Errorf("transcribe: %w", err)
		}
		defer release()
		alone = first // the device's gate does not see those who wait for a state
	}
	want := 1
	if alone && e.device == gpu.CPUID {
		want = r.Threads
	}
	release, threads, err := l.pool.gates[e.device].AcquireWide(ctx, flow, want)
	if err != nil {
		return Result{}, fmt.Errorf("transcribe: %w", err)
	}
	defer release()
	r.Threads = threads
	if r.Activity == nil {
		r.Activity = new(atomic.Uint64)
	}
	defer l.pool.follow(e.device, r.Activity)()
	res, err := e.engine.Transcribe(ctx, r, func(segs []transcript.Segment) {
		r.Activity.Add(1)
		if emit != nil {
			emit(segs)
		}
	})
	if err != nil {
		return res, l.pool.judge(e, err)
	}
	return res, nil
}

// Release gives the model back. Calls after the first do nothing. A Transcribe that runs keeps the model until it is done.
func (l *Lease) Release() {
	if !l.released.Swap(true) {
		l.unhold(true)
	}
}

// hold keeps the model for the time of one call, so that a Release meanwhile does not pull it away.
func (l *Lease) hold() bool {
	l.pool.mu.Lock()
	defer l.pool.unlock()
	if l.released.Load() {
		return false
	}
	l.entry.refs++
	l.entry.flows[l.flow]++
	return true
}

// unhold takes hold back. That a call gives up is no release, for it may have waited in vain.
func (l *Lease) unhold(release bool) {
	l.pool.mu.Lock()
	defer l.pool.unlock()
	if release {
		l.pool.move(l.entry.device)
	}
	l.pool.drop(l.entry, l.flow)
}

// judge looks at the error of a decode for what it says about the engine.
func (p *Pool) judge(e *entry, err error) error {
	switch {
	case errors.Is(err, ErrOutOfMemory):
		p.mu.Lock()
		defer p.unlock()
		if isDeath(err) {
			p.died(e, err)
		}
		p.evictIdle(e.device)
		return &job.Error{
			Class: job.Resource, Code: "DEVICE_OUT_OF_MEMORY",
			Message: fmt.Sprintf("%s ran out of memory under model %s; try again, choose a smaller model, or allow fewer decodes "+
				"at a time", e.device, e.spec.Model),
			Err: err,
		}
	case errors.Is(err, ErrEngineDied):
		// The watcher may not have seen it yet, and the caller will ask for a fresh engine at once.
		p.mu.Lock()
		defer p.unlock()
		p.died(e, err)
	}
	return fmt.Errorf("transcribe with model %s: %w", e.spec.Model, err)
}
