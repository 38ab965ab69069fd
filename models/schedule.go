package models

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"steno/job"
)

// schedule does all that can be done for those who wait, until nothing changes any more: a refusal or a dead engine that one
// pass finds can be what an older request waited for. mu is held.
func (p *Pool) schedule() {
	for p.pass() {
	}
}

// pass goes through the requests in order of arrival, lends what is loaded, and starts the loads for which there is room or
// evicts for them. The first request without room is the head: until it is served nothing else is loaded. It reports whether
// it changed anything. mu is held.
func (p *Pool) pass() bool {
	p.changed = false
	var head *ticket
	var held map[*entry]bool // what newcomers must leave to the head
	for _, t := range slices.Clone(p.queue) {
		e := p.entries[t.spec]
		switch {
		case p.closed:
			p.resolveTicket(t, nil, errClosed)
		case t.nothing:
			p.resolveTicket(t, nil, nil)
		case e != nil && e.state == ready && p.lendable(e, t, held):
			p.grant(t, e)
		case e != nil && e.state != ready:
			t.cold = true
		case e != nil:
			p.grantCopy(t, held)
		default:
			err := p.refuse(t)
			switch {
			case err == nil && head == nil && p.makeRoom(t):
				t.cold = true
				p.load(t)
			case p.grantCopy(t, held): // and t is its caller's from here on
			case err != nil:
				p.resolveTicket(t, nil, err)
			default:
				t.cold = true
				if head == nil {
					head, held = t, p.reserved(t)
				}
			}
		}
	}
	return p.changed
}

// grantCopy lends t the model on another of the devices that the pool may choose from, where it is loaded and may be lent, and
// tells whether there is one. So no job waits for room that holds its model somewhere: who is served before it may wait for that.
// mu is held.
func (p *Pool) grantCopy(t *ticket, held map[*entry]bool) bool {
	var best *entry
	spec := t.spec
	for _, id := range t.choices {
		spec.Device = id
		e := p.entries[spec]
		if e != nil && e.state == ready && p.lendable(e, t, held) && (best == nil || e.refs < best.refs) {
			best = e
		}
	}
	if best == nil {
		return false
	}
	t.spec, t.device = best.spec, best.device
	p.grant(t, best)
	return true
}

// lendable tells whether t may have the ready entry e now. It finds engines that died before their watcher does. mu is held.
func (p *Pool) lendable(e *entry, t *ticket, held map[*entry]bool) bool {
	select {
	case <-e.engine.Done():
		p.died(e, e.engine.Err())
		return false
	default:
	}
	if !e.retire && !held[e] {
		return true
	}
	// Those who hold it already must get more, or they could wait for themselves. One without a name may be such a one.
	return e.refs > 0 && (t.flow == "" || e.flows[t.flow] > 0)
}

// makeRoom tells whether the model of t can be loaded now. Where it cannot, but idle models could give way, it closes the
// fewest that suffice, the least recently used first; their room is free once they are gone. mu is held.
func (p *Pool) makeRoom(t *ticket) bool {
	if t.oom && !t.evicted {
		t.evicted = true
		p.evictIdle(t.device)
	}
	leaving := func(e *entry) bool { return e.state == closing }
	if t.oom && p.any(func(e *entry) bool { return e.device == t.device && leaving(e) }) {
		return false
	}
	if p.fits(t, func(*entry) bool { return false }) {
		return true
	}
	if p.fits(t, leaving) {
		return false
	}
	for e := range p.fewest(t, p.sorted(p.evictable, leastRecent)) {
		p.close(e, "room")
	}
	return false
}

