package models

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"steno/gpu"
	"steno/job"
)

// Pool keeps a bounded number of models in memory and lends them. It is safe for concurrent use.
//
// A model is loaded when somebody first asks for it; all who ask meanwhile share that load, which ends when it fails, when it
// is done, or when the last of them has gone. A model stays until its room is needed or it was idle for long; one that is
// lent is never closed, unless its engine died. Its bytes count from the decision to load until its Close has returned.
//
// Requests that find no room are served in order of arrival, and no load overtakes another. A request for a loaded model is
// served at once, but once somebody has waited longer than Patience for the room of that model, only to jobs (WithFlow) that
// hold a lease on it already, so that they can end: nobody waits for ever because others keep coming.
//
// One mutex guards everything. Its unlock goes through the waiting requests and does all that can be done, so there is no
// wake-up to lose; loads and closes run in goroutines of their own, outside the mutex, and come back to it with their result.
type Pool struct {
	cfg     PoolConfig
	limits  map[string]Limits // by device; also the set of known devices
	gates   map[string]*Gate  // by device
	loader  Loader
	metrics *Metrics
	tasks   sync.WaitGroup // loads, closes and watchers of engines

	mu      sync.Mutex
	closed  bool
	queue   []*ticket       // requests that wait, in order of arrival
	entries map[Spec]*entry // what newcomers get: loading and ready entries
	all     map[*entry]bool // whatever takes room: entries, and those being closed
	pins    map[Spec]bool   // exempt from eviction, loaded or not
	learned map[Spec]int64  // bytes that engines turned out to take; Spec.Device is the actual device
	loads   map[Spec]int    // successful loads since the start
	breaker map[placement]*deaths
	changed bool // by the current pass
	started int  // loads
	ended   int  // engines that ended by themselves
	// lastReady is when a load last succeeded; Patience runs anew from there.
	lastReady time.Time
	moved     map[string]time.Time // by device: when a load, a release or a decode last went on, as far as Health has looked
	decodes   map[*decoding]bool   // those that have a slot

	resting atomic.Pointer[map[string]time.Time] // until when, by model; replaced, never changed: read without mu

	looking sync.Mutex // guards last, and is held for no longer than to read it
	last    *look
}

// NewPool makes a pool that loads through loader. metrics may be nil.
func NewPool(cfg PoolConfig, loader Loader, metrics *Metrics) (*Pool, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	limits, err := cfg.limits()
	if err != nil {
		return nil, err
	}
	if metrics == nil {
		metrics = NewMetrics(nil)
	}
	p := &Pool{
		cfg: cfg, limits: limits, gates: map[string]*Gate{}, loader: loader, metrics: metrics,
		entries: map[Spec]*entry{}, all: map[*entry]bool{}, pins: map[Spec]bool{}, learned: map[Spec]int64{},
		loads: map[Spec]int{}, breaker: map[placement]*deaths{}, moved: map[string]time.Time{}, decodes: map[*decoding]bool{},
	}
	for id, l := range limits {
		p.gates[id] = NewGate(l.Slots, cfg.Burst)
		if id == gpu.CPUID {
			p.gates[id].perThread = cfg.SlotsPerCore
		}
		p.gates[id].metrics = metrics.gate(id, l.Slots)
		metrics.budget.WithLabelValues(id).Set(float64(l.Bytes))
	}
	return p, nil
}

// state is where an entry stands. It only moves forward.
type state string

const (
	loading state = "loading" // Load runs
	ready   state = "ready"   // can be lent
	closing state = "closing" // Close runs, or the end of a cancelled Load is awaited
)

// entry is a model that takes room. Pool.mu guards it.
type entry struct {
	spec     Spec
	number   int    // in order of the loads' starts
	device   string // where it is; differs from spec.Device after a fallback
	fallback string // why it differs
	state    state
	since    time.Time // of the state
	bytes    int64
	engine   Engine // nil while loading
	info     Info
	states   *Gate              // bounds the callers of an engine that takes fewer than the device's gate lets through; or nil
	cancel   context.CancelFunc // of the load
	refs     int
	flows    map[string]int // leases by flow
	retire   bool           // to be closed when idle: Unload
	lastUsed time.Time      // when refs last became 0
	idle     *time.Timer
	gone     chan struct{} // closed when it takes no more room
}

