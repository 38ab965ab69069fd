package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"steno/gpu"
	"steno/job"
	"steno/models"
	"steno/models/files"
	"steno/queue"
	"steno/transcript"
)

// shelf makes engines of nothing, each when the test lets it, or fails as it is told.
type shelf struct {
	mu    sync.Mutex
	gate  chan struct{} // closed where loads may end
	fails error
}

func (*shelf) Estimate(models.Spec) (int64, error) { return 1 << 20, nil }

func (s *shelf) Load(ctx context.Context, spec models.Spec) (models.Engine, error) {
	s.mu.Lock()
	gate, fails := s.gate, s.fails
	s.mu.Unlock()
	select {
	case <-gate:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if fails != nil {
		return nil, fails
	}
	return &book{spec: spec, done: make(chan struct{})}, nil
}

type book struct {
	spec models.Spec
	once sync.Once
	done chan struct{}
}

func (b *book) Info() models.Info {
	return models.Info{Model: b.spec.Model, Device: b.spec.Device, States: 2, Bytes: 1 << 20}
}

func (*book) Transcribe(context.Context, models.Request, func([]transcript.Segment)) (models.Result, error) {
	return models.Result{}, errors.New("not here")
}
func (b *book) Done() <-chan struct{} { return b.done }
func (*book) Err() error              { return nil }
func (b *book) Close() error {
	b.once.Do(func() { close(b.done) })
	return nil
}

// managed is a manager of a pool of such models, and of the files base and tiny.
func managed(t *testing.T) (*manager, *shelf) {
	t.Helper()
	open := make(chan struct{})
	close(open)
	s := &shelf{gate: open}
	p, err := models.NewPool(models.PoolConfig{MaxModels: 2, MaxBytes: 1 << 30, Device: gpu.CPUID, Inventory: gpu.Host{}}, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	store := files.NewStore(files.Config{Dir: t.TempDir()})
	m := &machine{pool: p, store: store}
	g := m.manage(slog.New(slog.DiscardHandler))
	g.find = func(model string) (string, string, error) {
		if model != "base" && model != "tiny" && model != "other" {
			return "", "", job.Errorf(job.Resource, "MODEL_MISSING", "there is no file /some/folder/%s", model)
		}
		return model + "-q8_0", "", nil
	}
	t.Cleanup(func() {
		g.close()
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return g, s
}

// soon waits until something is so.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to be that %s", what)
		}
	}
}

func order(do, model string) queue.Order { return queue.Order{Do: do, Model: model} }

// states are the models of a node, as it tells of them.
func states(g *manager) map[string]models.ModelReport {
	all := map[string]models.ModelReport{}
	for _, m := range g.tell(nil).Models {
		all[m.Model] = m
	}
	return all
}

func wantOrder(t *testing.T, g *manager, o queue.Order, code string) {
	t.Helper()
	err := g.order(t.Context(), o)
	if got := job.AsError(err); (got == nil) != (code == "") || got != nil && got.Code != code {
		t.Errorf("%+v: %v, want %q", o, err, code)
	}
}

// TestOrders loads, pins, unpins and unloads models by order.
func TestOrders(t *testing.T) {
	t.Parallel()
	g, s := managed(t)
	gate := make(chan struct{})
	s.mu.Lock()
	s.gate = gate
	s.mu.Unlock()
	for range 3 { // is one load
		wantOrder(t, g, order(queue.OrderLoad, "base"), "")
	}
	soon(t, "it is being loaded", func() bool { return states(g)["base-q8_0"].State == "loading" })
	close(gate)
	soon(t, "it is loaded", func() bool { return states(g)["base-q8_0"].State == "ready" })
	wantOrder(t, g, order(queue.OrderPin, "base"), "")
	if m := states(g)["base-q8_0"]; !m.Pinned || m.Loads != 1 {
		t.Errorf("pinned it is %+v", m)
	}
	wantOrder(t, g, order(queue.OrderUnpin, "base-q8_0"), "") // by what it tells of
	if m := states(g)["base-q8_0"]; m.Pinned {
		t.Errorf("it stays pinned: %+v", m)
	}
	wantOrder(t, g, queue.Order{Do: queue.OrderPin, Model: "base", Device: models.Auto}, "")
	wantOrder(t, g, order(queue.OrderUnload, "base-q8_0"), "")
	soon(t, "it is unloaded", func() bool { return len(states(g)) == 0 })
	wantOrder(t, g, order(queue.OrderLoad, "base"), "")
	soon(t, "it is loaded again", func() bool { return states(g)["base-q8_0"].State == "ready" })
	if m := states(g)["base-q8_0"]; m.Pinned {
		t.Error("an unload leaves its pin")
	}
	if d := g.tell(nil); len(d.Troubles) != 0 || len(d.Devices) == 0 || d.Memory.RSS == 0 {
		t.Errorf("the node tells of itself %+v", d)
	}
}

// TestOrdersThatFail: what can be known is refused at once, and what goes wrong later is told of until it goes well.
func TestOrdersThatFail(t *testing.T) {
	t.Parallel()
	g, s := managed(t)
	wantOrder(t, g, order(queue.OrderLoad, "none"), "MODEL_MISSING")
	if err := job.AsError(g.order(t.Context(), order(queue.OrderLoad, "none"))); err.Class != job.Input || err.Message == "" ||
		slices.Contains([]byte(err.Message), '/') {
		t.Errorf("a model that is not here: %+v", err)
	}
	wantOrder(t, g, order("burn", "base"), "BAD_ORDER")
	wantOrder(t, g, queue.Order{Do: queue.OrderLoad, Model: "base", Device: "cuda:9"}, "NO_DEVICE")
	wantOrder(t, g, queue.Order{Do: queue.OrderPin, Model: "base", Device: "cuda:9"}, "NO_DEVICE")
	s.mu.Lock()
	s.fails = &job.Error{Class: job.Resource, Code: "NO_MEMORY", Message: "there is too little memory for it: unload another"}
	s.mu.Unlock()
	wantOrder(t, g, order(queue.OrderLoad, "tiny"), "")
	soon(t, "the trouble is told", func() bool { return len(g.tell(nil).Troubles) == 1 })
	if got := g.tell(nil).Troubles[0]; got.Do != queue.OrderLoad || got.Model != "tiny-q8_0" || got.Code != "NO_MEMORY" || got.At.IsZero() {
		t.Errorf("the trouble is %+v", got)
	}
	s.mu.Lock()
	s.fails = errors.New("/a/folder: a fault")
	s.mu.Unlock()
	wantOrder(t, g, order(queue.OrderLoad, "base"), "")
	soon(t, "both are told", func() bool { return len(g.tell(nil).Troubles) == 2 })
	if got := g.tell(nil).Troubles[1]; slices.Contains([]byte(got.Text), '/') {
		t.Errorf("it tells of what is in the log: %+v", got)
	}
	s.mu.Lock()
	s.fails = nil
	s.mu.Unlock()
	wantOrder(t, g, order(queue.OrderLoad, "tiny"), "")
	soon(t, "it has gone well", func() bool {
		left := g.tell(nil).Troubles
		return len(left) == 1 && left[0].Model == "base-q8_0"
	})
}
