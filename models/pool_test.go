package models

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"steno/job"
)

var (
	specA = Spec{Model: "a"}
	specB = Spec{Model: "b"}
	specC = Spec{Model: "c"}
)

// in runs f in a bubble with a pool of cfg over s, and closes the pool.
func in(t *testing.T, cfg PoolConfig, s *script, f func(t *testing.T, p *Pool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, cfg, s)
		f(t, p)
		shut(t, p, s)
	})
}

// result is what an Acquire that runs in the background gives.
type result struct {
	lease *Lease
	err   error
	after time.Duration
	done  atomic.Bool // set last
}

// try acquires in the background; read the result after synctest.Wait.
func try(ctx context.Context, p *Pool, s Spec) *result {
	r, start := &result{}, time.Now()
	go func() {
		r.lease, r.err = p.Acquire(ctx, s)
		r.after = time.Since(start)
		r.done.Store(true)
	}()
	synctest.Wait()
	return r
}

func wantCode(t *testing.T, err error, class job.Class, code string) {
	t.Helper()
	var e *job.Error
	if !errors.As(err, &e) || e.Class != class || e.Code != code {
		t.Errorf("got %v, want %s of class %s", err, code, class)
	}
}

func wantLoads(t *testing.T, s *script, want ...string) {
	t.Helper()
	if got := s.loaded(); !slices.Equal(got, want) {
		t.Errorf("loads were %v, want %v", got, want)
	}
}

func TestConcurrentRequestsShareOneLoad(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				l := mustAcquire(t, p, specA)
				if !l.Cold() {
					t.Error("a lease that waited for the load is not cold")
				}
				l.Release()
				l.Release() // does nothing
			})
		}
		wg.Wait()
		warm := mustAcquire(t, p, specA)
		if warm.Cold() || warm.Info().Model != "a" || warm.Info().Device != "cpu" || warm.Fallback() != "" {
			t.Errorf("warm lease: cold %t, %+v, %q", warm.Cold(), warm.Info(), warm.Fallback())
		}
		warm.Release()
		wantLoads(t, s, "a")
	})
}

func TestVariantsAndDevicesAreModelsOfTheirOwn(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 4, ModelDevice: map[string]string{"b": "cuda:0"}}, s, func(t *testing.T, p *Pool) {
		for _, spec := range []Spec{specA, {Model: "a", Words: true}, {Model: "a", Device: "cuda:0"}, {Model: "a", Device: "cpu"}} {
			mustAcquire(t, p, spec).Release()
		}
		wantLoads(t, s, "a", "a", "a")
		l := mustAcquire(t, p, specB)
		if l.Info().Device != "cuda:0" {
			t.Errorf("model b is on %s, want the device chosen for it", l.Info().Device)
		}
		l.Release()
	})
}

func TestOneWhoGivesUpDoesNotFailTheOthers(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
		ctx, cancel := context.WithCancel(t.Context())
		first, second := try(ctx, p, specA), try(t.Context(), p, specA)
		cancel()
		synctest.Wait()
		if !errors.Is(first.err, context.Canceled) || second.done.Load() {
			t.Fatalf("first: %v; second done: %t", first.err, second.done.Load())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if second.err != nil || second.lease == nil || second.after != time.Second {
			t.Fatalf("second: %+v", second)
		}
		second.lease.Release()
		wantLoads(t, s, "a")
	})
}

func TestALoadNobodyWaitsForIsCancelled(t *testing.T) {
	s := newScript()
	s.loadTime = time.Hour
	in(t, PoolConfig{MaxModels: 1, LoadTimeout: 5 * time.Hour, AcquireTimeout: 5 * time.Hour}, s,
		func(t *testing.T, p *Pool) {
			ctx, cancel := context.WithCancelCause(t.Context())
			first := try(ctx, p, specA)
			time.Sleep(time.Minute)
			cancel(errors.New("the user cancelled the job"))
			synctest.Wait()
			if first.err == nil || !strings.Contains(first.err.Error(), "the user cancelled the job") {
				t.Errorf("got %v, want the cause", first.err)
			}
			// The room of the cancelled load comes back, and the next one works.
			second := try(t.Context(), p, specA)
			time.Sleep(time.Hour + time.Second)
			synctest.Wait()
			if second.err != nil || second.after != time.Hour+s.closeTime {
				t.Fatalf("second: %+v", second)
			}
			second.lease.Release()
			wantLoads(t, s, "a", "a")
		})
}

