package models

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"steno/gpu"
	"steno/job"
	"steno/transcript"
)

func inMemory(p *Pool) string {
	var names []string
	for _, m := range p.Report().Models {
		names = append(names, m.Model)
	}
	return strings.Join(names, " ")
}

func TestIdleModelsGo(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 3, IdleTimeout: time.Minute}, s, func(t *testing.T, p *Pool) {
		if err := p.Pin(specC); err != nil {
			t.Fatal(err)
		}
		held := mustAcquire(t, p, specA)
		mustAcquire(t, p, specB).Release()
		mustAcquire(t, p, specC).Release()
		time.Sleep(50 * time.Second)
		mustAcquire(t, p, specB).Release() // its idle time runs anew
		time.Sleep(30 * time.Second)
		if got := inMemory(p); got != "a b c" {
			t.Fatalf("in memory are %s", got)
		}
		time.Sleep(time.Minute)
		if got := inMemory(p); got != "a c" {
			t.Fatalf("after the idle time in memory are %s, want a that is lent and c that is pinned", got)
		}
		held.Release()
		if err := p.Unpin(specC); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if got := inMemory(p); got != "" {
			t.Errorf("in the end in memory are %s", got)
		}
	})
}

func TestIdleTimeoutCanBeOff(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{IdleTimeout: -1}, s, func(t *testing.T, p *Pool) {
		mustAcquire(t, p, specA).Release()
		time.Sleep(1000 * time.Hour)
		if got := inMemory(p); got != "a" {
			t.Errorf("in memory are %q", got)
		}
	})
}

func TestPreloadedModelThatNobodyUsesIsIdle(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{IdleTimeout: time.Minute}, s, func(t *testing.T, p *Pool) {
		if err := p.Preload(t.Context(), specA); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if got := inMemory(p); got != "" {
			t.Errorf("in memory are %q", got)
		}
		if err := p.Preload(t.Context(), Spec{Model: "unknown"}); err == nil {
			t.Error("preload of an unknown model: want an error")
		}
	})
}

func TestUnloadWaitsForThoseWhoHoldTheModel(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 1}, s, func(t *testing.T, p *Pool) {
		held := mustAcquire(t, p, specA, "job")
		unloaded := errors.New("not yet")
		go func() { unloaded = p.Unload(t.Context(), "a") }()
		synctest.Wait()
		newcomer := try(WithFlow(t.Context(), "newcomer"), p, specA)
		chunk := mustAcquire(t, p, specA, "job") // within the job that holds it
		chunk.Release()
		time.Sleep(time.Minute)
		synctest.Wait()
		if unloaded == nil || newcomer.done.Load() {
			t.Fatal("a model that is lent was unloaded, or lent to a newcomer")
		}
		held.Release()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if unloaded != nil || newcomer.err != nil || !newcomer.lease.Cold() {
			t.Fatalf("unload: %v; newcomer: %+v", unloaded, newcomer)
		}
		newcomer.lease.Release()
		wantLoads(t, s, "a", "a")
	})
}

func TestUnloadAllTakesPinnedModelsToo(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
		mustAcquire(t, p, specA).Release()
		mustAcquire(t, p, specB).Release()
		if err := errors.Join(p.Pin(specA), p.UnloadAll(t.Context())); err != nil {
			t.Fatal(err)
		}
		if got := inMemory(p); got != "" {
			t.Errorf("in memory are %q", got)
		}
	})
}

func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		p := newPool(t, PoolConfig{MaxModels: 2}, s)
		held := mustAcquire(t, p, specA)
		loading, waiting := try(t.Context(), p, specB), try(t.Context(), p, specC)
		go func() {
			time.Sleep(10 * time.Second)
			held.Release()
		}()
		start := time.Now()
		shut(t, p, s)
		if took := time.Since(start); took != 10*time.Second+s.closeTime {
			t.Errorf("close took %s", took)
		}
		synctest.Wait()
		wantCode(t, loading.err, job.Transient, "POOL_CLOSED")
		wantCode(t, waiting.err, job.Transient, "POOL_CLOSED")
		_, err := p.Acquire(t.Context(), specA)
		wantCode(t, err, job.Transient, "POOL_CLOSED")
	})
}

func TestCloseCutsLeasesOffWhenItsTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		p := newPool(t, PoolConfig{}, s)
		l := mustAcquire(t, p, specA)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "leases were cut off") {
			t.Errorf("got %v", err)
		}
		l.Release() // late, and harmless
		if s.count != 0 {
			t.Errorf("%d models remain", s.count)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.closeTime = time.Minute
		p := newPool(t, PoolConfig{}, s)
		mustAcquire(t, p, specA).Release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Close(ctx); err == nil || !strings.Contains(err.Error(), "not closed within 10s") {
			t.Errorf("got %v", err)
		}
		time.Sleep(time.Minute)
	})
}

