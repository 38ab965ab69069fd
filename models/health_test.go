package models

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"steno/job"
)

func TestHealthSeesWhatHangs(t *testing.T) {
	t.Run("a close", func(t *testing.T) {
		s := newScript()
		s.closeTime = 30 * time.Second
		in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
			mustAcquire(t, p, specA).Release()
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			if err := p.UnloadAll(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v", err)
			}
			wantCode(t, p.Health(t.Context()), job.Internal, "POOL_STUCK")
			time.Sleep(20 * time.Second)
			if err := p.Health(t.Context()); err != nil {
				t.Errorf("after the close: %v", err)
			}
		})
	})
	t.Run("a load that ignores its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript()
			p := newPool(t, PoolConfig{LoadTimeout: time.Minute}, s)
			p.loader = deaf{s, 10 * time.Minute}
			r := try(t.Context(), p, specA)
			time.Sleep(2 * time.Minute)
			wantCode(t, p.Health(t.Context()), job.Internal, "POOL_STUCK")
			time.Sleep(9 * time.Minute)
			synctest.Wait()
			if !r.done.Load() {
				t.Fatal("the request still waits")
			}
			shut(t, p, s)
		})
	})
	t.Run("a request that could be served", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
			wantHealthy(t, p)
			lost := &ticket{spec: Spec{Model: "a", Device: "cpu"}, device: "cpu", need: mib, at: time.Now(), done: make(chan struct{})}
			p.mu.Lock()
			p.queue = append(p.queue, lost)
			p.mu.Unlock()
			wantCode(t, p.Health(t.Context()), job.Internal, "POOL_STUCK")
			<-lost.done
			lost.lease.Release()
		})
	})
}

// deaf loads without looking at its context.
type deaf struct {
	*script
	time.Duration
}

func (d deaf) Load(_ context.Context, s Spec) (Engine, error) {
	time.Sleep(d.Duration)
	return d.script.Load(context.Background(), s)
}

func wantHealthy(t *testing.T, p *Pool) {
	t.Helper()
	if err := p.Health(t.Context()); err != nil {
		t.Errorf("a sound pool: %v", err)
	}
}

// wantStuck wants a fault that has all of the words in it.
func wantStuck(t *testing.T, p *Pool, words ...string) {
	t.Helper()
	err := p.Health(t.Context())
	wantCode(t, err, job.Internal, "POOL_STUCK")
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

// TestHealthSeesWhatWaitsInVain: a job holds the only room and does nothing with it, so what another job waits for does not come.
func TestHealthSeesWhatWaitsInVain(t *testing.T) {
	t.Run("a drain", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{MaxModels: 1}, s, func(t *testing.T, p *Pool) {
			idle := mustAcquire(t, p, specA, "idle")
			waiting := try(t.Context(), p, specB)
			time.Sleep(5 * time.Minute)
			wantHealthy(t, p) // busy so far
			time.Sleep(time.Second)
			wantStuck(t, p, "model b on cpu", "waits since 5m1s", "lent: a on cpu")
			if _, err := idle.Transcribe(t.Context(), "idle", Request{PCM: make([]int16, 1)}, nil); err != nil {
				t.Fatal(err)
			}
			wantHealthy(t, p) // b waits still, but something has moved
			idle.Release()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if !waiting.done.Load() || waiting.err != nil {
				t.Fatalf("got %+v", waiting)
			}
			waiting.lease.Release()
			time.Sleep(time.Hour) // nobody waits
			wantHealthy(t, p)
		})
	})
	t.Run("a decode slot", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{Slots: 1, Burst: -1}, s, func(t *testing.T, p *Pool) {
			l := mustAcquire(t, p, specA, "job")
			defer l.Release()
			ctx, cancel := context.WithCancel(t.Context())
			decode := func() {
				_, err := l.Transcribe(ctx, "job", Request{PCM: make([]int16, 3_600_000)}, nil) // an hour
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			}
			go decode()
			synctest.Wait()
			go decode() // waits for the first one's slot
			synctest.Wait()
			for range 20 { // ten minutes of a slow decode
				time.Sleep(30 * time.Second)
				s.engines[0].step()
				wantHealthy(t, p)
			}
			// Some who give up their wait are no movement.
			for range 10 {
				time.Sleep(30 * time.Second)
				short, stop := context.WithTimeout(t.Context(), time.Second)
				if _, err := l.Transcribe(short, "job", Request{PCM: make([]int16, 1)}, nil); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				stop()
			}
			wantStuck(t, p, "a decode slot of cpu", "nothing has moved for 5m10s", "lent: a on cpu")
			cancel()
			synctest.Wait()
			wantHealthy(t, p)
		})
	})
	t.Run("on another device", func(t *testing.T) {
		s := newScript()
		onGPU := Spec{Model: "a", Device: "cuda:0"}
		in(t, PoolConfig{Limits: map[string]Limits{"cuda:0": {Slots: 1}}, Burst: -1}, s, func(t *testing.T, p *Pool) {
			gpu, cpu := mustAcquire(t, p, onGPU, "one"), mustAcquire(t, p, specB, "two")
			defer gpu.Release()
			defer cpu.Release()
			ctx, cancel := context.WithCancel(t.Context())
			for range 2 {
				go func() { _, _ = gpu.Transcribe(ctx, "one", Request{PCM: make([]int16, 3_600_000)}, nil) }()
			}
			for range 20 {
				if _, err := cpu.Transcribe(t.Context(), "two", Request{PCM: make([]int16, 20_000)}, nil); err != nil {
					t.Fatal(err)
				}
			}
			wantStuck(t, p, "a decode slot of cuda:0")
			cancel()
			synctest.Wait()
		})
	})
	t.Run("a slot that is free", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
			g := p.gates["cpu"]
			lost := &gateTicket{at: time.Now(), want: 1, granted: make(chan struct{})}
			g.mu.Lock()
			g.queue = append(g.queue, lost)
			g.mu.Unlock()
			wantStuck(t, p, "a decode slot of cpu could be given but was not")
			<-lost.granted
			g.release(lost)
			wantHealthy(t, p)
		})
	})
}

