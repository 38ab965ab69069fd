package models

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Gate bounds the decodes that run at the same time on one device, and shares them fairly between flows; a flow is a job.
// It is safe for concurrent use.
//
// The next free slot goes to the waiting flow that holds the fewest (max–min fairness); among equals, to the one whose
// oldest request came first. So a job of two chunks does not wait until a job of two hundred is done. A flow that holds
// nothing may also take one of a few extra slots, at once even while all slots are busy: decodes cannot be interrupted, and a
// chunk of a large model can take a minute. For that time the device is oversubscribed.
type Gate struct {
	slots, burst int
	perThread    int // slots that a decode takes for each of its threads where it has several
	metrics      gateMetrics

	mu    sync.Mutex
	used  int            // slots that are held, extra ones included
	wide  int            // grants of more than one slot
	held  map[string]int // slots by flow; no zero entries
	queue []*gateTicket  // in order of arrival
}

// gateTicket is a request for slots; once granted, it holds width of them until it is released.
type gateTicket struct {
	flow    string
	at      time.Time
	want    int // threads
	threads int
	width   int // slots
	alone   bool
	granted chan struct{}
}

// NewGate makes a gate of slots (at least 1) with burst extra slots (at least 0) for flows that hold none.
func NewGate(slots, burst int) *Gate {
	return &Gate{slots: max(1, slots), burst: max(0, burst), perThread: 1, held: map[string]int{}}
}

// Acquire waits for a slot, or until ctx ends. release gives the slot back and may be called more than once. alone tells
// that at this moment nobody else held a slot or waited for one.
func (g *Gate) Acquire(ctx context.Context, flow string) (release func(), alone bool, err error) {
	t, err := g.acquire(ctx, flow, 1)
	if err != nil {
		return nil, false, err
	}
	return sync.OnceFunc(func() { g.release(t) }), t.alone, nil
}

// AcquireWide is Acquire for a decode that can use several threads: alone it gets up to want, as far as there are slots for them,
// else one. threads is what it got. While a wide decode runs nobody gets an extra slot: threads of one decode spin at barriers,
// and one thread too many makes them many times slower (measured: a decode step rose from 3 ms to 270 ms).
func (g *Gate) AcquireWide(ctx context.Context, flow string, want int) (release func(), threads int, err error) {
	t, err := g.acquire(ctx, flow, want)
	if err != nil {
		return nil, 0, err
	}
	return sync.OnceFunc(func() { g.release(t) }), t.threads, nil
}

// Stats tells how many slots are held, extra ones included, and how many requests wait.
func (g *Gate) Stats() (inUse, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used, len(g.queue)
}

// look tells since when the oldest request waits; the zero time where none does. missed tells that somebody could have had a slot
// and had none; it is given.
func (g *Gate) look() (oldest time.Time, missed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.queue)
	g.dispatch()
	if len(g.queue) > 0 {
		oldest = g.queue[0].at
	}
	return oldest, len(g.queue) < n
}

func (g *Gate) acquire(ctx context.Context, flow string, want int) (*gateTicket, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("wait for a decode slot: %w", context.Cause(ctx))
	}
	t := g.enqueue(flow, want)
	select {
	case <-t.granted:
	case <-ctx.Done():
		g.cancel(t)
		return nil, fmt.Errorf("wait for a decode slot: %w", context.Cause(ctx))
	}
	g.metrics.waited(time.Since(t.at))
	return t, nil
}

func (g *Gate) enqueue(flow string, want int) *gateTicket {
	t := &gateTicket{flow: flow, at: time.Now(), want: want, granted: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, t)
	g.dispatch()
	return t
}

// cancel takes a ticket back, whether it still waits or was granted meanwhile.
func (g *Gate) cancel(t *gateTicket) {
	g.mu.Lock()
	if i := slices.Index(g.queue, t); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
		g.dispatch()
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	g.release(t)
}

func (g *Gate) release(t *gateTicket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used -= t.width
	if t.threads > 1 {
		g.wide--
	}
	if g.held[t.flow] -= t.width; g.held[t.flow] == 0 {
		delete(g.held, t.flow)
	}
	g.dispatch()
}

// dispatch grants what can be granted. mu is held.
func (g *Gate) dispatch() {
	defer func() { g.metrics.set(g.used, len(g.queue)) }()
	for len(g.queue) > 0 {
		i := g.next()
		t := g.queue[i]
		limit := g.slots
		if g.held[t.flow] == 0 && g.wide == 0 {
			limit += g.burst
		}
		// next holds the fewest: where it gets no slot, nobody does.
		if g.used >= limit {
			return
		}
		t.threads, t.width, t.alone = 1, 1, g.used == 0 && len(g.queue) == 1
		if n := min(t.want, g.slots/g.perThread); t.alone && n > 1 {
			t.threads, t.width = n, n*g.perThread
			g.wide++
		}
		g.used += t.width
		g.held[t.flow] += t.width
		g.queue = slices.Delete(g.queue, i, i+1)
		close(t.granted)
	}
}

// next is the index of the oldest request among those of the flows that hold the fewest slots. mu is held.
func (g *Gate) next() int {
	best := 0
	for i, t := range g.queue {
		if g.held[t.flow] < g.held[g.queue[best].flow] {
			best = i
		}
	}
	return best
}