func TestLeastRecentlyUsedIdleModelIsEvicted(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 3}, s, func(t *testing.T, p *Pool) {
		held := mustAcquire(t, p, specA)
		for _, spec := range []Spec{specB, specC, specB} {
			mustAcquire(t, p, spec).Release()
			time.Sleep(time.Second)
		}
		// a is the oldest but lent; c was used before b.
		mustAcquire(t, p, Spec{Model: "d"}).Release()
		mustAcquire(t, p, specB).Release()
		wantLoads(t, s, "a", "b", "c", "d")
		held.Release()
		mustAcquire(t, p, specC).Release()
		wantLoads(t, s, "a", "b", "c", "d", "c")
	})
}

func TestBudgetOfOneModelSwitches(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 2, MaxBytes: 150 * mib}, s, func(t *testing.T, p *Pool) {
		l := mustAcquire(t, p, specA)
		b := try(t.Context(), p, specB)
		time.Sleep(time.Minute)
		synctest.Wait()
		if b.done.Load() {
			t.Fatalf("b was served while a is lent: %+v", b)
		}
		start := time.Now()
		l.Release()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if b.err != nil || !b.lease.Cold() {
			t.Fatalf("b: %+v", b)
		}
		// The load began only when the room of a was free.
		if e := b.lease.entry; e.since.Sub(start) != s.closeTime+s.loadTime {
			t.Errorf("b was loaded %s after the release, want %s", e.since.Sub(start), s.closeTime+s.loadTime)
		}
		b.lease.Release()
		mustAcquire(t, p, specA).Release()
		wantLoads(t, s, "a", "b", "a")
	})
}

func TestEvictionTakesNoMoreThanIsNeeded(t *testing.T) {
	s := newScript()
	s.size = func(spec Spec) int64 {
		return map[string]int64{"small": 50, "large": 700, "gpu": 100, "new": 800}[spec.Model] * mib
	}
	cfg := PoolConfig{MaxModels: 4, MaxBytes: 900 * mib, ModelDevice: map[string]string{"gpu": "cuda:0"}}
	in(t, cfg, s, func(t *testing.T, p *Pool) {
		for _, m := range []string{"gpu", "small", "large", "new"} {
			mustAcquire(t, p, Spec{Model: m}).Release()
			time.Sleep(time.Second)
		}
		var rest []string
		for _, m := range p.Report().Models {
			rest = append(rest, m.Model)
		}
		if want := []string{"gpu", "new", "small"}; !slices.Equal(rest, want) {
			t.Errorf("in memory are %v, want %v", rest, want)
		}
	})
}

func TestLoadsAreFirstComeFirstServed(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 1}, s, func(t *testing.T, p *Pool) {
		l := mustAcquire(t, p, Spec{Model: "held"})
		want := []string{"held"}
		var all []*result
		for i := range 8 {
			m := fmt.Sprint("m", i)
			want = append(want, m)
			all = append(all, try(t.Context(), p, Spec{Model: m}))
		}
		l.Release()
		for i, r := range all {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if !r.done.Load() || r.err != nil {
				t.Fatalf("request %d is not served in its turn: %+v", i, r)
			}
			r.lease.Release()
		}
		wantLoads(t, s, want...)
	})
}

// TestALargeModelIsNotOvertakenBySmallOnes: small models that would fit beside what is lent wait until the large one that
// came first has had its turn.
func TestALargeModelIsNotOvertakenBySmallOnes(t *testing.T) {
	s := newScript()
	s.size = func(spec Spec) int64 {
		return map[string]int64{"small1": 100, "small2": 100, "large": 900}[spec.Model] * mib
	}
	in(t, PoolConfig{MaxModels: 3, MaxBytes: 950 * mib}, s, func(t *testing.T, p *Pool) {
		l := mustAcquire(t, p, Spec{Model: "small1"})
		large := try(t.Context(), p, Spec{Model: "large"})
		small := try(t.Context(), p, Spec{Model: "small2"})
		time.Sleep(time.Minute)
		synctest.Wait()
		if small.done.Load() || large.done.Load() {
			t.Fatalf("large: %+v; small: %+v", large, small)
		}
		l.Release()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if large.err != nil || small.done.Load() {
			t.Fatalf("large: %+v; small: %+v", large, small)
		}
		large.lease.Release()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		small.lease.Release()
		wantLoads(t, s, "small1", "large", "small2")
	})
}

