package models

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"steno/gpu"
	"steno/job"
)

// fleet is an Inventory with a CPU and GPUs whose state a test sets. Each GPU has 1000 MiB, so models may take 800.
type fleet struct {
	machine
	mu    sync.Mutex
	cards []gpu.Device
}

func gpus(n int) *fleet {
	f := &fleet{}
	for i := range n {
		f.cards = append(f.cards, gpu.Device{ID: fmt.Sprintf("cuda:%d", i), Kind: gpu.CUDA, Total: 1000 * mib, Free: 1000 * mib})
	}
	return f
}

func (f *fleet) Devices() []gpu.Device {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(f.machine.Devices()[:1], f.cards...)
}

func (f *fleet) Measure(_ context.Context, id string) (gpu.Device, error) {
	for _, d := range f.Devices() {
		if d.ID == id {
			return d, nil
		}
	}
	return gpu.Device{}, errors.New("no such device")
}

func (f *fleet) set(i int, change func(*gpu.Device)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.cards[i])
}

// auto is a configuration that leaves the choice of n GPUs to the pool.
func auto(f *fleet, models int) PoolConfig {
	return PoolConfig{Inventory: f, Device: Auto, MaxModels: models}
}

// lend acquires for a job, after the loads that it takes.
func lend(t *testing.T, p *Pool, s Spec, flow string) *Lease {
	t.Helper()
	l, err := p.Acquire(WithFlow(t.Context(), flow), s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestOneModelIsSpreadOverAllGPUs: jobs that want the same model get a GPU each, two of them one once all have it.
func TestOneModelIsSpreadOverAllGPUs(t *testing.T) {
	s := newScript()
	in(t, auto(gpus(8), 8), s, func(t *testing.T, p *Pool) {
		users := map[string]int{}
		var all []*Lease
		for i := range 32 {
			l := lend(t, p, specA, fmt.Sprint("job", i))
			users[l.Info().Device]++
			all = append(all, l)
		}
		for i := range 8 {
			if id := fmt.Sprintf("cuda:%d", i); users[id] != 4 {
				t.Errorf("%s has %d of 32 jobs, want 4: %v", id, users[id], users)
			}
		}
		if n := len(s.loaded()); n != 8 {
			t.Errorf("%d loads, want one for each GPU", n)
		}
		for _, l := range all {
			l.Release()
		}
	})
}

// TestOneGPUIsEnoughForOneAtATime: there is no second copy while the first has slots.
func TestOneGPUIsEnoughForOneAtATime(t *testing.T) {
	s := newScript()
	in(t, auto(gpus(8), 8), s, func(t *testing.T, p *Pool) {
		for i := range 10 {
			lend(t, p, specA, fmt.Sprint("job", i)).Release()
		}
		if n := len(s.loaded()); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
	})
}

// TestModelsOfAFleet: eight models get a GPU each, and the ninth takes the place of the one that was not used for the longest time.
// No GPU ever holds more than its budget; newScript and shut see to that.
func TestModelsOfAFleet(t *testing.T) {
	s := newScript()
	s.size = func(Spec) int64 { return 500 * mib }
	in(t, auto(gpus(8), 16), s, func(t *testing.T, p *Pool) {
		at := map[string]string{}
		for i := range 8 {
			l := lend(t, p, Spec{Model: fmt.Sprint("m", i)}, "job")
			if other, taken := at[l.Info().Device]; taken {
				t.Errorf("m%d and %s are both on %s", i, other, l.Info().Device)
			}
			at[l.Info().Device] = fmt.Sprint("m", i)
			l.Release()
			time.Sleep(time.Second)
		}
		lend(t, p, Spec{Model: "m0"}, "job").Release() // m1 is the oldest now
		l := lend(t, p, Spec{Model: "m8"}, "job")
		if gone := at[l.Info().Device]; gone != "m1" {
			t.Errorf("m8 takes the place of %s, want m1", gone)
		}
		l.Release()
		if n := len(s.loaded()); n != 9 {
			t.Errorf("%d loads, want 9: %v", n, s.loaded())
		}
	})
}

// TestDeviceByModel: what an operator has chosen goes before the pool's choice.
func TestDeviceByModel(t *testing.T) {
	s := newScript()
	cfg := auto(gpus(4), 8)
	cfg.ModelDevice = map[string]string{"a": "cuda:2", "b": gpu.CPUID}
	in(t, cfg, s, func(t *testing.T, p *Pool) {
		for spec, want := range map[Spec]string{specA: "cuda:2", specB: gpu.CPUID, {Model: "c", Device: "cuda:3"}: "cuda:3"} {
			for i := range 3 {
				l := lend(t, p, spec, fmt.Sprint("job", i))
				if got := l.Info().Device; got != want {
					t.Errorf("%s is on %s, want %s", spec, got, want)
				}
				defer l.Release()
			}
		}
		if err := p.Pin(specC); err != nil {
			t.Fatal(err)
		}
		lend(t, p, specC, "job").Release()
		r := p.Report()
		i := slices.IndexFunc(r.Models, func(m ModelReport) bool { return m.Model == "c" && m.Device != "cuda:3" })
		if i < 0 || !r.Models[i].Pinned {
			t.Errorf("a model that is pinned wherever it is: %+v", r.Models)
		}
	})
}

// TestLostGPU: a load on a GPU that has fallen off the bus goes elsewhere, and so do all that follow; where none is left it is the CPU.
func TestLostGPU(t *testing.T) {
	s := newScript()
	f := gpus(2)
	in(t, auto(f, 8), s, func(t *testing.T, p *Pool) {
		l := lend(t, p, specA, "first")
		if l.Info().Device != "cuda:0" {
			t.Fatalf("the first is on %s", l.Info().Device)
		}
		// The pool has placed the request when the GPU is lost.
		f.set(1, func(d *gpu.Device) { d.Free = 0 })
		more := lend(t, p, specA, "first")
		r := try(WithFlow(t.Context(), "second"), p, specA)
		time.Sleep(time.Second)
		f.set(1, func(d *gpu.Device) { d.Problem = "the GPU is lost" })
		time.Sleep(time.Second)
		synctest.Wait()
		if !r.done.Load() || r.err != nil || r.lease.Info().Device != "cuda:0" {
			t.Fatalf("after the loss: %+v", r)
		}
		f.set(0, func(d *gpu.Device) { d.Problem = "the GPU is lost" })
		third := lend(t, p, specB, "third")
		if got := third.Info().Device; got != gpu.CPUID {
			t.Errorf("without a GPU the model is on %s", got)
		}
		for _, l := range []*Lease{l, more, r.lease, third} {
			l.Release()
		}
		_, err := p.Acquire(t.Context(), Spec{Model: "c", Device: "cuda:1"})
		wantCode(t, err, job.Transient, "DEVICE_LOST")
		if err == nil || !strings.Contains(err.Error(), "the GPU is lost") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestMemoryComesBack: a load waits for the memory of a process that has ended, and goes elsewhere where others have it.
func TestMemoryComesBack(t *testing.T) {
	s := newScript()
	f := gpus(1)
	in(t, auto(f, 8), s, func(t *testing.T, p *Pool) {
		f.set(0, func(d *gpu.Device) { d.Free = 50 * mib })
		r := try(t.Context(), p, specA)
		time.Sleep(3 * time.Second)
		if len(s.loaded()) != 0 {
			t.Error("it was loaded without memory")
		}
		f.set(0, func(d *gpu.Device) { d.Free = 900 * mib })
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !r.done.Load() || r.err != nil {
			t.Fatalf("once the memory was back: %+v", r)
		}
		r.lease.Release()
	})
	f = gpus(2)
	in(t, auto(f, 8), newScript(), func(t *testing.T, p *Pool) {
		f.set(0, func(d *gpu.Device) { d.Free = 50 * mib })
		began := time.Now()
		l := lend(t, p, specA, "job")
		// Twice, for what is idle there is closed after the first time.
		if got, took := l.Info().Device, time.Since(began); got != "cuda:1" || took < 20*time.Second || took > 23*time.Second {
			t.Errorf("it is on %s after %s, want cuda:1 after two waits of 10 s and a load", got, took)
		}
		l.Release()
		_, err := p.Acquire(t.Context(), Spec{Model: "b", Device: "cuda:0"})
		wantCode(t, err, job.Resource, "MODEL_OUT_OF_MEMORY")
	})
}

// TestModelThatDiesOnOneGPU rests there alone.
func TestModelThatDiesOnOneGPU(t *testing.T) {
	s := newScript()
	in(t, auto(gpus(2), 8), s, func(t *testing.T, p *Pool) {
		first, second := Spec{Model: "a", Device: "cuda:0"}, Spec{Model: "a", Device: "cuda:1"}
		kill := func(s Spec) {
			l := lend(t, p, s, "job")
			l.entry.engine.(*scriptEngine).die(errCrash)
			synctest.Wait()
			l.Release()
		}
		for range 5 {
			kill(first)
		}
		for i := range 3 {
			l := lend(t, p, specA, fmt.Sprint("job", i))
			if got := l.Info().Device; got != "cuda:1" {
				t.Errorf("it is on %s, where it rests", got)
			}
			l.Release()
		}
		_, err := p.Acquire(t.Context(), first)
		wantCode(t, err, job.Resource, "MODEL_QUARANTINED")
		if q := p.Quarantined(); len(q) != 0 {
			t.Errorf("quarantined %v, and it works on the second", q)
		}
		for range 5 {
			kill(second)
		}
		if q := p.Quarantined(); len(q) != 1 {
			t.Errorf("quarantined %v, want the model, for it rests on both", q)
		}
		_, err = p.Acquire(t.Context(), specA)
		wantCode(t, err, job.Resource, "MODEL_QUARANTINED")
	})
}

// TestNoSecondCopyWhileOthersWaitForRoom: the copy would wait for them, and they may wait for its job.
func TestNoSecondCopyWhileOthersWaitForRoom(t *testing.T) {
	s := newScript()
	s.size = func(Spec) int64 { return 500 * mib }
	cfg := auto(gpus(2), 8)
	cfg.ModelDevice = map[string]string{"c": "cuda:0"}
	in(t, cfg, s, func(t *testing.T, p *Pool) {
		held := lend(t, p, specA, "long")
		if held.Info().Device != "cuda:0" {
			t.Fatalf("it is on %s", held.Info().Device)
		}
		waits := try(WithFlow(t.Context(), "other"), p, specC)
		var more []*Lease
		for range 4 { // more than the GPU has slots
			r := try(WithFlow(t.Context(), "long"), p, specA)
			if !r.done.Load() || r.err != nil || r.lease.Info().Device != "cuda:0" {
				t.Fatalf("more of its model: %+v", r)
			}
			more = append(more, r.lease)
		}
		if waits.done.Load() {
			t.Error("there was room for two")
		}
		for _, l := range append(more, held) {
			l.Release()
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !waits.done.Load() || waits.err != nil {
			t.Fatalf("who waited for room: %+v", waits)
		}
		waits.lease.Release()
	})
}
