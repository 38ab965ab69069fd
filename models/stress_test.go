package models

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"steno/job"
)

// stress is one run of the scheduler's model check: clients that run jobs as the pipeline does, while engines die, loads fail
// and run out of memory, jobs are cancelled, and models are pinned and unloaded by hand.
type stress struct {
	t    *testing.T
	pool *Pool
	*script

	mu      sync.Mutex
	rng     *rand.Rand
	served  int
	longest time.Duration
	failed  map[string]int
}

// TestSchedulerNeverStarvesAnyone is RELIABILITY's F18: 32 clients, 6 models, room for 2. No run may break the budget, close
// a model that is lent, deadlock (synctest sees that), or let a request wait for longer than all the others take in turn.
func TestSchedulerNeverStarvesAnyone(t *testing.T) {
	for seed := range uint64(9) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript()
				s.loadTime = 2 * time.Second
				sizes := map[string]int64{"m0": 50, "m1": 100, "m2": 150, "m3": 200, "m4": 250, "m5": 400}
				s.size = func(spec Spec) int64 { return sizes[spec.Model] * mib }
				s.actual = func(spec Spec) int64 { return sizes[spec.Model] * mib * 9 / 10 }
				s.states = 3 + int(seed%3)
				p := newPool(t, PoolConfig{
					MaxModels: 2 + int(seed%2), MaxBytes: 450 * mib, AcquireTimeout: 6 * time.Hour, IdleTimeout: time.Minute,
					BreakerDeaths: 3, Quarantine: 10 * time.Second,
				}, s)
				st := &stress{t: t, pool: p, script: s, rng: rand.New(rand.NewPCG(seed, 18)), failed: map[string]int{}}
				var clients sync.WaitGroup
				for i := range 32 {
					clients.Go(func() { st.client(fmt.Sprint("client", i)) })
				}
				stop := make(chan struct{})
				var admin sync.WaitGroup
				admin.Go(func() { st.admin(stop) })
				clients.Wait()
				close(stop)
				admin.Wait()
				if len(p.queue) != 0 {
					t.Errorf("%d requests remain in the queue", len(p.queue))
				}
				shut(t, p, s)
				// Each of the 31 others may go first with a load (2 s), a drain (up to 10 s of leases) and Patience (5 s).
				if limit := 31 * 20 * time.Second; st.longest > limit {
					t.Errorf("a request waited %s, more than %s", st.longest, limit)
				}
				if st.served < 1000 || len(st.failed) < 3 {
					t.Errorf("served %d leases; failures %v: the run has not tried enough", st.served, st.failed)
				}
				t.Logf("%d leases, %d loads, longest wait %s, failures %v", st.served, len(s.loads), st.longest, st.failed)
			})
		})
	}
}

func (st *stress) pick(n int) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.rng.IntN(n)
}

// client runs jobs: a lease for the job, and one for each of its chunks within it.
func (st *stress) client(name string) {
	for i := range 25 {
		ctx := WithFlow(context.Background(), fmt.Sprint(name, "/", i))
		cancel := func() {}
		if st.pick(4) == 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(st.pick(20))*time.Second)
		}
		spec := Spec{Model: fmt.Sprint("m", st.pick(6)), Words: st.pick(4) == 0}
		if st.pick(30) == 0 {
			result := []error{errNoMemory, errors.New("boom"), errCrash}[st.pick(3)]
			st.script.mu.Lock()
			st.then(spec.Model, result)
			st.script.mu.Unlock()
		}
		st.job(ctx, spec, name)
		cancel()
		time.Sleep(time.Duration(st.pick(3000)) * time.Millisecond)
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
		n := 1 + st.pick(2000)
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
	if st.pick(40) == 0 {
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
	case err.Error() == fmt.Sprintf("acquire model %s on cpu: load: boom", spec):
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
		case <-time.After(time.Duration(st.pick(2000)) * time.Millisecond):
		}
		switch st.pick(8) {
		case 0:
			if pinned == nil {
				pinned = &Spec{Model: fmt.Sprint("m", st.pick(3))}
				_ = st.pool.Pin(*pinned)
			} else {
				_ = st.pool.Unpin(*pinned)
				pinned = nil
			}
		case 1:
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
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
	var bytes int64
	for _, m := range r.Models {
		bytes += m.Bytes
		if m.Refs < 0 || m.State == string(loading) && m.Refs != 0 {
			st.t.Errorf("books: %+v", m)
		}
	}
	if bytes > r.Devices[0].BudgetBytes || bytes != r.Devices[0].ModelBytes {
		st.t.Errorf("the pool counts %d bytes, reports %d, and may have %d", bytes, r.Devices[0].ModelBytes, r.Devices[0].BudgetBytes)
	}
}
