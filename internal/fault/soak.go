package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// SoakConfig says how a cluster is kept busy and disturbed.
type SoakConfig struct {
	Programs Programs
	Length   time.Duration // at least 10 minutes
	Every    time.Duration // between two faults; 0 is a minute
	Load     float64       // share of the measured capacity; 0 is 0.8
	Speech   string        // a recording of real speech, for the real engine
	Seed     uint64
	Folder   string
	Out      io.Writer
}

// Sample is what a soak's processes held at one time, and how long the jobs took that ended since the sample before.
type Sample struct {
	At              time.Duration // since the soak began
	Gateway, Worker Held
	Waits
	Open   int // accepted and not ended
	Faults int // so far
}

// Waits is how long jobs took that are done, from their acceptance; 0 where there were none.
type Waits struct {
	Ended       int
	Median, P95 time.Duration
}

func waits(took []time.Duration) Waits {
	w := Waits{Ended: len(took)}
	if w.Ended > 0 {
		w.Median, w.P95 = took[w.Ended/2], took[min(w.Ended-1, w.Ended*95/100)]
	}
	return w
}

func (w Waits) String() string {
	return fmt.Sprintf("%d jobs, p50 %.2f s, p95 %.2f s", w.Ended, w.Median.Seconds(), w.P95.Seconds())
}

// Slope is how a measure went over the last half of a soak.
type Slope struct {
	Name    string
	Value   float64 // at the end of the line that fits best
	PerHour float64
}

func (s Slope) String() string {
	return fmt.Sprintf("%s: %.1f, %+.2f an hour over the last half", s.Name, s.Value, s.PerHour)
}

// Slopes fits a line to each measure by least squares, over the last half.
func (r SoakReport) Slopes() []Slope {
	half := r.Samples[len(r.Samples)/2:]
	var all []Slope
	for _, m := range []struct {
		name string
		of   func(Sample) float64
	}{
		{"gateway, RSS in MiB", func(s Sample) float64 { return s.Gateway.RSS }},
		{"gateway, goroutines", func(s Sample) float64 { return s.Gateway.Goroutines }},
		{"gateway, descriptors", func(s Sample) float64 { return s.Gateway.Descriptors }},
		{"worker, RSS in MiB", func(s Sample) float64 { return s.Worker.RSS }},
		{"worker, goroutines", func(s Sample) float64 { return s.Worker.Goroutines }},
		{"worker, descriptors", func(s Sample) float64 { return s.Worker.Descriptors }},
		{"p95 in s", func(s Sample) float64 { return s.P95.Seconds() }},
	} {
		var line line
		for _, s := range half {
			line.add(s.At.Hours(), m.of(s))
		}
		perHour, zero := line.fit()
		all = append(all, Slope{m.name, zero + perHour*half[len(half)-1].At.Hours(), perHour})
	}
	return all
}

// line is fitted to points by least squares.
type line struct{ n, x, y, xx, xy float64 }

func (l *line) add(x, y float64) {
	l.n, l.x, l.y, l.xx, l.xy = l.n+1, l.x+x, l.y+y, l.xx+x*x, l.xy+x*y
}

// fit returns the slope and the value at 0; of fewer than two places the slope is 0.
func (l *line) fit() (slope, zero float64) {
	if d := l.n*l.xx - l.x*l.x; d > 0 {
		slope = (l.n*l.xy - l.x*l.y) / d
	}
	return slope, (l.y - slope*l.x) / l.n
}

// Held is what a process has.
type Held struct {
	RSS         float64 // MiB
	Goroutines  float64
	Descriptors float64
}

// SoakReport is what a soak showed.
type SoakReport struct {
	Capacity, Rate float64 // jobs per second: measured in a closed loop, and given
	Kinds          map[string]int
	Faults         map[string]int
	Samples        []Sample
	Quarters       [4]Waits // of its time
	Verdict        Verdict
	Took           time.Duration
}

// sampled is the time between two samples.
const sampled = 10 * time.Second

// pace is what the script takes for a second of audio, on each state: as a small model on a slow core.
const pace = "150ms"

// soak is the state of a Soak.
type soak struct {
	SoakConfig
	o       *Oracle
	c       *Cluster
	hostile []input
	rand    *rand.Rand

	mu    sync.Mutex
	kinds map[string]int
	err   error // the first of a job that could not be given
}