// refuse is the error of a request that no wait can serve. mu is held.
func (p *Pool) refuse(t *ticket) error {
	if err := p.quarantined(t.spec.Model, t.device); err != nil {
		return err
	}
	if budget := p.limits[t.device].Bytes; t.need > budget {
		return tooBig(t.spec, t.device, t.need, budget)
	}
	if !p.fits(t, func(e *entry) bool { return e.state == closing || !p.pinned(e.spec) }) {
		return &job.Error{
			Class: job.Resource, Code: "POOL_PINNED",
			Message: fmt.Sprintf("pinned models leave no room for model %s; unpin one, or allow more models or memory", t.spec),
		}
	}
	return nil
}

func tooBig(s Spec, device string, need, budget int64) error {
	return &job.Error{
		Class: job.Resource, Code: "MODEL_TOO_BIG",
		Message: fmt.Sprintf("model %s needs %d MiB, but models may take only %d MiB on %s; choose a smaller or quantised model, "+
			"or raise the memory budget", s.Model, need>>20, budget>>20, device),
	}
}

// fits tells whether t has room once the entries that gone names are gone. mu is held.
func (p *Pool) fits(t *ticket, gone func(*entry) bool) bool {
	n := 1
	for e := range p.all {
		if !gone(e) {
			n++
		}
	}
	return n <= p.cfg.MaxModels && t.need+p.taken(t.device, gone) <= p.limits[t.device].Bytes
}

// taken is the bytes of a device that models take, those that gone names left out. mu is held.
func (p *Pool) taken(device string, gone func(*entry) bool) int64 {
	var bytes int64
	for e := range p.all {
		if e.device == device && !gone(e) {
			bytes += e.bytes
		}
	}
	return bytes
}

// evictIdle closes all idle models of a device that ran out of memory. mu is held.
func (p *Pool) evictIdle(device string) {
	for e := range p.all {
		if e.device == device && p.evictable(e) {
			p.close(e, "oom")
		}
	}
}

func leastRecent(a, b *entry) int { return a.lastUsed.Compare(b.lastUsed) }

// fewest picks from candidates, the first ones preferred, entries that make room for t when they and those that are closing
// are gone, and no more than needed. It is empty where all of them do not suffice. mu is held.
func (p *Pool) fewest(t *ticket, candidates []*entry) map[*entry]bool {
	picked := map[*entry]bool{}
	gone := func(e *entry) bool { return e.state == closing || picked[e] }
	n := 0
	for ; n < len(candidates) && !p.fits(t, gone); n++ {
		picked[candidates[n]] = true
	}
	if !p.fits(t, gone) {
		return nil
	}
	// An early pick can be in vain: small, or on another device.
	for _, e := range slices.Backward(candidates[:n]) {
		delete(picked, e)
		if !p.fits(t, gone) {
			picked[e] = true
		}
	}
	return picked
}

// reserved is the set of loaded models that newcomers must leave alone, so that t gets room. It is empty while t has waited
// less than Patience. mu is held.
func (p *Pool) reserved(t *ticket) map[*entry]bool {
	since := t.at
	if p.lastReady.After(since) {
		since = p.lastReady
	}
	if time.Since(since) < p.cfg.Patience {
		return nil
	}
	inTheWay := func(e *entry) bool { return e.state == ready && !p.pinned(e.spec) }
	return p.fewest(t, p.sorted(inTheWay, func(a, b *entry) int { return cmp.Compare(min(a.refs, 1), min(b.refs, 1)) }))
}

// sorted lists entries that keep wants, in order, the older before the younger where order does not care. mu is held.
func (p *Pool) sorted(keep func(*entry) bool, order func(a, b *entry) int) []*entry {
	var list []*entry
	for e := range p.all {
		if keep(e) {
			list = append(list, e)
		}
	}
	// Without the number, equal ones would come in any order, and what one call picks the next would not.
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Or(order(a, b), cmp.Compare(a.number, b.number)) })
	return list
}

func (p *Pool) any(match func(*entry) bool) bool {
	for e := range p.all {
		if match(e) {
			return true
		}
	}
	return false
}

var errClosed = &job.Error{
	Class: job.Transient, Code: "POOL_CLOSED", Message: "the worker is shutting down; the job will be taken by another",
}
