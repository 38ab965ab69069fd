package models

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"steno/gpu"
	"steno/job"
)

// load starts the load that t asks for. There is room. mu is held.
func (p *Pool) load(t *ticket) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), p.cfg.LoadTimeout, &job.Error{
		Class: job.Transient, Code: "MODEL_LOAD_TIMEOUT",
		Message: fmt.Sprintf("model %s was not loaded within %s; check the disk and the load of the machine, and try again",
			t.spec, p.cfg.LoadTimeout),
	})
	p.started++
	p.metrics.know(t.spec.Model)
	e := &entry{
		spec: t.spec, number: p.started, device: t.device, fallback: t.fallback, state: loading, since: time.Now(), bytes: t.need,
		cancel: cancel, flows: map[string]int{}, gone: make(chan struct{}),
	}
	p.entries[e.spec], p.all[e], p.changed = e, true, true
	p.tasks.Go(func() {
		defer cancel()
		p.runLoad(ctx, e)
	})
}

// runLoad loads outside the mutex and brings the result back to it.
func (p *Pool) runLoad(ctx context.Context, e *entry) {
	spec := e.spec
	spec.Device = e.device
	var engine Engine
	err := p.room(ctx, e)
	if err == nil {
		engine, err = p.loader.Load(ctx, spec)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var fallback int64
	if errors.Is(err, ErrOutOfMemory) && p.cfg.FallbackCPU && e.device != gpu.CPUID {
		spec.Device = gpu.CPUID
		if fallback, _ = p.loader.Estimate(spec); fallback < 0 {
			fallback = 0
		}
	}
	if engine != nil && !p.adopt(e, engine) {
		_ = engine.Close() // cancelled, or too big: nobody has seen this engine, so nobody cares how it ends
	}
	p.loaded(e, err, fallback)
}

// adopt makes a loaded engine ready to be lent. It refuses one that nobody waits for, or that breaks the budget.
func (p *Pool) adopt(e *entry, engine Engine) bool {
	info := engine.Info()
	p.mu.Lock()
	defer p.unlock()
	if e.state != loading {
		return false
	}
	if info.Bytes > 0 {
		spec := e.spec
		spec.Device = e.device
		e.bytes = info.Bytes
		p.learned[spec] = info.Bytes
	}
	if e.bytes > p.limits[e.device].Bytes {
		return false
	}
	e.engine, e.info = engine, info
	l := p.limits[e.device]
	if info.States > 0 && info.States < l.Slots+max(0, p.cfg.Burst) {
		e.states = NewGate(info.States, 0)
	}
	p.metrics.loads.WithLabelValues(e.spec.Model, "ok").Inc()
	p.metrics.loadSeconds.WithLabelValues(e.spec.Model).Observe(time.Since(e.since).Seconds())
	p.cfg.Log.Info("model loaded", "model", e.spec.String(), "device", e.device, "bytes", e.bytes, "seconds",
		time.Since(e.since).Seconds(), "fallback", e.fallback)
	e.state, e.since = ready, time.Now()
	e.lastUsed, p.lastReady = e.since, e.since
	p.loads[e.spec]++
	p.move(e.device)
	p.tasks.Go(func() { p.watch(e) })
	p.shrink(e)
	p.rest(e)
	return true
}

// shrink evicts what it can when the engine of e took more than predicted. mu is held.
func (p *Pool) shrink(e *entry) {
	leaving := func(o *entry) bool { return o.state == closing }
	idle := p.sorted(func(o *entry) bool { return o != e && o.device == e.device && p.evictable(o) }, leastRecent)
	for _, o := range idle {
		if p.taken(e.device, leaving) <= p.limits[e.device].Bytes {
			return
		}
		p.close(o, "room")
	}
	if p.taken(e.device, leaving) > p.limits[e.device].Bytes {
		p.cfg.Log.Warn("models take more memory than they may", "device", e.device, "model", e.spec.String(), "bytes", e.bytes)
	}
}

// loaded ends a load that brought no engine into the pool; for one that did, it does nothing.
func (p *Pool) loaded(e *entry, err error, fallback int64) {
	p.mu.Lock()
	defer p.unlock()
	if e.engine != nil {
		return
	}
	cancelled := e.state != loading
	p.forget(e)
	result := "error"
	switch {
	case cancelled:
		result = "cancelled"
	case err == nil:
		err = tooBig(e.spec, e.device, e.bytes, p.limits[e.device].Bytes)
		p.fail(e.spec, err)
	case errors.Is(err, ErrOutOfMemory):
		result = "oom"
		p.ladder(e, err, fallback)
	default:
		if isDeath(err) {
			p.recordDeath(e.spec.Model, e.device, err)
		}
		p.fail(e.spec, fmt.Errorf("load: %w", err))
	}
	p.metrics.loads.WithLabelValues(e.spec.Model, result).Inc()
	if !cancelled {
		p.cfg.Log.Error("model not loaded", "model", e.spec.String(), "device", e.device, "error", err)
	}
}

// ladder takes the requests for a model that ran out of memory one step down: evict all that is idle and try once more; then
// the CPU, if configured; then give up. mu is held.
func (p *Pool) ladder(e *entry, cause error, fallback int64) {
	for _, t := range slices.Clone(p.queue) {
		switch {
		case t.spec != e.spec || t.device != e.device:
		case !t.oom:
			t.oom = true
		case p.elsewhere(t):
		case fallback > 0:
			t.oom, t.evicted, t.device, t.need = false, false, gpu.CPUID, fallback
			t.fallback = fmt.Sprintf("%s had no memory for model %s, so it runs on the CPU", e.device, e.spec.Model)
			p.metrics.fallbacks.WithLabelValues(e.device).Inc()
		default:
			p.resolveTicket(t, nil, &job.Error{
				Class: job.Resource, Code: "MODEL_OUT_OF_MEMORY",
				Message: fmt.Sprintf("model %s does not fit into the free memory of %s; choose a smaller or quantised model, "+
					"or free memory there", e.spec.Model, e.device),
				Err: cause,
			})
		}
	}
}

// fail ends the wait of all requests for s, but of those that another device may serve. mu is held.
func (p *Pool) fail(s Spec, err error) {
	device := isDeath(err) || errors.Is(err, errDevice)
	for _, t := range slices.Clone(p.queue) {
		if t.spec == s && (!device || !p.elsewhere(t)) {
			p.resolveTicket(t, nil, err)
		}
	}
}

// abandon cancels a load. Its room is free when Load has returned. mu is held.
func (p *Pool) abandon(e *entry) {
	e.state, e.since = closing, time.Now()
	delete(p.entries, e.spec)
	e.cancel()
}

// close closes a ready entry. Its room is free when Close has returned. mu is held.
func (p *Pool) close(e *entry, reason string) {
	e.state, e.since, p.changed = closing, time.Now(), true
	delete(p.entries, e.spec)
	if e.idle != nil {
		e.idle.Stop()
	}
	p.metrics.evictions.WithLabelValues(reason).Inc()
	p.cfg.Log.Info("model is being closed", "model", e.spec.String(), "device", e.device, "reason", reason)
	p.tasks.Go(func() {
		err := e.engine.Close()
		p.mu.Lock()
		defer p.unlock()
		if err != nil && reason != "died" {
			p.cfg.Log.Warn("close model", "model", e.spec.String(), "error", err)
		}
		p.forget(e)
	})
}

// forget takes e out of the pool: it takes no more room. mu is held.
func (p *Pool) forget(e *entry) {
	if p.entries[e.spec] == e {
		delete(p.entries, e.spec)
	}
	delete(p.all, e)
	p.move(e.device)
	close(e.gone)
}

// watch waits for the end of an engine.
func (p *Pool) watch(e *entry) {
	select {
	case <-e.gone:
	case <-e.engine.Done():
		p.mu.Lock()
		defer p.unlock()
		p.died(e, e.engine.Err())
	}
}

// died removes an entry whose engine ended by itself; the next request loads the model anew. A nil cause means that the
// engine had served its time and ended in order. mu is held.
func (p *Pool) died(e *entry, cause error) {
	if e.state != ready {
		return
	}
	p.ended++
	if cause != nil {
		p.recordDeath(e.spec.Model, e.device, cause)
	}
	p.close(e, "died")
}
