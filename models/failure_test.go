package models

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"steno/gpu"
	"steno/job"
)

var errNoMemory = fmt.Errorf("allocate 1 GiB: %w", ErrOutOfMemory)

func TestOutOfMemoryLadder(t *testing.T) {
	onGPU := Spec{Model: "a", Device: "cuda:0"}
	tests := []struct {
		name     string
		fallback bool
		results  []error
		want     string   // the device that the lease is on; empty for an error
		loads    []string // devices
	}{
		{"evict and retry", false, []error{errNoMemory, nil}, "cuda:0", []string{"cuda:0", "cuda:0"}},
		{"retry once, then give up", false, []error{errNoMemory, errNoMemory}, "", []string{"cuda:0", "cuda:0"}},
		{"then the CPU", true, []error{errNoMemory, errNoMemory, nil}, "cpu", []string{"cuda:0", "cuda:0", "cpu"}},
		{"the CPU gets its retry", true, []error{errNoMemory, errNoMemory, errNoMemory, nil}, "cpu",
			[]string{"cuda:0", "cuda:0", "cpu", "cpu"}},
		{"each step once", true, []error{errNoMemory, errNoMemory, errNoMemory, errNoMemory}, "",
			[]string{"cuda:0", "cuda:0", "cpu", "cpu"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript().then("a", tt.results...)
			in(t, PoolConfig{MaxModels: 4, FallbackCPU: tt.fallback}, s, func(t *testing.T, p *Pool) {
				mustAcquire(t, p, Spec{Model: "idle", Device: "cuda:0"}).Release()
				mustAcquire(t, p, Spec{Model: "elsewhere", Device: "cpu"}).Release()
				s.loads = nil
				l, err := p.Acquire(t.Context(), onGPU)
				var devices []string
				for _, load := range s.loads {
					devices = append(devices, load.Device)
				}
				if strings.Join(devices, " ") != strings.Join(tt.loads, " ") {
					t.Errorf("loads went to %v, want %v", devices, tt.loads)
				}
				for _, m := range p.Report().Models {
					if m.Model == "idle" {
						t.Error("the idle model on the device was not evicted")
					}
				}
				if tt.want == "" {
					wantCode(t, err, job.Resource, "MODEL_OUT_OF_MEMORY")
					if !errors.Is(err, ErrOutOfMemory) {
						t.Errorf("the cause is lost: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if l.Info().Device != tt.want || (l.Fallback() != "") != (tt.want == "cpu") {
					t.Errorf("the lease is on %s, fallback %q; want %s", l.Info().Device, l.Fallback(), tt.want)
				}
				l.Release()
			})
		})
	}
}

func TestOutOfMemoryDuringADecodeEvictsIdleModels(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
		mustAcquire(t, p, specB).Release()
		l := mustAcquire(t, p, specA)
		s.engines[1].next = errNoMemory
		_, err := l.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 10)}, nil)
		wantCode(t, err, job.Resource, "DEVICE_OUT_OF_MEMORY")
		time.Sleep(time.Second)
		if m := p.Report().Models; len(m) != 1 || m[0].Model != "a" {
			t.Errorf("in memory are %+v, want a alone", m)
		}
		l.Release()
	})
}

func TestDeadEngineIsReplaced(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
		l := mustAcquire(t, p, specA, "job")
		go func() {
			time.Sleep(time.Second)
			s.engines[0].die(errCrash)
		}()
		_, err := l.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 5000)}, nil)
		if !errors.Is(err, ErrEngineDied) {
			t.Fatalf("got %v", err)
		}
		fresh := mustAcquire(t, p, specA, "job")
		if !fresh.Cold() || fresh.entry == l.entry {
			t.Error("the dead engine was lent again")
		}
		if _, err := fresh.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 5000)}, nil); err != nil {
			t.Error(err)
		}
		l.Release()
		fresh.Release()
		wantLoads(t, s, "a", "a")
	})
}

// TestEngineThatDiesIsNotLentAgainBeforeItsEndIsSeen: the error of a decode can come before Done is closed, and the caller
// asks for a fresh engine at once.
func TestEngineThatDiesIsNotLentAgainBeforeItsEndIsSeen(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 1}, s, func(t *testing.T, p *Pool) {
		l := mustAcquire(t, p, specA)
		s.engines[0].next = errCrash
		if _, err := l.Transcribe(t.Context(), "job", Request{PCM: make([]int16, 1)}, nil); !errors.Is(err, ErrEngineDied) {
			t.Fatalf("got %v", err)
		}
		l.Release()
		mustAcquire(t, p, specA).Release()
		wantLoads(t, s, "a", "a")
	})
}

func TestIdleEngineThatDiesIsReplaced(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
		mustAcquire(t, p, specA).Release()
		s.engines[0].die(errCrash)
		// Before the watcher has run.
		l := mustAcquire(t, p, specA)
		l.Release()
		if l.entry.engine != s.engines[1] {
			t.Error("the dead engine was lent")
		}
		s.engines[1].die(nil) // served its time
		synctest.Wait()
		if d := p.breaker[placement{"a", gpu.CPUID}]; len(d.at) != 1 {
			t.Errorf("%d deaths are counted, want 1: an end without an error is none", len(d.at))
		}
	})
}

func TestModelThatKeepsDyingIsQuarantined(t *testing.T) {
	s := newScript().then("a", nil, nil, errCrash)
	in(t, PoolConfig{BreakerDeaths: 3}, s, func(t *testing.T, p *Pool) {
		for i := range 2 {
			l := mustAcquire(t, p, specA)
			s.engines[i].die(errCrash)
			l.Release()
			synctest.Wait()
		}
		waiting := try(t.Context(), p, specA) // its load dies, which is the third death
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !waiting.done.Load() || !errors.Is(waiting.err, ErrEngineDied) {
			t.Fatalf("the one who waited for the load: %+v", waiting)
		}
		_, err := p.Acquire(t.Context(), specA)
		wantCode(t, err, job.Resource, "MODEL_QUARANTINED")
		if until, ok := p.Report().Quarantined["a"]; !ok || time.Until(until) <= 0 {
			t.Errorf("the report does not name the quarantine: %v", until)
		}
		if err := p.Health(t.Context()); err != nil {
			t.Errorf("a quarantine is no fault of the pool: %v", err)
		}
		mustAcquire(t, p, specB).Release()
		time.Sleep(time.Minute)
		mustAcquire(t, p, specA).Release()
		if q := p.Report().Quarantined; len(q) != 0 {
			t.Errorf("after it the report still has %v", q)
		}
	})
}

func TestDeathsFarApartAreNoQuarantine(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{BreakerDeaths: 2, Quarantine: time.Hour}, s, func(t *testing.T, p *Pool) {
		for i := range 5 {
			mustAcquire(t, p, specA).Release()
			s.engines[i].die(errCrash)
			time.Sleep(61 * time.Second)
		}
	})
}

// TestALeaseGrantedToOneWhoLeavesComesBack: the grant and the end of the context can meet.
func TestALeaseGrantedToOneWhoLeavesComesBack(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
		granted, _, err := p.request(t.Context(), specA)
		if err != nil {
			t.Fatal(err)
		}
		<-granted.done
		p.leave(granted, context.Canceled)
		if !errors.Is(granted.err, context.Canceled) || granted.lease != nil {
			t.Errorf("got %+v", granted)
		}
		if m := p.Report().Models; len(m) != 1 || m[0].Refs != 0 {
			t.Errorf("in memory are %+v, want a without leases", m)
		}
	})
}