// TestHealthSeesWhatBlocksThePool: the pool logs under its mutex, and whoever reads the log has stopped. Health must answer all
// the same, each time, and leave no more than one look behind. The clock is the real one: a bubble's stands still while somebody
// waits for a mutex.
func TestHealthSeesWhatBlocksThePool(t *testing.T) {
	full := &pipe{taken: make(chan struct{}), free: make(chan struct{})}
	s := newScript()
	s.loadTime, s.closeTime = 0, 0
	p := newPool(t, PoolConfig{AnswerTimeout: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(full, nil))}, s)
	mustAcquire(t, p, specA).Release()
	wantHealthy(t, p)
	full.stop.Store(true)
	unloaded := make(chan error, 1)
	go func() { unloaded <- p.UnloadAll(context.Background()) }()
	<-full.taken
	began := time.Now()
	wantStuck(t, p, "has had no answer for")
	first := p.last
	for range 100 {
		wantStuck(t, p)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("101 answers of a pool that is stuck took %s", took)
	}
	if p.last != first {
		t.Error("each call waits for the pool with a goroutine of its own")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.cfg.AnswerTimeout = time.Hour
	if err := p.Health(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("who asks is gone: %v", err)
	}
	if q := p.Quarantined(); len(q) != 0 {
		t.Errorf("in quarantine are %v", q)
	}
	close(full.free)
	if err := <-unloaded; err != nil {
		t.Error(err)
	}
	wantHealthy(t, p)
	shut(t, p, s)
	wantCode(t, p.Health(t.Context()), job.Transient, "POOL_CLOSED")
}

// pipe takes all that is written, until it is full.
type pipe struct {
	stop        atomic.Bool
	taken, free chan struct{}
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.stop.CompareAndSwap(true, false) {
		close(p.taken)
		<-p.free
	}
	return len(b), nil
}

// TestHealthLoadsNothing: it is asked every few seconds, of idle nodes too.
func TestHealthLoadsNothing(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{IdleTimeout: time.Minute}, s, func(t *testing.T, p *Pool) {
		mustAcquire(t, p, specA).Release()
		for range 1000 {
			time.Sleep(5 * time.Second)
			wantHealthy(t, p)
		}
		wantLoads(t, s, "a")
		if in := inMemory(p); in != "" {
			t.Errorf("in memory is %s", in)
		}
	})
}