func TestTranscribe(t *testing.T) {
	s := newScript()
	s.states = 2
	in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
		l := mustAcquire(t, p, specA)
		var emitted []transcript.Segment
		res, err := l.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 10), Threads: 9},
			func(segments []transcript.Segment) { emitted = append(emitted, segments...) })
		if err != nil || len(res.Segments) != 1 || len(emitted) != 1 {
			t.Errorf("got %+v and emitted %v, %v", res, emitted, err)
		}
		for range 8 {
			go func() { _, _ = l.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 1000), Threads: 4}, nil) }()
			synctest.Wait()
		}
		l.Release() // while decodes run: they keep the model
		if err := p.UnloadAll(t.Context()); err != nil {
			t.Error(err)
		}
		e := s.engines[0]
		if e.most != 2 {
			t.Errorf("%d decodes ran at once on an engine with 2 states", e.most)
		}
		if e.threads[0] != 4 || e.threads[1] != 4 || e.threads[2] != 1 {
			t.Errorf("threads were %v, want all 4 for who is alone, and 1 for the rest", e.threads)
		}
		if _, err := l.Transcribe(t.Context(), "job", Request{}, nil); err == nil {
			t.Error("transcribe on a released lease: want an error")
		}
	})
}

func TestTranscribeOnAGPUWantsOneThread(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{Device: "cuda:0"}, s, func(t *testing.T, p *Pool) {
		l := mustAcquire(t, p, specA)
		if _, err := l.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 10), Threads: 9}, nil); err != nil {
			t.Error(err)
		}
		l.Release()
		if got := s.engines[0].threads; len(got) != 1 || got[0] != 1 {
			t.Errorf("threads were %v", got)
		}
	})
}

func TestTranscribeGivesUpWaitingWithItsContext(t *testing.T) {
	for _, states := range []int{1, 99} {
		s := newScript()
		s.states = states
		in(t, PoolConfig{Slots: 1, Burst: -1}, s, func(t *testing.T, p *Pool) {
			l := mustAcquire(t, p, specA)
			go func() { _, _ = l.Transcribe(t.Context(), "long", Request{PCM: make([]int16, 10_000)}, nil) }()
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := l.Transcribe(ctx, "short", Request{PCM: make([]int16, 1)}, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			l.Release()
		})
	}
}

func TestReport(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 2, MaxBytes: 300 * mib}, s, func(t *testing.T, p *Pool) {
		if err := p.Pin(specA); err != nil {
			t.Fatal(err)
		}
		a := mustAcquire(t, p, specA)
		go func() { _, _ = a.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 10_000)}, nil) }()
		b := mustAcquire(t, p, specB)
		time.Sleep(time.Second)
		c := try(t.Context(), p, specC)
		time.Sleep(2 * time.Second)
		r := p.Report()
		if len(r.Models) != 2 || len(r.Devices) != 2 || r.Waiting != 1 || r.OldestWait != 2 || r.Memory.RSS != mib {
			t.Fatalf("got %+v", r)
		}
		m := r.Models[0]
		if m.Model != "a" || m.State != "ready" || m.LoadedOn != "cpu" || m.Refs != 2 || m.Bytes != 100*mib || !m.Pinned ||
			m.Loads != 1 || m.PID != 7 || m.RSS != 8*mib || !m.LastUsed.Equal(time.Now()) {
			t.Errorf("model a: %+v", m)
		}
		d := r.Devices[0]
		if d.ID != "cpu" || d.UsedBytes != 1000*mib || d.ModelBytes != 200*mib || d.BudgetBytes != 300*mib || d.Slots != 4 ||
			d.SlotsInUse != 1 {
			t.Errorf("CPU: %+v", d)
		}
		if d := r.Devices[1]; d.BudgetBytes != 800*mib || d.Slots != 2 {
			t.Errorf("GPU: %+v", d)
		}
		if text, err := json.Marshal(r); err != nil || !strings.Contains(string(text), `"rss_bytes":8388608`) {
			t.Errorf("JSON: %s, %v", text, err)
		}
		b.Release()
		a.Release()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		c.lease.Release()
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript().then("c", errNoMemory, errNoMemory)
		reg := prometheus.NewRegistry()
		m := NewMetrics(reg)
		p, err := NewPool(PoolConfig{MaxModels: 1, Inventory: machine{}}, s, m)
		if err != nil {
			t.Fatal(err)
		}
		mustAcquire(t, p, specA).Release()
		l := mustAcquire(t, p, specB)
		if _, err := l.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 10)}, nil); err != nil {
			t.Error(err)
		}
		go func() { _, _ = l.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 1000)}, nil) }()
		synctest.Wait()
		for name, want := range map[string][2]float64{
			"loaded":    {testutil.ToFloat64(m.loaded), 1},
			"leases":    {testutil.ToFloat64(m.leases), 2},
			"bytes":     {testutil.ToFloat64(m.bytes.WithLabelValues("cpu")), float64(100 * mib)},
			"budget":    {testutil.ToFloat64(m.budget.WithLabelValues("cpu")), float64(600 * mib)},
			"loads":     {testutil.ToFloat64(m.loads.WithLabelValues("b", "ok")), 1},
			"evictions": {testutil.ToFloat64(m.evictions.WithLabelValues("room")), 1},
			"slots":     {testutil.ToFloat64(m.slots.WithLabelValues("cpu")), 4},
			"in use":    {testutil.ToFloat64(m.slotsInUse.WithLabelValues("cpu")), 1},
			"waiting":   {testutil.ToFloat64(m.slotsWaiting.WithLabelValues("cpu")), 0},
		} {
			if want[0] != want[1] {
				t.Errorf("%s is %g, want %g", name, want[0], want[1])
			}
		}
		l.Release()
		time.Sleep(2 * time.Second)
		mustAcquire(t, p, specB).Release()
		s.engines[1].die(errCrash)
		synctest.Wait()
		if _, err := p.Acquire(t.Context(), specC); err == nil {
			t.Error("want an error")
		}
		if got := testutil.ToFloat64(m.deaths.WithLabelValues("b")); got != 1 {
			t.Errorf("deaths are %g", got)
		}
		if got := testutil.ToFloat64(m.loads.WithLabelValues("c", "oom")); got != 2 {
			t.Errorf("loads out of memory are %g", got)
		}
		if got := testutil.CollectAndCount(m.waitSeconds); got != 3 {
			t.Errorf("there are %d kinds of waits, want warm, cold and failed", got)
		}
		shut(t, p, s)
		m.fallbacks.WithLabelValues("cuda:0").Inc() // so that the linter sees every family
		problems, err := testutil.GatherAndLint(reg)
		if err != nil || len(problems) != 0 {
			t.Errorf("lint: %v, %v", problems, err)
		}
		if n, err := testutil.GatherAndCount(reg); err != nil || n < 15 {
			t.Errorf("%d series, %v", n, err)
		}
	})
}

