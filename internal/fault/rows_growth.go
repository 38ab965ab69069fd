package fault

import (
	"context"
	"fmt"
	"math"
	"time"
)

// noMemory has decodes fail for want of memory (F16): each ladder ends, with RESOURCE or with a failure that says so.
func (r *run) noMemory(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "1ms", []int{2, 5})
	if err != nil {
		return Row{}, err
	}
	var hungry []string
	for range n {
		o.Fault("no memory")
		id, err := o.Submit(ctx, o.any(), "oom", want{state: "cancelled"})
		if err != nil {
			return Row{}, err
		}
		hungry = append(hungry, id)
		if _, err := o.Submit(ctx, o.any(), "", done); err != nil {
			return Row{}, err
		}
	}
	time.Sleep(10 * time.Second)
	_ = o.look(ctx)
	waiting := 0
	for _, id := range hungry { // they wait for memory, which never comes: their user gives up
		o.mu.Lock()
		t := o.tasks[id]
		given := t.last.terminal() // or they were given up
		if given {
			t.want = want{state: "failed"}
		}
		o.mu.Unlock()
		if given {
			continue
		}
		waiting++
		if err := o.Cancel(ctx, id); err != nil {
			return Row{}, err
		}
	}
	v, err := r.verdict(ctx, o, node, ended)
	v.Recovery = nil
	m, merr := metrics(ctx, node.admin)
	if merr != nil {
		return Row{}, merr
	}
	return Row{Injected: n, Verdict: v, Notes: []string{
		fmt.Sprintf("%d waited for memory and were cancelled", waiting),
		fmt.Sprintf("%v deaths of engines", m["steno_engine_deaths_total"]),
	}}, err
}

// leaks runs small jobs one after the other and looks at what the node holds (F17, I6): goroutines and descriptors as before,
// and less than a MiB of growth for 1,000 jobs over the last half.
func (r *run) leaks(ctx context.Context, f *injection, n int) (Row, error) {
	began := time.Now()
	node, o, err := r.node(ctx, f, "0s", []int{1})
	if err != nil {
		return Row{}, err
	}
	batch := func(jobs int) (map[string]float64, error) {
		for todo := jobs; todo > 0; {
			_ = o.look(ctx)
			for ; todo > 0 && o.open() < 12; todo-- {
				if _, err := o.Submit(ctx, o.any(), "", done); err != nil {
					return nil, err
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := o.Settle(ctx, ended); err != nil {
			return nil, err
		}
		if _, err := o.Idle(ctx, node); err != nil {
			return nil, err
		}
		return node.Lowest(ctx, 5*time.Second)
	}
	var at [3]map[string]float64
	for i, jobs := range []int{max(50, n/10), n / 2, n / 2} {
		if at[i], err = batch(jobs); err != nil {
			return Row{}, err
		}
		if i == 0 { // what the node does every 30 s at the latest has begun then, and keeps what it needs
			time.Sleep(max(0, 70*time.Second-time.Since(began)))
			if at[0], err = node.Lowest(ctx, 5*time.Second); err != nil {
				return Row{}, err
			}
		}
		if err := node.Goroutines(ctx, fmt.Sprintf("goroutines%d.txt", i)); err != nil {
			return Row{}, err
		}
	}
	v, err := o.Check(ctx)
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		if d := at[2][name] - at[0][name]; d > 2 {
			v.Wrong = append(v.Wrong, fmt.Sprintf("I6: %s rose from %v to %v", name, at[0][name], at[2][name]))
		}
	}
	rss := func(i int) float64 { return at[i]["process_resident_memory_bytes"] / (1 << 20) }
	slope := (rss(2) - rss(1)) / (float64(n/2) / 1000)
	if n >= 5000 && slope > 1 { // over fewer it is the garbage collector's noise
		v.Wrong = append(v.Wrong, fmt.Sprintf("I6: %.2f MiB for 1,000 jobs", slope))
	}
	return Row{Injected: n, Verdict: v, Notes: []string{
		fmt.Sprintf("goroutines %v → %v, descriptors %v → %v", at[0]["go_goroutines"], at[2]["go_goroutines"],
			at[0]["process_open_fds"], at[2]["process_open_fds"]),
		fmt.Sprintf("RSS %.0f, %.0f, %.0f MiB: %.2f MiB for 1,000 jobs", rss(0), rss(1), rss(2), math.Round(slope*100)/100),
	}}, err
}
