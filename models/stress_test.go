package models

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"steno/internal/faultsize"
	"steno/job"
)

// stress is one run of the scheduler's model check: clients that run jobs as the pipeline does, while engines die, loads fail
// and run out of memory, jobs are cancelled, and models are pinned and unloaded by hand.
type stress struct {
	t    *testing.T
	pool *Pool
	fast time.Duration // by how much everything is shorter than where time is virtual
	*script

	mu      sync.Mutex
	rng     *rand.Rand
	served  int
	faults  int // by hand: deaths, failing loads, cancels, pins, unloads
	longest time.Duration
	failed  map[string]int
}

// newStress is run number n: six models, room for two or three of them, or for four on two GPUs.
func newStress(t *testing.T, seed uint64, n int, fast time.Duration) *stress {
	t.Helper()
	s := newScript()
	s.loadTime, s.closeTime = 2*time.Second/fast, s.closeTime/fast
	sizes := map[string]int64{"m0": 50, "m1": 100, "m2": 150, "m3": 200, "m4": 250, "m5": 400}
	s.size = func(spec Spec) int64 { return sizes[spec.Model] * mib }
	s.actual = func(spec Spec) int64 { return sizes[spec.Model] * mib * 9 / 10 }
	s.states = 3 + n%3
	cfg := PoolConfig{
		MaxModels: 2 + n%2, MaxBytes: 450 * mib, AcquireTimeout: 6 * time.Hour / fast, IdleTimeout: time.Minute / fast,
		Patience: 5 * time.Second / fast, BreakerDeaths: 3, BreakerWindow: time.Minute / fast, Quarantine: 10 * time.Second / fast,
	}
	if n%3 == 2 { // on two GPUs, as the pool places them
		cfg.Inventory, cfg.Device, cfg.MaxModels = gpus(2), Auto, 3+n%2
		cfg.Limits = map[string]Limits{"cuda:0": {Bytes: 450 * mib}, "cuda:1": {Bytes: 450 * mib}}
	}
	p := newPool(t, cfg, s)
	return &stress{t: t, pool: p, fast: fast, script: s, rng: rand.New(rand.NewPCG(seed, uint64(n))), failed: map[string]int{}}
}

// run lets clients work while more says so, and looks that nothing remains and nobody waited for too long.
func (st *stress) run(more func(jobs int) bool) {
	var clients sync.WaitGroup
	for i := range 32 {
		clients.Go(func() { st.client(fmt.Sprint("client", i), more) })
	}
	stop := make(chan struct{})
	var admin sync.WaitGroup
	admin.Go(func() { st.admin(stop) })
	clients.Wait()
	close(stop)
	admin.Wait()
	if len(st.pool.queue) != 0 {
		st.t.Errorf("%d requests remain in the queue", len(st.pool.queue))
	}
	for device, g := range st.pool.gates {
		if used, waiting := g.Stats(); used != 0 || waiting != 0 {
			st.t.Errorf("of the slots of %s %d remain in use and %d are waited for", device, used, waiting)
		}
	}
	shut(st.t, st.pool, st.script)
	// Each of the 31 others may go first with a load (2 s), a drain (up to 10 s of leases) and Patience (5 s).
	if limit := 31 * 20 * time.Second / st.fast; st.longest > limit {
		st.t.Errorf("a request waited %s, more than %s", st.longest, limit)
	}
}

// TestSchedulerNeverStarvesAnyone is RELIABILITY's F18: 32 clients, 6 models, room for 2. No run may break the budget, close
// a model that is lent, deadlock (synctest sees that), or let a request wait for longer than all the others take in turn.
func TestSchedulerNeverStarvesAnyone(t *testing.T) {
	size, seed := faultsize.Size(t, 9), faultsize.Seed(t)
	var mu sync.Mutex
	var leases, loads, faults int
	var longest time.Duration
	t.Run("runs", func(t *testing.T) {
		for n := range size {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					st := newStress(t, seed, n, 1)
					st.run(func(jobs int) bool { return jobs < 25 })
					if st.served < 1000 || len(st.failed) < 3 {
						t.Errorf("served %d leases; failures %v: the run has not tried enough", st.served, st.failed)
					}
					t.Logf("%d leases, %d loads, longest wait %s, failures %v", st.served, len(st.loads), st.longest, st.failed)
					mu.Lock()
					defer mu.Unlock()
					leases, loads, faults, longest = leases+st.served, loads+len(st.loads), faults+st.faults, max(longest, st.longest)
				})
			})
		}
	})
	t.Attr("injected", strconv.Itoa(faults))
	t.Attr("noted", fmt.Sprintf("%d runs, %d leases, %d loads, longest wait %.0f s of virtual time",
		size, leases, loads, longest.Seconds()))
}

// TestSchedulerInRealTime is the same with the clock and the threads of this machine, which the race detector watches, forty
// times faster than a machine loads models. Its size is in seconds.
func TestSchedulerInRealTime(t *testing.T) {
	size, seed := faultsize.Size(t, 5), faultsize.Seed(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	st := newStress(t, seed, 0, 40)
	end := time.Now().Add(time.Duration(size) * time.Second)
	st.run(func(int) bool { return time.Now().Before(end) })
	if st.served < 20*size || len(st.failed) < 2 {
		t.Errorf("served %d leases; failures %v: the run has not tried enough", st.served, st.failed)
	}
	t.Logf("failures %v", st.failed)
	t.Attr("injected", strconv.Itoa(st.faults))
	t.Attr("noted", fmt.Sprintf("%d s, %d leases, %d loads, longest wait %.2f s",
		size, st.served, len(st.loads), st.longest.Seconds()))
}

func (st *stress) pick(n int) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.rng.IntN(n)
}

