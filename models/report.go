package models

import (
	"cmp"
	"slices"
	"time"

	"steno/gpu"
)

// Report is what a pool holds at one moment.
type Report struct {
	Models  []ModelReport  `json:"models"`
	Devices []DeviceReport `json:"devices"`
	// Memory is of this process alone; each engine process has its own in ModelReport.RSS.
	Memory gpu.Process `json:"memory"`
	// Waiting is the number of requests without a lease; OldestWait the time of the first of them, in seconds.
	Waiting    int     `json:"waiting"`
	OldestWait float64 `json:"oldest_wait_seconds"`
	// Quarantined tells until when a model is not loaded because its engine died too often.
	Quarantined map[string]time.Time `json:"quarantined,omitempty"`
}

// ModelReport is one model that takes room.
type ModelReport struct {
	Spec
	State    string `json:"state"`     // "loading", "ready" or "closing"
	LoadedOn string `json:"loaded_on"` // the device; differs from Spec.Device after a fallback
	Fallback string `json:"fallback,omitempty"`
	Refs     int    `json:"refs"`  // leases
	Bytes    int64  `json:"bytes"` // of the device's memory, predicted while loading
	Pinned   bool   `json:"pinned"`
	Loads    int    `json:"loads"` // since the start
	// LastUsed is when the model was lent last or became idle; zero while it is loading.
	LastUsed time.Time `json:"last_used"`
	PID      int       `json:"pid,omitempty"`
	RSS      int64     `json:"rss_bytes,omitempty"`

	engine Engine // nil while loading
}

// DeviceReport is one device and what models take of it.
type DeviceReport struct {
	gpu.Device
	UsedBytes    int64 `json:"used_bytes"` // by whomever
	ModelBytes   int64 `json:"model_bytes"`
	BudgetBytes  int64 `json:"budget_bytes"`
	Slots        int   `json:"slots"`
	SlotsInUse   int   `json:"slots_in_use"`
	SlotsWaiting int   `json:"slots_waiting"`
}

// Report looks at the pool, at the devices and at the memory of its processes. It takes a few milliseconds, most of them
// without the pool's mutex.
func (p *Pool) Report() Report {
	r, bytes := p.snapshot()
	for i := range r.Models {
		m := &r.Models[i]
		if m.engine == nil {
			continue
		}
		// The process may change under an engine that renews itself; one that ended meanwhile has no memory.
		if m.PID = m.engine.Info().PID; m.PID > 0 {
			if mem, err := p.cfg.Inventory.Process(m.PID); err == nil {
				m.RSS = mem.RSS
			}
		}
	}
	for _, d := range p.cfg.Inventory.Devices() {
		l, ok := p.limits[d.ID]
		if !ok {
			continue // came after the start
		}
		inUse, waiting := p.gates[d.ID].Stats()
		r.Devices = append(r.Devices, DeviceReport{
			Device: d, UsedBytes: d.Used(), ModelBytes: bytes[d.ID], BudgetBytes: l.Bytes,
			Slots: l.Slots, SlotsInUse: inUse, SlotsWaiting: waiting,
		})
	}
	// Where /proc cannot be read the rest of the report is still of use.
	r.Memory, _ = p.cfg.Inventory.Process(0)
	return r
}

// snapshot is the part of the report that the mutex guards, and the bytes of models by device.
func (p *Pool) snapshot() (Report, map[string]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, bytes := Report{Waiting: len(p.queue)}, map[string]int64{}
	if len(p.queue) > 0 {
		r.OldestWait = time.Since(p.queue[0].at).Seconds()
	}
	for e := range p.all {
		m := ModelReport{
			Spec: e.spec, State: string(e.state), LoadedOn: e.device, Fallback: e.fallback, Refs: e.refs, Bytes: e.bytes,
			Pinned: p.pinned(e.spec), Loads: p.loads[e.spec], LastUsed: e.lastUsed, engine: e.engine,
		}
		if e.refs > 0 {
			m.LastUsed = time.Now()
		}
		r.Models = append(r.Models, m)
		bytes[e.device] += e.bytes
	}
	slices.SortFunc(r.Models, func(a, b ModelReport) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Device, b.Device), a.LastUsed.Compare(b.LastUsed))
	})
	r.Quarantined = p.Quarantined()
	return r, bytes
}
