package fault

import (
	"context"
	"fmt"
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