// TestNobodyWaitsForEver: two jobs keep one model busy without a gap, and a third needs its room.
func TestNobodyWaitsForEver(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 1, Patience: 5 * time.Second}, s, func(t *testing.T, p *Pool) {
		one := mustAcquire(t, p, specA, "one")
		c := try(WithFlow(t.Context(), "three"), p, specC)
		time.Sleep(4 * time.Second)
		two := mustAcquire(t, p, specA, "two") // within patience
		time.Sleep(2 * time.Second)
		late := try(WithFlow(t.Context(), "late"), p, specA)
		more := mustAcquire(t, p, specA, "one") // holds one already, so it must get more
		one.Release()
		again := mustAcquire(t, p, specA, "two")
		two.Release()
		more.Release()
		again.Release()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if c.err != nil || c.lease == nil || late.done.Load() {
			t.Fatalf("c: %+v; late: %+v", c, late)
		}
		c.lease.Release()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if late.err != nil || late.lease == nil || !late.lease.Cold() {
			t.Fatalf("late: %+v", late)
		}
		late.lease.Release()
		wantLoads(t, s, "a", "c", "a")
	})
}

// TestAFreshModelGetsToWork: a model that was just loaded serves newcomers for as long as Patience, however long others have
// waited for its room; else two models would take turns with one lease each.
func TestAFreshModelGetsToWork(t *testing.T) {
	s := newScript()
	in(t, PoolConfig{MaxModels: 1, Patience: 5 * time.Second}, s, func(t *testing.T, p *Pool) {
		held := mustAcquire(t, p, specA, "one")
		b := try(WithFlow(t.Context(), "two"), p, specB)
		c := try(WithFlow(t.Context(), "three"), p, specC)
		time.Sleep(time.Minute)
		held.Release()
		time.Sleep(5 * time.Second) // of which the close and the load take 1.1
		synctest.Wait()
		if b.err != nil || c.done.Load() {
			t.Fatalf("b: %+v; c: %+v", b, c)
		}
		early := mustAcquire(t, p, specB, "early")
		time.Sleep(2 * time.Second)
		late := try(WithFlow(t.Context(), "late"), p, specB)
		if late.done.Load() {
			t.Error("a newcomer got b although c has waited for longer than Patience since b was loaded")
		}
		b.lease.Release()
		early.Release()
		for _, r := range []*result{c, late} {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if r.err != nil || r.lease == nil {
				t.Fatalf("got %+v", r)
			}
			r.lease.Release()
		}
		wantLoads(t, s, "a", "b", "c", "b")
	})
}

