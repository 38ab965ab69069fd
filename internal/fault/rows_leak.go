package fault

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// leaks has a node work and looks at what it holds (F17, I6): goroutines and descriptors as before, and less than a MiB of growth
// for 1,000 jobs over the last half. For twenty small jobs of the script there are two of the real engine, two that are cancelled
// while they are decoded, and one that drives another model out of memory.
func (r *run) leaks(ctx context.Context, f *injection, n int) (Row, error) {
	began := time.Now()
	node, o, err := r.node(ctx, f, "0s,real="+model, nil, func(n *Node) { n.env = []string{"STENO_POOL_MODELS=1"} })
	if err != nil {
		return Row{}, err
	}
	recording, err := os.ReadFile(r.Speech)
	if err != nil {
		return Row{}, fmt.Errorf("name a recording of real speech with -speech: %w", err)
	}
	sounds := []Sound{
		{name: "small.wav", data: speech(r.Seed, 1), model: scripted}, {name: "long.wav", data: speech(r.Seed, 20), model: scripted},
		{name: "speech.wav", data: head(recording, 3)},
	}
	if err := o.Learn(ctx, sounds...); err != nil {
		return Row{}, err
	}
	g := &growth{node: node, o: o, small: o.sounds[0], long: o.sounds[1], real: o.sounds[2]}
	// The first tenth warms up, and the node has begun by its end what it does every 30 s at the latest; the last half is looked at
	// after each of its fifths.
	var at []held
	for i, jobs := range []int{max(50, n/10), n / 2, n / 10, n / 10, n / 10, n / 10, n / 10} {
		if err := g.batch(ctx, jobs); err != nil {
			return Row{}, err
		}
		if i == 0 {
			time.Sleep(max(0, 70*time.Second-time.Since(began)))
		}
		m, err := node.Lowest(ctx, 5*time.Second)
		if err != nil {
			return Row{}, err
		}
		at = append(at, held{m, g.done})
		if err := node.Profile(ctx, "goroutine?debug=1", fmt.Sprintf("goroutines%d.txt", i)); err != nil {
			return Row{}, err
		}
	}
	v, err := o.Check(ctx)
	first, last := at[0].metrics, at[len(at)-1].metrics
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		if d := last[name] - first[name]; d > 2 {
			v.Wrong = append(v.Wrong, fmt.Sprintf("I6: %s rose from %v to %v", name, first[name], last[name]))
		}
	}
	var rss []string
	for _, h := range at {
		rss = append(rss, fmt.Sprintf("%.0f", h.rss()))
	}
	slope := 1000 * growthOf(at[1:])
	if n >= 5000 && slope > 1 { // over fewer it is the garbage collector's noise
		v.Wrong = append(v.Wrong, fmt.Sprintf("I6: %.2f MiB for 1,000 jobs", slope))
	}
	if g.slowest > 2*time.Second {
		v.Wrong = append(v.Wrong, fmt.Sprintf("slow: a cancelled job held its place for %s, 2 s are allowed", g.slowest))
	}
	if out := last["steno_model_pool_evictions_total"]; out < float64(g.swaps) {
		v.Wrong = append(v.Wrong, fmt.Sprintf("F17: %v models were driven out, want %d", out, g.swaps))
	}
	return Row{Injected: n, Verdict: v, Notes: []string{
		fmt.Sprintf("besides %d of the real engine, %d cancelled while decoded, free within %.2f s, %d models driven out",
			g.reals, g.cancels, g.slowest.Seconds(), g.swaps),
		fmt.Sprintf("goroutines %v → %v, descriptors %v → %v", first["go_goroutines"], last["go_goroutines"],
			first["process_open_fds"], last["process_open_fds"]),
		fmt.Sprintf("RSS %s MiB: %.2f MiB for 1,000 jobs", strings.Join(rss, ", "), slope),
	}}, err
}

// held is what a node holds after so many jobs.
type held struct {
	metrics map[string]float64
	jobs    int
}

// rss is in MiB.
func (h held) rss() float64 { return h.metrics["process_resident_memory_bytes"] / (1 << 20) }

// growthOf is the slope, in MiB for a job, of the line that fits best by least squares.
func growthOf(all []held) float64 {
	var line line
	for _, h := range all {
		line.add(float64(h.jobs), h.rss())
	}
	slope, _ := line.fit()
	return slope
}

// growth is the work of leaks.
type growth struct {
	node              *Node
	o                 *Oracle
	small, long, real *Sound

	done                  int // small jobs
	reals, cancels, swaps int
	slowest               time.Duration // from the answer to a cancel until nothing is held for the job
}

// batch does so many small jobs and what goes with them, and lets the idle node collect its garbage: twice, for what is kept for
// use again survives a first time.
func (g *growth) batch(ctx context.Context, jobs int) error {
	if err := g.many(ctx, jobs, g.small); err != nil {
		return err
	}
	g.done += jobs
	if err := g.many(ctx, jobs/10, g.real); err != nil {
		return err
	}
	g.reals += jobs / 10
	for range jobs / 20 {
		if err := g.cancel(ctx, 2); err != nil {
			return err
		}
	}
	for i := range jobs / 20 { // the script has been the last to work
		if err := g.many(ctx, 1, []*Sound{g.real, g.small}[i%2]); err != nil {
			return err
		}
		g.swaps++
	}
	if _, err := g.o.Idle(ctx, g.node); err != nil {
		return err
	}
	for range 2 {
		if err := g.node.Profile(ctx, "heap?gc=1", fmt.Sprintf("heap-%d-jobs", g.done)); err != nil {
			return err
		}
	}
	return nil
}

// many keeps twelve jobs of a kind open, until all are done.
func (g *growth) many(ctx context.Context, jobs int, s *Sound) error {
	for todo := jobs; todo > 0; {
		_ = g.o.look(ctx)
		for ; todo > 0 && g.o.open() < 12; todo-- {
			if _, err := g.o.Submit(ctx, s, "", done); err != nil {
				return err
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	return g.o.Settle(ctx, ended)
}

// cancel has jobs decoded, cancels them, and waits until the node holds nothing for them.
func (g *growth) cancel(ctx context.Context, jobs int) error {
	var ids []string
	for range jobs {
		id, err := g.o.Submit(ctx, g.long, "pace 1000", want{state: "cancelled"})
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	holds := func(jobs float64) (bool, error) {
		m, err := metrics(ctx, g.node.admin)
		return m["steno_decode_slots_in_use"] >= jobs && m["steno_jobs_in_flight"] >= jobs, err
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if all, err := holds(float64(jobs)); all || err != nil {
			if err != nil {
				return err
			}
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d jobs are not decoded within a minute", jobs)
		}
	}
	for _, id := range ids {
		if err := g.o.Cancel(ctx, id); err != nil {
			return err
		}
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		m, err := metrics(ctx, g.node.admin)
		if err != nil {
			return err
		}
		took := time.Since(began)
		if m["steno_decode_slots_in_use"] == 0 && m["steno_jobs_in_flight"] == 0 {
			g.slowest = max(g.slowest, took)
			break
		}
		if took > time.Minute {
			return fmt.Errorf("%d cancelled jobs still hold something after a minute", jobs)
		}
	}
	g.cancels += jobs
	return g.o.Settle(ctx, ended)
}
