package models

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"steno/gpu"
	"steno/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = int64(1) << 20

// machine is an Inventory with a CPU of 4 cores and a GPU, 1000 MiB free on each.
type machine struct{}

func (machine) Devices() []gpu.Device {
	return []gpu.Device{
		{ID: gpu.CPUID, Kind: gpu.CPU, Cores: 4, Total: 2000 * mib, Free: 1000 * mib},
		{ID: "cuda:0", Kind: gpu.CUDA, Total: 1000 * mib, Free: 1000 * mib},
	}
}

func (machine) Process(pid int) (gpu.Process, error) {
	if pid < 0 {
		return gpu.Process{}, errors.New("no such process")
	}
	return gpu.Process{RSS: int64(pid+1) * mib, Total: 2000 * mib, Available: 1000 * mib}, nil
}

var errCrash = fmt.Errorf("%w: signal: killed", ErrEngineDied)

// script is a Loader that behaves as told. Its fields are set before use, or through its methods.
type script struct {
	loadTime  time.Duration
	closeTime time.Duration
	size      func(Spec) int64 // predicted; default 100 MiB
	actual    func(Spec) int64 // what Info reports; default as predicted
	states    int              // default 99

	mu      sync.Mutex
	results map[string][]error // by model: what the next loads return; nil is success
	loads   []Spec             // calls of Load, in order
	live    map[string]int64   // bytes by device, from Load's start to Close's end
	peak    map[string]int64
	count   int // engines alive, loads included
	most    int
	engines []*scriptEngine
	faults  []string
}

func newScript() *script {
	return &script{loadTime: time.Second, closeTime: 100 * time.Millisecond, results: map[string][]error{},
		live: map[string]int64{}, peak: map[string]int64{}, states: 99}
}

func (s *script) then(model string, errs ...error) *script {
	s.results[model] = append(s.results[model], errs...)
	return s
}

func (s *script) Estimate(spec Spec) (int64, error) {
	if spec.Model == "unknown" {
		return 0, errors.New("no such model")
	}
	if s.size != nil {
		return s.size(spec), nil
	}
	return 100 * mib, nil
}

func (s *script) take(device string, bytes int64, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[device] += bytes
	s.count += n
	s.peak[device] = max(s.peak[device], s.live[device])
	s.most = max(s.most, s.count)
}

func (s *script) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

func (s *script) Load(ctx context.Context, spec Spec) (Engine, error) {
	bytes, _ := s.Estimate(spec)
	actual := bytes
	if s.actual != nil {
		actual = s.actual(spec)
		bytes = min(bytes, actual) // more than predicted is for the test to look at
	}
	s.take(spec.Device, bytes, 1)
	s.mu.Lock()
	s.loads = append(s.loads, spec)
	var result error
	if next := s.results[spec.Model]; len(next) > 0 {
		result, s.results[spec.Model] = next[0], next[1:]
	}
	s.mu.Unlock()
	select {
	case <-time.After(s.loadTime):
	case <-ctx.Done():
		time.Sleep(s.closeTime) // a process takes its time to end
		result = ctx.Err()
	}
	if result != nil {
		s.take(spec.Device, -bytes, -1)
		return nil, result
	}
	e := &scriptEngine{script: s, spec: spec, bytes: bytes, done: make(chan struct{}), info: Info{
		Model: spec.Model, Device: spec.Device, Bytes: actual, States: s.states, PID: 7,
	}}
	s.mu.Lock()
	s.engines = append(s.engines, e)
	s.mu.Unlock()
	return e, nil
}

// loaded lists the models of Load's calls.
func (s *script) loaded() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, l := range s.loads {
		names = append(names, l.Model)
	}
	return names
}

// scriptEngine decodes for as many milliseconds as the request has samples.
type scriptEngine struct {
	script *script
	spec   Spec
	bytes  int64
	info   Info
	done   chan struct{}

	mu      sync.Mutex
	err     error
	closed  bool
	active  int
	most    int
	threads []int
	next    error            // what the next Transcribe returns
	moves   []*atomic.Uint64 // of the decodes, in order of their starts
}

// step moves the decode that began last.
func (e *scriptEngine) step() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.moves[len(e.moves)-1].Add(1)
}

func (e *scriptEngine) Info() Info            { return e.info }
func (e *scriptEngine) Done() <-chan struct{} { return e.done }

func (e *scriptEngine) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// die ends the engine as a crash would.
func (e *scriptEngine) die(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.done:
	default:
		e.err = err
		close(e.done)
	}
}

func (e *scriptEngine) Transcribe(ctx context.Context, r Request, emit func([]transcript.Segment)) (Result, error) {
	e.mu.Lock()
	e.active++
	e.most = max(e.most, e.active)
	e.threads = append(e.threads, r.Threads)
	e.moves = append(e.moves, r.Activity)
	if e.closed && e.err == nil {
		e.script.fault("model %s is used after it was closed", e.spec.Model)
	}
	next := e.next
	e.next = nil
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.active--
	}()
	if next != nil {
		return Result{}, next
	}
	select {
	case <-time.After(time.Duration(len(r.PCM)) * time.Millisecond):
		if emit != nil {
			emit([]transcript.Segment{{Text: e.spec.Model}})
		}
		return Result{Segments: []transcript.Segment{{Text: e.spec.Model}}}, nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-e.done:
		return Result{}, fmt.Errorf("decode: %w", errCrash)
	}
}

func (e *scriptEngine) Close() error {
	e.mu.Lock()
	dead := false
	select {
	case <-e.done:
		dead = true
	default:
	}
	if e.active > 0 && !dead {
		e.script.fault("model %s is closed while %d decodes use it", e.spec.Model, e.active)
	}
	if e.closed {
		e.script.fault("model %s is closed twice", e.spec.Model)
	}
	e.closed = true
	if !dead {
		close(e.done)
	}
	e.mu.Unlock()
	time.Sleep(e.script.closeTime)
	e.script.take(e.spec.Device, -e.bytes, -1)
	return nil
}

// newPool makes a pool on machine with patience for nobody, which the test closes at its end.
func newPool(t *testing.T, cfg PoolConfig, s *script) *Pool {
	t.Helper()
	if cfg.Inventory == nil {
		cfg.Inventory = machine{}
	}
	p, err := NewPool(cfg, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// shut closes the pool within a minute and holds it against what the script saw.
func shut(t *testing.T, p *Pool, s *script) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	for _, f := range s.faults {
		t.Error(f)
	}
	for device, n := range s.live {
		if n != 0 {
			t.Errorf("%d bytes remain on %s", n, device)
		}
		if budget := p.limits[device].Bytes; s.peak[device] > budget {
			t.Errorf("models took %d bytes of %s, more than the budget of %d", s.peak[device], device, budget)
		}
	}
	if s.count != 0 || s.most > p.cfg.MaxModels {
		t.Errorf("%d models remain; there were up to %d, allowed are %d", s.count, s.most, p.cfg.MaxModels)
	}
}

func mustAcquire(t *testing.T, p *Pool, s Spec, flow ...string) *Lease {
	t.Helper()
	ctx := context.Background()
	for _, f := range flow {
		ctx = WithFlow(ctx, f)
	}
	l, err := p.Acquire(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