func TestPoolConfig(t *testing.T) {
	tests := []struct {
		name string
		cfg  PoolConfig
		want string // part of the error; empty for none
	}{
		{"zero", PoolConfig{}, ""},
		{"short wait shortens the load", PoolConfig{AcquireTimeout: time.Second}, ""},
		{"GPU", PoolConfig{Device: "cuda:0", Limits: map[string]Limits{"cuda:0": {Bytes: 1}}}, ""},
		{"models", PoolConfig{MaxModels: -1}, "MaxModels is -1"},
		{"bytes", PoolConfig{MaxBytes: -1}, "MaxBytes is -1"},
		{"slots", PoolConfig{Slots: -1}, "Slots is -1"},
		{"time-out", PoolConfig{CloseTimeout: -1}, "must not be negative"},
		{"bound of health", PoolConfig{StallTimeout: -1}, "StallTimeout -1ns"},
		{"load outlasts the wait", PoolConfig{AcquireTimeout: time.Second, LoadTimeout: time.Minute}, "longer than AcquireTimeout"},
		{"breaker", PoolConfig{BreakerDeaths: -1}, "BreakerDeaths -1"},
		{"limits", PoolConfig{Limits: map[string]Limits{"cuda:0": {Slots: -1}}}, "negative"},
		{"limits of the CPU", PoolConfig{Limits: map[string]Limits{"cpu": {}}}, "MaxBytes and Slots"},
		{"limits of nothing", PoolConfig{Limits: map[string]Limits{"cuda:9": {}}}, "cuda:9, which is not on this machine"},
		{"device", PoolConfig{Device: "cuda:9"}, "device cuda:9 is not on this machine"},
		{"device of a model", PoolConfig{ModelDevice: map[string]string{"a": "cuda:9"}}, "chosen for model a"},
		{"memory unknown", PoolConfig{Inventory: blind{}}, "memory of device cpu is unknown"},
		{"memory unknown but set", PoolConfig{Inventory: blind{}, MaxBytes: 1}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cfg.Inventory == nil {
				tt.cfg.Inventory = machine{}
			}
			_, err := NewPool(tt.cfg, newScript(), nil)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// blind is an Inventory that cannot read the machine's memory.
type blind struct{ machine }

func (blind) Devices() []gpu.Device { return []gpu.Device{{ID: gpu.CPUID, Kind: gpu.CPU}} }
