package fault

import (
	"context"
	"fmt"
	"time"
)

// cutOffFor is how long a server is divided from the others: longer than a lease, so that its worker has lost its jobs to others
// when it is back.
const cutOffFor = 40 * time.Second

// disturbCluster takes one of three machines away, each a NATS server with a worker (C1): by turns it dies, and is divided from
// the others while its worker works on. Every job ends once, with the words of its recording.
func (r *run) disturbCluster(ctx context.Context, f *injection, n int) (Row, error) {
	c, err := newTrio(ctx, r.site, "20ms")
	if err != nil {
		return Row{}, err
	}
	defer c.Close()
	for w := range c.servers {
		if err := c.Work(ctx, w, ""); err != nil {
			return Row{}, err
		}
	}
	o := r.oracle(f, c.client, c.Dead)
	// The longest are spread over the workers: 300 s are more chunks than one takes at a time.
	if err := o.Learn(ctx, sounds(r.Seed, []int{2, 40, 300})...); err != nil {
		return Row{}, err
	}
	o.killed = true
	stop := o.Load(ctx, 6)
	choices, kinds := r.source(f), map[string]int{}
	for i := range n {
		w := choices.IntN(len(c.servers))
		time.Sleep(time.Duration(1000+choices.IntN(1000)) * time.Millisecond)
		if i%2 == 0 {
			kinds["killed"]++
			o.Fault(fmt.Sprintf("machine %d killed", w))
			c.workers[w].kill()
			c.servers[w].run.kill()
			time.Sleep(time.Duration(choices.IntN(5000)) * time.Millisecond)
			if err := c.StartServer(ctx, w); err != nil {
				return Row{}, err
			}
			if err := c.Work(ctx, w, ""); err != nil {
				return Row{}, err
			}
			continue
		}
		kinds["divided"]++
		o.Fault(fmt.Sprintf("machine %d divided from the others", w))
		c.CutOff(w, true)
		time.Sleep(cutOffFor)
		c.CutOff(w, false)
		o.Over() // where the gateway was on that side it has heard of nothing until now
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	v, err := r.verdict(ctx, o, nil, ended)
	if err != nil {
		return Row{}, err
	}
	spread := 0.0
	for w, address := range c.admins {
		m, err := metrics(ctx, address)
		if err != nil {
			return Row{}, fmt.Errorf("ask worker %d: %w", w, err)
		}
		spread += m[`steno_helped_chunks_total{outcome="done"}`]
	}
	v.Wrong = o.broken()
	return Row{Injected: n, Verdict: v, Notes: append(notes(kinds, v), fmt.Sprintf("%v chunks decoded for others", spread))}, nil
}