// Soak runs a NATS server, a gateway and two workers at a share of what they can do, with a fault each minute, and samples what
// those hold that are never killed: the gateway and the first worker. Most jobs play the script; every ten seconds one is
// transcribed by the real engine. Five in a hundred are hostile files, five are cancelled, four created twice, one is poison.
func Soak(ctx context.Context, cfg SoakConfig) (report SoakReport, err error) {
	cfg.Every, cfg.Load = cmp.Or(cfg.Every, time.Minute), cmp.Or(cfg.Load, 0.8)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ledger, err := NewLedger(filepath.Join(cfg.Folder, "ledger.jsonl"))
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	place := &site{Programs: cfg.Programs, folder: cfg.Folder}
	defer func() {
		cancel()
		if still := place.left(5 * time.Second); len(still) > 0 {
			report.Verdict.Wrong = append(report.Verdict.Wrong, fmt.Sprintf("I5: still running: %v", still))
		}
	}()
	s := &soak{SoakConfig: cfg, rand: rand.New(rand.NewPCG(cfg.Seed, 24)), kinds: map[string]int{}}
	if s.c, err = newCluster(ctx, place, pace+",deaths=100000,real="+model); err != nil {
		return report, err
	}
	defer s.c.Close()
	for w := range 2 {
		if err := s.c.Work(ctx, w, ""); err != nil {
			return report, err
		}
	}
	s.o = newOracle("soak", s.c.client, s.c.Dead, ledger, cfg.Seed)
	s.o.killed = true
	guard, err := s.learn(ctx)
	if err != nil {
		return report, err
	}
	defer guard.Close()
	if report.Capacity, err = s.capacity(ctx); err != nil {
		return report, err
	}
	report.Rate = cfg.Load * report.Capacity
	fmt.Fprintf(cfg.Out, "capacity %.2f jobs/s, load %.2f jobs/s for %s, a fault every %s, seed %d\n",
		report.Capacity, report.Rate, cfg.Length, cfg.Every, cfg.Seed)
	began := time.Now()
	report.Faults, report.Samples, err = s.run(ctx, report.Rate)
	report.Took, report.Kinds = time.Since(began), s.kinds
	for q := range report.Quarters {
		from := began.Add(cfg.Length * time.Duration(q) / 4)
		report.Quarters[q] = waits(s.o.took(from, from.Add(cfg.Length/4)))
	}
	if err != nil {
		return report, err
	}
	if err := s.o.Settle(ctx, ended); err != nil {
		return report, err
	}
	if what := guard.touched(); what != "" {
		s.o.Wrong("I10", "%s", what)
	}
	for w := range 2 {
		if left := scratch(s.c.data(w)); len(left) > 0 {
			s.o.Wrong("I5", "worker %d left in its scratch folder: %q", w, left)
		}
	}
	report.Verdict, err = s.o.Check(ctx)
	return report, err
}

// learn makes the recordings, and the hostile files with the canary that some of them name.
func (s *soak) learn(ctx context.Context) (*canary, error) {
	speech, err := os.ReadFile(s.Speech)
	if err != nil {
		return nil, err
	}
	all := sounds(s.Seed, []int{2, 5, 20})
	for i := range all {
		all[i].model = scripted
	}
	if err := s.o.Learn(ctx, append(all, Sound{name: "speech.wav", data: speech})...); err != nil {
		return nil, err
	}
	made := filepath.Join(s.Folder, "made")
	if err := os.Mkdir(made, 0o700); err != nil {
		return nil, err
	}
	guard, err := newCanary(speech)
	if err != nil {
		return nil, err
	}
	files, err := inputs(ctx, made, guard)
	if err != nil {
		guard.Close()
		return nil, err
	}
	for _, in := range files { // bombs are within what these workers may take
		if in.want == asRefused && len(in.data) < 1<<20 && !strings.HasPrefix(in.name, "bomb") {
			s.hostile = append(s.hostile, in)
		}
	}
	return guard, nil
}

