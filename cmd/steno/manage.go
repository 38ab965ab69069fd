package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"steno/gpu"
	"steno/job"
	"steno/models"
	"steno/models/files"
	"steno/queue"
)

// manager carries out what operators ask of a node's models. It is safe for concurrent use.
type manager struct {
	pool  *models.Pool
	store *files.Store
	find  func(model string) (name, reason string, err error)
	log   *slog.Logger
	ctx   context.Context // of what it does in the background
	stop  context.CancelFunc
	tasks sync.WaitGroup

	mu       sync.Mutex
	loading  map[models.Spec]bool
	troubles []trouble // the last ones, oldest first
}

// trouble is an order that was begun and did not end well.
type trouble struct {
	Do     string      `json:"do"`
	Model  string      `json:"model"`
	Device string      `json:"device,omitempty"`
	Class  job.Class   `json:"class"`
	Code   string      `json:"code"`
	Text   string      `json:"message"`
	At     time.Time   `json:"at"`
	spec   models.Spec // what it was about
}

const (
	maxTroubles = 5
	// maxOrderedLoads bounds the loads that wait for room, and loadPatience how long one does: from a slow disk one takes minutes.
	maxOrderedLoads = 8
	loadPatience    = 15 * time.Minute
)

// manage makes a manager. The caller must close it before the pool.
func (m *machine) manage(log *slog.Logger) *manager {
	g := &manager{pool: m.pool, store: m.store, find: m.resolve, log: log, loading: map[models.Spec]bool{}}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g
}

// close ends what it does in the background.
func (g *manager) close() {
	g.stop()
	g.tasks.Wait()
}

// order is queue.WorkerConfig.Manage. It begins a load or an unload, which go on after it has returned.
func (g *manager) order(_ context.Context, o queue.Order) error {
	s, err := g.spec(o)
	if err != nil {
		return err
	}
	switch o.Do {
	case queue.OrderLoad:
		return g.load(s)
	case queue.OrderPin:
		return g.pool.Pin(s)
	case queue.OrderUnpin:
		return g.unpin(s)
	case queue.OrderUnload:
		return g.unload(s)
	}
	return job.Errorf(job.Input, "BAD_ORDER", "%q is nothing that this node knows to do: it is older than who asks", o.Do)
}

// spec is what an order is about. What is loaded can be told to go also where its file is gone.
func (g *manager) spec(o queue.Order) (models.Spec, error) {
	s := models.Spec{Model: o.Model, Device: o.Device, Words: o.Words}
	report := g.pool.Report()
	known := func(d models.DeviceReport) bool { return d.ID == o.Device }
	if o.Device != "" && o.Device != models.Auto && !slices.ContainsFunc(report.Devices, known) {
		return s, job.Errorf(job.Input, "NO_DEVICE", "this node has no device %s: name one of those that it tells of", o.Device)
	}
	if slices.ContainsFunc(report.Models, func(m models.ModelReport) bool { return m.Model == o.Model }) {
		return s, nil
	}
	name, _, err := g.find(o.Model)
	if err != nil {
		// The error's own message names folders of this machine.
		return s, &job.Error{
			Class: job.Input, Code: job.AsError(err).Code, Err: err,
			Message: fmt.Sprintf("the model %s is not on this node: let `steno models pull %s` be run there", o.Model, o.Model),
		}
	}
	if e, err := g.store.Entry(name); err == nil && !e.Transcribes() {
		return s, job.Errorf(job.Input, "BAD_PARAMETER", "%s finds speech and writes none: name a Whisper model", name)
	}
	s.Model = name
	return s, nil
}

// load begins to load a model, unless it is at it.
func (g *manager) load(s models.Spec) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.loading[s] {
		return nil
	}
	if len(g.loading) >= maxOrderedLoads {
		return job.Errorf(job.Input, "TOO_MANY_LOADS", "%d models are to be loaded already: wait for them", len(g.loading))
	}
	g.loading[s] = true
	g.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(g.ctx, loadPatience)
		defer cancel()
		err := g.pool.Preload(ctx, s)
		g.mu.Lock()
		delete(g.loading, s)
		g.mu.Unlock()
		g.ended(queue.OrderLoad, s, err)
	})
	return nil
}

// unload takes the pins of a model back and begins to unload it.
func (g *manager) unload(s models.Spec) error {
	for _, m := range g.pool.Report().Models {
		if m.Model == s.Model {
			if err := g.unpin(m.Spec); err != nil {
				return err
			}
		}
	}
	if err := g.unpin(s); err != nil {
		return err
	}
	g.tasks.Go(func() { g.ended(queue.OrderUnload, s, g.pool.Unload(g.ctx, s.Model)) })
	return nil
}

// unpin takes the pin of a model back, on its device and on any.
func (g *manager) unpin(s models.Spec) error {
	if err := g.pool.Unpin(s); err != nil {
		return err
	}
	s.Device = models.Auto
	return g.pool.Unpin(s)
}

// ended notes how an order has ended: what the node tells of itself shows the last that went wrong, until it goes well.
func (g *manager) ended(do string, s models.Spec, err error) {
	if g.ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.troubles = slices.DeleteFunc(g.troubles, func(t trouble) bool { return t.Do == do && t.spec == s })
	if err == nil {
		g.log.Info("order carried out", "do", do, "model", s)
		return
	}
	g.log.Error("order not carried out", "do", do, "model", s, "error", err)
	e := job.AsError(err)
	text := e.Message
	if e.Class == job.Internal {
		text = "this is a fault of ours: read the node's log"
	}
	g.troubles = append(g.troubles, trouble{
		Do: do, Model: s.Model, Device: s.Device, Class: e.Class, Code: e.Code, Text: text, At: time.Now().UTC(), spec: s,
	})
	g.troubles = g.troubles[max(0, len(g.troubles)-maxTroubles):]
}

// tell is what a node tells of itself with a manager.
func (g *manager) tell(cards *gpu.Monitor) about {
	d := describe(g.pool, cards)
	g.mu.Lock()
	d.Troubles = slices.Clone(g.troubles)
	g.mu.Unlock()
	all, err := g.store.List()
	if err != nil {
		g.log.Warn("list the models for those who manage this node", "error", err)
	}
	for _, s := range all {
		if s.Present && s.Transcribes() {
			d.Files = append(d.Files, s.Name)
		}
	}
	return d
}
