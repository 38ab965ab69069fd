package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"steno/internal/failpoint"
)

// ended is how long a row waits for the last job: the lease of a dead worker takes 30 s, five with their pauses three minutes.
const ended = 5 * time.Minute

// notes says where faults hit, and what they cost in attempts.
func notes(hit map[string]int, v Verdict) []string {
	return []string{fmt.Sprint(hit), fmt.Sprintf("%d further attempts, %d given up", v.Attempts, v.GivenUp)}
}

// killWorkers kills two of three workers again and again, each at its own pace (F1). The third keeps jobs from meeting a dying
// worker each time, for a job that five workers in a row died with is given up, and rightly so.
func (r *run) killWorkers(ctx context.Context, f *injection, n int) (Row, error) {
	c, err := newCluster(ctx, r.site, "1ms")
	if err != nil {
		return Row{}, err
	}
	defer c.Close()
	for w := range 3 {
		if err := c.Work(ctx, w, ""); err != nil {
			return Row{}, err
		}
	}
	o := r.oracle(f, c.client, c.Dead)
	if err := o.Learn(ctx, sounds(r.Seed, []int{2, 5, 40})...); err != nil {
		return Row{}, err
	}
	o.killed = true
	stop := o.Load(ctx, 8)
	places := map[string]int{}
	var mu sync.Mutex
	var both errgroup.Group
	for w := range 2 {
		both.Go(func() error {
			choices := r.choices(f, uint64(w))
			for i := range (n + 1 - w) / 2 {
				place, err := c.killWorker(ctx, o, w, i, choices)
				if err != nil {
					return err
				}
				mu.Lock()
				places[place]++
				mu.Unlock()
			}
			return nil
		})
	}
	if err := both.Wait(); err != nil {
		return Row{}, err
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	for w := range 2 {
		if err := c.Work(ctx, w, ""); err != nil {
			return Row{}, err
		}
	}
	v, err := r.verdict(ctx, o, nil, ended)
	for w := range 3 {
		if left := scratch(c.data(w)); len(left) > 0 {
			o.Wrong("I5", "worker %d left in its scratch folder: %q", w, left)
		}
	}
	v.Wrong = o.broken()
	return Row{Injected: n, Verdict: v, Notes: notes(places, v)}, err
}

// killWorker starts a worker anew and kills it: three times of four at a place by name, else at random.
func (c *Cluster) killWorker(ctx context.Context, o *Oracle, w, i int, choices *rand.Rand) (place string, err error) {
	place, points, work := "at random", "", failpoint.Work()
	if i%4 != 3 {
		place = work[choices.IntN(len(work))]
		points = fmt.Sprintf("%s=kill@%d", place, 1+choices.IntN(3))
	}
	c.workers[w].kill() // a quiet one between two faults; its jobs count for the fault that follows
	if err := c.Work(ctx, w, points); err != nil {
		return "", err
	}
	if points == "" {
		time.Sleep(time.Duration(200+choices.IntN(1000)) * time.Millisecond)
	} else if !c.workers[w].waitFor(20 * time.Second) { // the others take all that there is
		place = "at random"
	}
	below := children(c.workers[w].pid())
	c.workers[w].kill()
	if !c.workers[w].killed() {
		o.Wrong("I5", "worker ended by itself: %v\n%s", c.workers[w].err, c.workers[w].log.tail())
	}
	o.Fault("worker killed: " + place)
	if orphans := left(below, 5*time.Second); len(orphans) > 0 {
		o.Wrong("I5", "left of a killed worker: %v", orphans)
	}
	return place, nil
}

// killEngines sends signals to the engine while it decodes (F2). Its node lives on, and no job needs a second attempt.
func (r *run) killEngines(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "10ms,deaths=100000", []int{5, 40, 100})
	if err != nil {
		return Row{}, err
	}
	stop := o.Load(ctx, 4)
	choices, pid, sent := r.source(f), node.run.pid(), map[string]int{}
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGABRT, syscall.SIGSEGV}
	for i := range n {
		s := signals[i%len(signals)]
		if i%10 == 9 {
			s = syscall.SIGSTOP
		}
		// What the last kill hit must have come through before the next, for a chunk that three engines in a row die under is given
		// up as what they died of.
		for end, hit := time.Now().Add(time.Minute), o.unended(); o.anyOpen(hit) && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Duration(choices.IntN(600)) * time.Millisecond)
		var engine int
		for end := time.Now().Add(time.Minute); engine == 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			for _, c := range children(pid) {
				if c.name == "steno-engine" {
					engine = c.pid
				}
			}
		}
		if engine == 0 {
			o.Wrong("I5", "no engine within a minute of its death")
			break
		}
		_ = syscall.Kill(engine, s) // it may have ended
		o.Fault("engine " + s.String())
		sent[s.String()]++
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	v, err := r.survived(ctx, o, node, pid)
	if err != nil {
		return Row{}, err
	}
	if v.Attempts > 0 {
		v.Wrong = append(v.Wrong, fmt.Sprintf("I3: %d further attempts at jobs, want 0: a dead engine costs chunks", v.Attempts))
	}
	m, err := metrics(ctx, node.admin)
	again := fmt.Sprintf("%v chunks again", m["steno_chunk_engine_deaths_total"])
	return Row{Injected: n, Verdict: v, Notes: []string{fmt.Sprint(sent), again}}, err
}