// capacity is how many jobs of the mix a second the cluster does while it always has enough of them, and those of the real engine
// besides, which come at their own rate. Nothing is broken meanwhile.
func (s *soak) capacity(ctx context.Context) (float64, error) {
	const warm, measured, depth = 20 * time.Second, 100 * time.Second, 24
	begun, stop := context.WithTimeout(ctx, warm+measured)
	defer stop()
	var jobs, all sync.WaitGroup
	s.beside(begun, ctx, &all, &jobs)
	var given atomic.Int64
	for range 4 { // one alone would wait with those that are cancelled a while after
		all.Go(func() {
			for begun.Err() == nil {
				if s.o.open() >= depth {
					time.Sleep(20 * time.Millisecond)
					continue
				}
				s.fail(s.job(ctx))
				given.Add(1)
			}
		})
	}
	time.Sleep(warm)
	before := given.Load()
	time.Sleep(measured)
	n := given.Load() - before
	all.Wait()
	jobs.Wait()
	clear(s.kinds)
	return float64(n) / measured.Seconds(), errors.Join(s.err, s.o.Settle(ctx, ended))
}

// beside gives a job of the real engine every ten seconds, and follows all jobs. What it has begun is seen to its end in whole.
func (s *soak) beside(ctx, whole context.Context, all, jobs *sync.WaitGroup) {
	all.Go(func() {
		every(ctx, 10*time.Second, func() {
			jobs.Go(func() { s.fail(s.real(whole)) })
		})
	})
	all.Go(func() {
		every(ctx, 200*time.Millisecond, func() { _ = s.o.look(ctx) }) // the gateway may be busy
	})
}

// good is a recording for the script.
func (s *soak) good() *Sound { return s.o.sounds[s.pick(3)] }

func (s *soak) pick(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.IntN(n)
}

// run gives jobs at a rate, whatever becomes of them, and a fault now and then, and takes samples.
func (s *soak) run(ctx context.Context, rate float64) (map[string]int, []Sample, error) {
	ctx, stop := context.WithTimeout(ctx, s.Length)
	defer stop()
	whole := context.WithoutCancel(ctx) // what has begun is seen to its end
	var jobs, all sync.WaitGroup
	all.Go(func() {
		every(ctx, time.Duration(float64(time.Second)/rate), func() {
			jobs.Go(func() { s.fail(s.job(whole)) })
		})
	})
	s.beside(ctx, whole, &all, &jobs)
	faults := map[string]int{}
	injected := make(chan error, 1)
	all.Go(func() {
		var err error
		for err == nil && wait(ctx, s.Every) {
			kind := soakFaults[s.pick(len(soakFaults))]
			s.o.Fault(kind.name)
			s.mu.Lock()
			faults[kind.name]++
			s.mu.Unlock()
			err = kind.inject(s, whole)
		}
		injected <- err
	})
	var samples []Sample
	began := time.Now()
	for wait(ctx, sampled) {
		sample, err := s.sample(ctx, time.Since(began))
		if err != nil {
			fmt.Fprintf(s.Out, "no sample at %s: %v\n", time.Since(began).Round(time.Second), err)
			continue
		}
		s.mu.Lock()
		for _, n := range faults {
			sample.Faults += n
		}
		s.mu.Unlock()
		samples = append(samples, sample)
		if len(samples)%30 == 0 {
			fmt.Fprintln(s.Out, sample)
		}
	}
	err := <-injected
	all.Wait()
	jobs.Wait()
	return faults, samples, errors.Join(err, s.err)
}

// every calls f at each tick until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// wait sleeps; false says that ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *soak) fail(err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *soak) count(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kinds[kind]++
}

// real gives one job to the real engine.
func (s *soak) real(ctx context.Context) error {
	s.count("real engine")
	_, err := s.o.Submit(ctx, s.o.sounds[3], "", done)
	return err
}

// job gives one job of the mix.
func (s *soak) job(ctx context.Context) error {
	switch n := s.pick(100); {
	case n < 5:
		in := s.hostile[s.pick(len(s.hostile))]
		s.count("hostile")
		return s.o.offer(ctx, in)
	case n < 10:
		s.count("cancelled")
		id, err := s.o.Submit(ctx, s.good(), "", want{state: "cancelled", or: "done"})
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(s.pick(2000)) * time.Millisecond)
		return s.o.Cancel(ctx, id)
	case n < 14:
		s.count("created twice")
		key, sound := s.o.key(), s.good()
		first, err := s.o.submit(ctx, key, sound, "", done)
		if err != nil {
			return err
		}
		second, err := s.o.submit(ctx, key, sound, "", done)
		if err == nil && first != second {
			s.o.Wrong("I2", "two tasks, %s and %s, for one key", first, second)
		}
		return err
	case n < 15:
		s.count("poison")
		_, err := s.o.Submit(ctx, s.good(), []string{"abort", "segv", "exit 3", "fail", "junk"}[s.pick(5)], want{state: "failed"})
		return err
	}
	s.count("good")
	_, err := s.o.Submit(ctx, s.good(), "", done)
	return err
}

