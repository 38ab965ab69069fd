package models

import (
	"cmp"
	"slices"
	"time"

	"steno/gpu"
)

// Auto as a device leaves the choice to the pool, for each request anew: a GPU that can be used, or the CPU where there is none.
// A model may be on several devices then, and the chunks of one job too.
const Auto = "auto"

// choices lists the devices that a request may be placed on which leaves that to the pool: in the inventory's order, the GPUs
// that have no problem now, else the CPU. It reads the inventory, so call it without the mutex.
func (p *Pool) choices() []string {
	var cards []string
	for _, d := range p.cfg.Inventory.Devices() {
		if _, known := p.limits[d.ID]; known && d.Kind != gpu.CPU && d.Problem == "" {
			cards = append(cards, d.ID)
		}
	}
	if len(cards) == 0 {
		return []string{gpu.CPUID}
	}
	return cards
}

// offer is what a device offers to a request.
type offer struct {
	device string
	rank   rank
	load   float64   // leases and requests that wait, for each decode slot
	free   int64     // bytes
	idle   time.Time // of the model that would give way first, when it was last used
}

// rank orders offers, the best first.
type rank int

const (
	warm     rank = iota // the model is there, or on its way, and slots are free
	empty                // there is room for it, and slots are free
	busy                 // the model is there, and others have the slots
	evicting             // idle models would give way
	full                 // it would have to wait for those that use the device
	resting              // its engines died there too often
)

// place chooses a device for t among t.choices, those that it has tried left out: where the model is and slots are free; else
// where there is room for it; else where it is, though busy; else where the longest unused models give way; else where the fewest
// wait.
//
// A second copy of a model is loaded only while nobody waits for room: the load would wait for them, and the caller, who may hold
// what they wait for, with it. mu is held.
func (p *Pool) place(t *ticket) {
	var best *offer
	for _, id := range t.choices {
		if t.tried[id] {
			continue
		}
		s := p.offer(t, id)
		if best == nil || s.before(*best) {
			best = &s
		}
	}
	if best != nil {
		t.spec.Device, t.device = best.device, best.device
	}
}

func (s offer) before(o offer) bool {
	return cmp.Or(cmp.Compare(s.rank, o.rank), cmp.Compare(s.load, o.load), s.idle.Compare(o.idle), cmp.Compare(o.free, s.free)) < 0
}

// offer looks at what a device has for t. mu is held.
func (p *Pool) offer(t *ticket, id string) offer {
	users, waiting := 0, false
	for e := range p.all {
		if e.device == id {
			users += e.refs
		}
	}
	for _, q := range p.queue {
		if q.device == id {
			users++
		}
		waiting = waiting || p.entries[q.spec] == nil && !q.nothing
	}
	asked := *t
	asked.spec.Device, asked.device = id, id
	e, copies := p.entries[asked.spec], false
	for _, other := range t.choices {
		spec := t.spec
		spec.Device = other
		copies = copies || p.entries[spec] != nil
	}
	staying := func(*entry) bool { return false }
	s := offer{
		device: id, rank: full, load: float64(users) / float64(p.limits[id].Slots), free: p.limits[id].Bytes - p.taken(id, staying),
	}
	switch {
	case p.quarantined(t.spec.Model, id) != nil:
		s.rank = resting
	case e != nil && !e.retire && s.load < 1:
		s.rank = warm
	case e != nil && !e.retire:
		s.rank = busy
	case p.fits(&asked, staying) && s.load < 1 && (!copies || !waiting):
		s.rank = empty
	case p.fits(&asked, func(e *entry) bool { return e.state == closing || p.evictable(e) }):
		s.rank = evicting
		for e := range p.fewest(&asked, p.sorted(p.evictable, leastRecent)) {
			if s.idle.IsZero() || e.lastUsed.Before(s.idle) {
				s.idle = e.lastUsed
			}
		}
	}
	return s
}

// elsewhere places a request anew whose device failed it, and tells whether there was another one to try. mu is held.
func (p *Pool) elsewhere(t *ticket) bool {
	if t.tried == nil {
		t.tried = map[string]bool{}
	}
	t.tried[t.device] = true
	if !slices.ContainsFunc(t.choices, func(id string) bool { return !t.tried[id] }) {
		return false
	}
	from := t.device
	p.place(t)
	t.oom, t.evicted, p.changed = false, false, true
	p.cfg.Log.Warn("model is loaded elsewhere", "model", t.spec.Model, "device", t.device, "failed_on", from)
	return true
}