// killNodes kills gateway, queue, database and worker at once (F3).
func (r *run) killNodes(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "1ms", []int{2, 5, 40})
	if err != nil {
		return Row{}, err
	}
	choices, places, handover := r.source(f), map[string]int{}, failpoint.Handover()
	if orphans := node.Kill(); len(orphans) > 0 {
		o.Wrong("I5", "left of a killed node: %v", orphans)
	}
	o.killed = true
	stop := o.Load(ctx, 6)
	for i := range n {
		place, points := "at random", ""
		if i%2 == 0 {
			place = handover[i/2%len(handover)]
			points = fmt.Sprintf("%s=kill@%d", place, 1+choices.IntN(4))
		}
		if err := node.Start(ctx, points); err != nil && (points == "" || node.run.alive()) {
			return Row{}, err
		}
		if points == "" {
			time.Sleep(time.Duration(choices.IntN(2000)) * time.Millisecond)
		} else if !node.run.waitFor(40 * time.Second) {
			place += ", not reached"
		}
		if orphans := node.Kill(); len(orphans) > 0 {
			o.Wrong("I5", "left of a killed node: %v", orphans)
		}
		if !node.run.killed() {
			return Row{}, fmt.Errorf("the node ended by itself: %w\n%s", node.run.err, node.run.log.tail())
		}
		o.Fault("node killed: " + place)
		places[place]++
	}
	if err := node.Start(ctx, ""); err != nil {
		return Row{}, err
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	v, err := r.verdict(ctx, o, node, ended)
	v.Wrong = o.broken()
	return Row{Injected: n, Verdict: v, Notes: notes(places, v)}, err
}

// drain ends a node by SIGTERM (F5): it ends by itself within 30 s, with 0, and what it had not finished goes on.
func (r *run) drain(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "20ms", []int{5, 40, 100})
	if err != nil {
		return Row{}, err
	}
	var longest time.Duration
	for i := range n {
		stop := func() error { return nil }
		if load := []int{0, 2, 8}[i%3]; load > 0 {
			stop = o.Load(ctx, load)
			time.Sleep(1500 * time.Millisecond)
		}
		below := children(node.run.pid())
		began := time.Now()
		node.run.signal(syscall.SIGTERM)
		if i%6 == 5 { // a second one hurries it
			time.Sleep(300 * time.Millisecond)
			node.run.signal(syscall.SIGTERM)
		}
		o.Fault("SIGTERM")
		if !node.run.waitFor(35 * time.Second) {
			o.Wrong("I5", "the node had not ended 35 s after SIGTERM\n%s", node.run.log.tail())
			node.run.kill()
		}
		longest = max(longest, time.Since(began))
		if node.run.err != nil && i%6 != 5 {
			o.Wrong("I5", "the node ended with %v after SIGTERM, want 0\n%s", node.run.err, node.run.log.tail())
		}
		if orphans := left(below, 2*time.Second); len(orphans) > 0 {
			o.Wrong("I5", "left of a drained node: %v", orphans)
		}
		if err := node.Start(ctx, ""); err != nil {
			return Row{}, err
		}
		if err := stop(); err != nil {
			return Row{}, err
		}
	}
	v, err := r.verdict(ctx, o, node, ended)
	if v.Attempts > 0 {
		v.Wrong = append(v.Wrong, fmt.Sprintf("I3: %d attempts were spent, want 0: a drain hands jobs back", v.Attempts))
	}
	return Row{Injected: n, Verdict: v, Notes: []string{fmt.Sprintf("ended within %.1f s", longest.Seconds())}}, err
}
