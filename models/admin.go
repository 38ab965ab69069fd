package models

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Preload loads a model, if it is not loaded, and leaves it idle. It goes through all that Acquire does, so a readiness check
// that calls it shows that models really can be loaded.
func (p *Pool) Preload(ctx context.Context, s Spec) error {
	l, err := p.Acquire(ctx, s)
	if err != nil {
		return err
	}
	l.Release()
	return nil
}

// Pin exempts a model from eviction and from the idle time-out, whether it is loaded or will be.
func (p *Pool) Pin(s Spec) error {
	s, err := p.resolve(s)
	if err != nil {
		return fmt.Errorf("pin model %s: %w", s, err)
	}
	p.mu.Lock()
	defer p.unlock()
	p.pins[s] = true
	return nil
}

// Unpin takes Pin back.
func (p *Pool) Unpin(s Spec) error {
	s, err := p.resolve(s)
	if err != nil {
		return fmt.Errorf("unpin model %s: %w", s, err)
	}
	p.mu.Lock()
	defer p.unlock()
	delete(p.pins, s)
	if e := p.entries[s]; e != nil && p.evictable(e) {
		e.lastUsed = time.Now()
		p.rest(e)
	}
	return nil
}

// Unload closes a model on every device and in every variant, pinned or not, and returns when its memory is free. Where it is
// lent, it is closed when it becomes idle; until then only jobs that hold it get more of it. Pins stay, loads in flight go on.
// When ctx ends, Unload stops waiting, but the models are closed all the same.
func (p *Pool) Unload(ctx context.Context, model string) error {
	return p.unload(ctx, func(e *entry) bool { return e.spec.Model == model })
}

// UnloadAll is Unload for all models.
func (p *Pool) UnloadAll(ctx context.Context) error {
	return p.unload(ctx, func(*entry) bool { return true })
}

func (p *Pool) unload(ctx context.Context, match func(*entry) bool) error {
	p.mu.Lock()
	var leaving []*entry
	for e := range p.all {
		if !match(e) || e.state == loading {
			continue
		}
		leaving = append(leaving, e)
		e.retire = true
		if e.state == ready && e.refs == 0 {
			p.rest(e)
		}
	}
	p.unlock()
	return awaitGone(ctx, leaving)
}

// awaitGone waits until entries take no more room.
func awaitGone(ctx context.Context, entries []*entry) error {
	for _, e := range entries {
		select {
		case <-e.gone:
		case <-ctx.Done():
			return fmt.Errorf("wait until model %s is closed: %w", e.spec, context.Cause(ctx))
		}
	}
	return nil
}

// Close refuses new requests and those that wait, cancels loads, and waits until every lease has come back and every model is
// closed. When ctx ends first, it closes the models that are still lent, which ends their decodes, and returns an error after
// at most CloseTimeout more. Call it once; the pool is of no use afterwards.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	var leaving []*entry
	for e := range p.all {
		leaving = append(leaving, e)
		e.retire = true
		switch {
		case e.state == loading:
			p.abandon(e)
		case e.state == ready && e.refs == 0:
			p.rest(e)
		}
	}
	p.unlock()
	err := awaitGone(ctx, leaving)
	if err != nil {
		p.mu.Lock()
		for _, e := range leaving {
			if e.state == ready {
				p.close(e, "forced")
			}
		}
		p.unlock()
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), p.cfg.CloseTimeout,
			fmt.Errorf("not closed within %s", p.cfg.CloseTimeout))
		defer cancel()
		if stuck := awaitGone(ctx, leaving); stuck != nil {
			return fmt.Errorf("close model pool: %w", errors.Join(err, stuck))
		}
		err = fmt.Errorf("close model pool: leases were cut off: %w", err)
	}
	p.tasks.Wait()
	return err
}