// sample reads what the lasting processes hold.
func (s *soak) sample(ctx context.Context, at time.Duration) (Sample, error) {
	sample := Sample{At: at, Open: s.o.open()}
	for address, held := range map[string]*Held{s.c.admin: &sample.Gateway, s.c.admins[0]: &sample.Worker} {
		m, err := metrics(ctx, address)
		if err != nil {
			return sample, err
		}
		*held = Held{m["process_resident_memory_bytes"] / (1 << 20), m["go_goroutines"], m["process_open_fds"]}
	}
	sample.Waits = waits(s.o.took(time.Now().Add(-sampled), time.Now()))
	return sample, nil
}

func (s Sample) String() string {
	h := func(h Held) string {
		return fmt.Sprintf("%.0f MiB %.0f goroutines %.0f fds", h.RSS, h.Goroutines, h.Descriptors)
	}
	return fmt.Sprintf("%6s  gateway %s  worker %s  open %d  %s  faults %d",
		s.At.Round(time.Second), h(s.Gateway), h(s.Worker), s.Open, s.Waits, s.Faults)
}

// soakFaults are what is broken, one at a time. The gateway and the first worker are not killed, for they are measured.
var soakFaults = []struct {
	name   string
	inject func(*soak, context.Context) error
}{
	{"kill -9 of the second worker", func(s *soak, ctx context.Context) error {
		s.c.workers[1].kill()
		return s.c.Work(ctx, 1, "")
	}},
	{"SIGTERM to the second worker", func(s *soak, ctx context.Context) error {
		s.c.workers[1].signal(syscall.SIGTERM)
		if !s.c.workers[1].waitFor(35 * time.Second) {
			s.o.Wrong("I5", "the worker had not ended 35 s after SIGTERM")
			s.c.workers[1].kill()
		}
		return s.c.Work(ctx, 1, "")
	}},
	{"kill -9 of an engine", func(s *soak, _ context.Context) error { return s.hitEngine(syscall.SIGKILL) }},
	{"SEGV of an engine", func(s *soak, _ context.Context) error { return s.hitEngine(syscall.SIGSEGV) }},
	{"STOP of an engine", func(s *soak, _ context.Context) error { return s.hitEngine(syscall.SIGSTOP) }},
	{"NATS killed", func(s *soak, ctx context.Context) error {
		s.c.servers[0].run.kill()
		return s.c.StartServer(ctx, 0)
	}},
	{"NATS stopped for 5 s", func(s *soak, ctx context.Context) error {
		s.c.servers[0].run.signal(syscall.SIGSTOP)
		time.Sleep(5 * time.Second)
		s.c.servers[0].run.signal(syscall.SIGCONT)
		return nil
	}},
	{"NATS cut off for 3 s", func(s *soak, ctx context.Context) error {
		s.c.proxy.Cut(true)
		time.Sleep(3 * time.Second)
		s.c.proxy.Cut(false)
		return nil
	}},
	{"NATS slow by 300 ms", func(s *soak, ctx context.Context) error {
		s.c.proxy.Delay(300 * time.Millisecond)
		time.Sleep(10 * time.Second)
		s.c.proxy.Delay(0)
		return nil
	}},
	{"database held for 6 s", func(s *soak, ctx context.Context) error {
		release, err := lockSQLite(ctx, filepath.Join(s.Folder, "gateway", "steno.db"))
		if err != nil {
			return err
		}
		time.Sleep(6 * time.Second)
		return release()
	}},
}

// hitEngine sends a signal to an engine of the first worker.
func (s *soak) hitEngine(sig syscall.Signal) error {
	for _, c := range children(s.c.workers[0].pid()) {
		if c.name == "steno-engine" {
			_ = syscall.Kill(c.pid, sig) // it may have ended
			return nil
		}
	}
	return nil
}

// offer uploads a hostile file and gives it as a job where it is taken; it must be refused in the end.
func (o *Oracle) offer(ctx context.Context, in input) error {
	s, refused, err := o.put(ctx, in)
	if err != nil || refused != "" {
		return err
	}
	_, err = o.Submit(ctx, s, "", want{state: "failed", class: "INPUT"})
	return err
}