// ticket is a request that waits for a lease.
type ticket struct {
	nothing bool // wants no model, only to come out of the queue: Health

	spec Spec
	flow string
	at   time.Time
	cold bool // waited for a load

	choices []string        // the devices to choose from, where that is left to the pool
	tried   map[string]bool // those of them that failed it

	// What a load on its behalf would do; the out-of-memory ladder changes it.
	device   string
	need     int64 // predicted bytes
	fallback string
	oom      bool // a load on this device ran out of memory
	evicted  bool // idle models were evicted because of that

	done  chan struct{} // closed with one of the next two set
	lease *Lease
	err   error
}

type flowKey struct{}

// WithFlow names the flow, which is the job, on whose behalf Acquire is called with the context. A flow that holds a lease on
// a model gets more of it even while others wait for its room. An Acquire without a name is taken for one that may hold such
// a lease, and so never waits for a model that is in use, at the cost of those who wait for its room: name your flows.
func WithFlow(ctx context.Context, flow string) context.Context {
	return context.WithValue(ctx, flowKey{}, flow)
}

// Acquire lends the model of s, and loads it first where needed. It waits for room and for the load, no longer than ctx and
// AcquireTimeout allow. The caller must Release the lease. Errors that a user can act on are *job.Error: class RESOURCE where
// memory is short, TRANSIENT where waiting helps, and what the Loader gives.
func (p *Pool) Acquire(ctx context.Context, s Spec) (*Lease, error) {
	t, spec, err := p.request(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("acquire model %s: %w", s, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.cfg.AcquireTimeout, &job.Error{
		Class: job.Resource, Code: "MODEL_BUSY",
		Message: fmt.Sprintf("no room for model %s became free within %s; try again later, or allow more models or memory",
			spec, p.cfg.AcquireTimeout),
	})
	defer cancel()
	select {
	case <-t.done:
	case <-ctx.Done():
		p.leave(t, context.Cause(ctx))
	}
	p.observe(t)
	if t.err != nil {
		return nil, fmt.Errorf("acquire model %s: %w", t.spec, t.err)
	}
	return t.lease, nil
}

// request puts a ticket into the queue, and returns it with what it asks for now: it may be placed elsewhere while it waits.
func (p *Pool) request(ctx context.Context, s Spec) (*ticket, Spec, error) {
	if ctx.Err() != nil {
		return nil, s, context.Cause(ctx)
	}
	s, err := p.resolve(s)
	if err != nil {
		return nil, s, err
	}
	var choices []string
	if s.Device == Auto {
		choices = p.choices()
		s.Device = choices[0]
	}
	need, known := p.known(s)
	if !known {
		if need, err = p.loader.Estimate(s); err != nil {
			return nil, s, fmt.Errorf("predict memory: %w", err)
		}
	}
	flow, _ := ctx.Value(flowKey{}).(string)
	t := &ticket{spec: s, flow: flow, at: time.Now(), choices: choices, device: s.Device, need: need, done: make(chan struct{})}
	p.mu.Lock()
	defer p.unlock()
	p.place(t)
	p.queue = append(p.queue, t)
	return t, t.spec, nil
}

// resolve fills in the device.
func (p *Pool) resolve(s Spec) (Spec, error) {
	if s.Device == "" {
		s.Device = cmp.Or(p.cfg.ModelDevice[s.Model], p.cfg.Device)
	}
	if _, ok := p.limits[s.Device]; !ok && s.Device != Auto {
		return s, job.Errorf(job.Resource, "NO_DEVICE",
			"device %s is not on this machine; run `steno doctor` to see those that are", s.Device)
	}
	return s, nil
}

// known is what a model takes, from an earlier load.
func (p *Pool) known(s Spec) (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.learned[s]
	return n, ok
}

// leave takes a ticket out of the queue because its caller waits no longer. A lease that was granted meanwhile is given back.
func (p *Pool) leave(t *ticket, cause error) {
	p.mu.Lock()
	defer p.unlock()
	if t.lease != nil {
		p.drop(t.lease.entry, t.flow)
		t.lease, t.err = nil, cause
	}
	if t.err == nil {
		p.resolveTicket(t, nil, cause)
	}
	// A load that nobody waits for any more is not worth its room.
	if e := p.entries[t.spec]; e != nil && e.state == loading && !p.awaited(t.spec) {
		p.abandon(e)
	}
}

// awaited tells whether a ticket for s is in the queue. mu is held.
func (p *Pool) awaited(s Spec) bool {
	return slices.ContainsFunc(p.queue, func(t *ticket) bool { return t.spec == s })
}

// resolveTicket ends the wait of t. mu is held.
func (p *Pool) resolveTicket(t *ticket, l *Lease, err error) {
	p.queue = slices.DeleteFunc(p.queue, func(q *ticket) bool { return q == t })
	t.lease, t.err = l, err
	p.changed = true
	close(t.done)
}

// grant lends e to t. mu is held.
func (p *Pool) grant(t *ticket, e *entry) {
	e.refs++
	e.flows[t.flow]++
	p.resolveTicket(t, &Lease{pool: p, entry: e, flow: t.flow, cold: t.cold}, nil)
}

// drop gives one lease of flow on e back. mu is held.
func (p *Pool) drop(e *entry, flow string) {
	e.refs--
	if e.flows[flow]--; e.flows[flow] == 0 {
		delete(e.flows, flow)
	}
	if e.refs > 0 || e.state != ready {
		return
	}
	e.lastUsed = time.Now()
	p.rest(e)
}

// rest closes an idle entry that is to retire, and starts the idle time of any other. mu is held.
func (p *Pool) rest(e *entry) {
	if e.retire {
		p.close(e, "unload")
		return
	}
	if p.cfg.IdleTimeout < 0 {
		return
	}
	if e.idle != nil {
		e.idle.Stop()
	}
	e.idle = time.AfterFunc(p.cfg.IdleTimeout, func() {
		p.mu.Lock()
		defer p.unlock()
		if p.evictable(e) && time.Since(e.lastUsed) >= p.cfg.IdleTimeout {
			p.close(e, "idle")
		}
	})
}

// evictable tells whether e may be closed to make room. mu is held.
func (p *Pool) evictable(e *entry) bool {
	return e.state == ready && e.refs == 0 && !p.pinned(e.spec)
}

// pinned tells whether a model must stay: on its device, or on whatever device it is. mu is held.
func (p *Pool) pinned(s Spec) bool {
	anywhere := s
	anywhere.Device = Auto
	return p.pins[s] || p.pins[anywhere]
}

// observe counts the wait of a ticket that is done.
func (p *Pool) observe(t *ticket) {
	start := "warm"
	switch {
	case t.err != nil:
		start = "failed"
	case t.cold:
		start = "cold"
	}
	p.metrics.waitSeconds.WithLabelValues(start).Observe(time.Since(t.at).Seconds())
}

// unlock ends a critical section that may have changed something: it schedules, and brings the gauges up to date.
func (p *Pool) unlock() {
	p.schedule()
	refs, bytes := 0, map[string]int64{}
	for e := range p.all {
		refs += e.refs
		bytes[e.device] += e.bytes
	}
	p.metrics.loaded.Set(float64(len(p.all)))
	p.metrics.leases.Set(float64(refs))
	p.metrics.waiting.Set(float64(len(p.queue)))
	for id := range p.limits {
		p.metrics.bytes.WithLabelValues(id).Set(float64(bytes[id]))
	}
	p.mu.Unlock()
}