// chance is true once in n times.
func (st *stress) chance(n int) bool { return st.pick(n) == 0 }

// inject is chance for a fault, which is counted.
func (st *stress) inject(n int) bool {
	hit := st.chance(n)
	if hit {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.faults++
	}
	return hit
}

// upTo is a time below d, before it is made faster.
func (st *stress) upTo(d time.Duration) time.Duration {
	return time.Duration(st.pick(int(d/time.Millisecond))) * time.Millisecond / st.fast
}

// client runs jobs: a lease for the job, and one for each of its chunks within it.
func (st *stress) client(name string, more func(jobs int) bool) {
	for i := 0; more(i); i++ {
		ctx := WithFlow(context.Background(), fmt.Sprint(name, "/", i))
		cancel := func() {}
		if st.inject(4) {
			ctx, cancel = context.WithTimeout(ctx, st.upTo(20*time.Second))
		}
		spec := Spec{Model: fmt.Sprint("m", st.pick(6)), Words: st.chance(4)}
		if st.inject(30) {
			result := []error{errNoMemory, errors.New("boom"), errCrash}[st.pick(3)]
			st.script.mu.Lock()
			st.then(spec.Model, result)
			st.script.mu.Unlock()
		}
		st.job(ctx, spec, name)
		cancel()
		time.Sleep(st.upTo(3 * time.Second))
	}
}

func (st *stress) job(ctx context.Context, spec Spec, flow string) {
	held := st.acquire(ctx, spec)
	if held == nil {
		return
	}
	defer held.Release()
	var chunks sync.WaitGroup
	for range 1 + st.pick(3) {
		n := 1 + st.upTo(2*time.Second)/time.Millisecond // a sample takes a millisecond
		chunks.Go(func() {
			l := st.acquire(ctx, spec)
			if l == nil {
				return
			}
			defer l.Release()
			_, err := l.Transcribe(ctx, flow, Request{PCM: make([]int16, n)}, nil)
			if err != nil && !errors.Is(err, ErrEngineDied) && ctx.Err() == nil {
				st.t.Errorf("transcribe: %v", err)
			}
		})
	}
	chunks.Wait()
	e := held.entry.engine.(*scriptEngine)
	e.mu.Lock()
	if e.closed && e.err == nil {
		st.t.Errorf("model %s was closed while it was lent", spec)
	}
	e.mu.Unlock()
	if st.inject(40) {
		e.die(errCrash)
	}
}

// acquire is nil where the request was cancelled or failed for a reason that the run brings about.
func (st *stress) acquire(ctx context.Context, spec Spec) *Lease {
	start := time.Now()
	l, err := st.pool.Acquire(ctx, spec)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.longest = max(st.longest, time.Since(start))
	var known *job.Error
	switch {
	case err == nil:
		st.served++
		return l
	case errors.As(err, &known) && known.Code != "MODEL_BUSY":
		st.failed[known.Code]++
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		st.failed["cancelled"]++
	case errors.Is(err, ErrEngineDied):
		st.failed["died"]++
	case strings.HasPrefix(err.Error(), fmt.Sprintf("acquire model %s on ", spec)) && strings.HasSuffix(err.Error(), ": load: boom"):
		st.failed["boom"]++
	default:
		st.t.Errorf("acquire: %v", err)
	}
	return nil
}

// admin does by hand what people do, and looks at health, report and books all the time.
func (st *stress) admin(stop <-chan struct{}) {
	var pinned *Spec
	for {
		select {
		case <-stop:
			return
		case <-time.After(st.upTo(2 * time.Second)):
		}
		if st.inject(8) {
			if pinned == nil {
				pinned = &Spec{Model: fmt.Sprint("m", st.pick(3))}
				_ = st.pool.Pin(*pinned)
			} else {
				_ = st.pool.Unpin(*pinned)
				pinned = nil
			}
		}
		if st.inject(8) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second/st.fast)
			_ = st.pool.Unload(ctx, fmt.Sprint("m", st.pick(6)))
			cancel()
		}
		if err := st.pool.Health(context.Background()); err != nil {
			st.t.Error(err)
		}
		st.books()
	}
}

// books checks what the pool believes against what is.
func (st *stress) books() {
	r := st.pool.Report()
	st.script.mu.Lock()
	defer st.script.mu.Unlock()
	bytes := map[string]int64{}
	for _, m := range r.Models {
		bytes[m.LoadedOn] += m.Bytes
		if m.Refs < 0 || m.State == string(loading) && m.Refs != 0 {
			st.t.Errorf("books: %+v", m)
		}
	}
	for _, d := range r.Devices {
		if bytes[d.ID] > d.BudgetBytes || bytes[d.ID] != d.ModelBytes {
			st.t.Errorf("the pool counts %d bytes on %s, reports %d, and may have %d", bytes[d.ID], d.ID, d.ModelBytes, d.BudgetBytes)
		}
	}
}