// TestAJobThatHoldsItsModelIsNeverHeldBack is how the pipeline uses the pool: one lease for the job, one for each chunk.
func TestAJobThatHoldsItsModelIsNeverHeldBack(t *testing.T) {
	for _, flow := range []string{"job", ""} {
		s := newScript()
		in(t, PoolConfig{MaxModels: 1, Patience: -1}, s, func(t *testing.T, p *Pool) {
			held := mustAcquire(t, p, specA, flow)
			other := try(WithFlow(t.Context(), "other"), p, specB)
			for range 100 {
				ctx, cancel := context.WithTimeout(WithFlow(t.Context(), flow), time.Second)
				l, err := p.Acquire(ctx, specA)
				cancel()
				if err != nil {
					t.Fatalf("flow %q: %v", flow, err)
				}
				time.Sleep(time.Second)
				l.Release()
			}
			held.Release()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if other.err != nil || other.lease == nil {
				t.Fatalf("other: %+v", other)
			}
			other.lease.Release()
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Run("bigger than the budget", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{MaxBytes: 50 * mib}, s, func(t *testing.T, p *Pool) {
			_, err := p.Acquire(t.Context(), specA)
			wantCode(t, err, job.Resource, "MODEL_TOO_BIG")
			wantLoads(t, s)
		})
	})
	t.Run("bigger than predicted and than the budget", func(t *testing.T) {
		s := newScript()
		s.actual = func(Spec) int64 { return 2000 * mib }
		in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
			for range 2 {
				_, err := p.Acquire(t.Context(), specA)
				wantCode(t, err, job.Resource, "MODEL_TOO_BIG")
			}
			wantLoads(t, s, "a") // it has learned
		})
	})
	t.Run("no room beside pinned models", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{MaxModels: 1}, s, func(t *testing.T, p *Pool) {
			if err := errors.Join(p.Pin(specA), p.Preload(t.Context(), specA)); err != nil {
				t.Fatal(err)
			}
			_, err := p.Acquire(t.Context(), specB)
			wantCode(t, err, job.Resource, "POOL_PINNED")
			if err := p.Unpin(specA); err != nil {
				t.Fatal(err)
			}
			mustAcquire(t, p, specB).Release()
		})
	})
	t.Run("no such device", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
			spec := Spec{Model: "a", Device: "cuda:7"}
			_, err := p.Acquire(t.Context(), spec)
			wantCode(t, err, job.Resource, "NO_DEVICE")
			wantCode(t, p.Pin(spec), job.Resource, "NO_DEVICE")
			wantCode(t, p.Unpin(spec), job.Resource, "NO_DEVICE")
		})
	})
	t.Run("no such model", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
			if _, err := p.Acquire(t.Context(), Spec{Model: "unknown"}); err == nil || !strings.Contains(err.Error(), "no such model") {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("room does not become free", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{MaxModels: 1, AcquireTimeout: time.Minute}, s, func(t *testing.T, p *Pool) {
			l := mustAcquire(t, p, specA)
			_, err := p.Acquire(t.Context(), specB)
			wantCode(t, err, job.Resource, "MODEL_BUSY")
			l.Release()
		})
	})
	t.Run("the load takes too long", func(t *testing.T) {
		s := newScript()
		s.loadTime = time.Hour
		in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
			_, err := p.Acquire(t.Context(), specA)
			wantCode(t, err, job.Transient, "MODEL_LOAD_TIMEOUT")
		})
	})
	t.Run("context is over", func(t *testing.T) {
		s := newScript()
		in(t, PoolConfig{}, s, func(t *testing.T, p *Pool) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := p.Acquire(ctx, specA); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			wantLoads(t, s)
		})
	})
}

func TestAFailedLoadFailsAllWhoWaitAndIsTriedAgain(t *testing.T) {
	s := newScript().then("a", errors.New("the file is short"))
	in(t, PoolConfig{MaxModels: 1}, s, func(t *testing.T, p *Pool) {
		one, two, other := try(t.Context(), p, specA), try(t.Context(), p, specA), try(t.Context(), p, specB)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, r := range []*result{one, two} {
			if r.err == nil || !strings.Contains(r.err.Error(), "the file is short") {
				t.Errorf("got %v", r.err)
			}
		}
		if other.err != nil || other.lease == nil {
			t.Fatalf("other: %+v", other)
		}
		other.lease.Release()
		mustAcquire(t, p, specA).Release()
		wantLoads(t, s, "a", "b", "a")
	})
}

func TestModelThatTookMoreThanPredictedPushesIdleOnesOut(t *testing.T) {
	s := newScript()
	s.actual = func(spec Spec) int64 {
		if spec.Model == "b" {
			return 350 * mib
		}
		return 100 * mib
	}
	in(t, PoolConfig{MaxModels: 3, MaxBytes: 400 * mib}, s, func(t *testing.T, p *Pool) {
		mustAcquire(t, p, specA).Release()
		l := mustAcquire(t, p, specB)
		time.Sleep(time.Second)
		if r := p.Report(); len(r.Models) != 1 || r.Models[0].Bytes != 350*mib {
			t.Errorf("in memory are %+v, want b alone", r.Models)
		}
		l.Release()
	})
}
