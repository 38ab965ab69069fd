package fault

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// disturbNATS breaks the server and the way to it (F6).
func (r *run) disturbNATS(ctx context.Context, f *injection, n int) (Row, error) {
	c, err := newCluster(ctx, r.site, "5ms")
	if err != nil {
		return Row{}, err
	}
	defer c.Close()
	for w := range 2 {
		if err := c.Work(ctx, w, ""); err != nil {
			return Row{}, err
		}
	}
	o := r.oracle(f, c.client, c.Dead)
	if err := o.Learn(ctx, sounds(r.Seed, []int{2, 5, 40})...); err != nil {
		return Row{}, err
	}
	stop := o.Load(ctx, 6)
	choices, kinds := r.source(f), map[string]int{}
	for i := range n {
		kind := []string{"killed", "stopped for 5 s", "cut off for 3 s", "slow by 300 ms", "killed", "cut off for 3 s"}[i%6]
		if r.Tier == T1 && i%50 == 49 {
			kind = "stopped for 35 s"
		}
		time.Sleep(time.Duration(300+choices.IntN(700)) * time.Millisecond)
		o.Fault("NATS " + kind)
		kinds[kind]++
		switch kind {
		case "killed":
			c.servers[0].run.kill()
			if err := c.StartServer(ctx, 0); err != nil {
				return Row{}, err
			}
		case "stopped for 5 s", "stopped for 35 s":
			c.servers[0].run.signal(syscall.SIGSTOP)
			pause := 5 * time.Second
			if kind != "stopped for 5 s" {
				pause = 35 * time.Second
			}
			time.Sleep(pause)
			c.servers[0].run.signal(syscall.SIGCONT)
		case "cut off for 3 s":
			c.proxy.Cut(true)
			time.Sleep(3 * time.Second)
			c.proxy.Cut(false)
		default:
			c.proxy.Delay(300 * time.Millisecond)
			time.Sleep(4 * time.Second)
			c.proxy.Delay(0)
		}
	}
	if err := stop(); err != nil {
		return Row{}, err
	}
	v, err := r.verdict(ctx, o, nil, ended)
	for _, p := range append(c.workers, c.gateway) {
		if !p.alive() {
			o.Wrong("I5", "%s ended: %v\n%s", p.name, p.err, p.log.tail())
		}
	}
	v.Wrong = o.broken()
	return Row{Injected: n, Verdict: v, Notes: notes(kinds, v)}, err
}

// poison puts jobs among good ones that harm their engine (F12): each of them fails by name, and no good one does.
func (r *run) poison(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "1ms,deaths=100000", []int{2, 5})
	if err != nil {
		return Row{}, err
	}
	bad := []struct{ prompt, code string }{
		{"abort", "ENGINE_CRASH"}, {"segv", "ENGINE_CRASH"}, {"exit 3", "ENGINE_CRASH"}, {"junk", "ENGINE_CRASH"},
		{"fail", ""}, {"long 70000", ""},
	}
	kinds := map[string]int{}
	for i := range 10 * n {
		prompt, w := "", done
		if i%10 == 4 {
			b := bad[i/10%len(bad)]
			if r.Tier == T1 && i/10 == 7 { // one alone: its watchdog takes its time, three times
				b.prompt, b.code = "hang", ""
			}
			prompt, w = b.prompt, want{state: "failed", code: b.code}
			kinds[prompt]++
			o.Fault("poison: " + prompt)
		}
		if _, err := o.Submit(ctx, o.any(), prompt, w); err != nil {
			return Row{}, err
		}
	}
	v, err := r.verdict(ctx, o, node, 15*time.Minute)
	v.Recovery = nil // a poisoned job takes what its attempts take
	if v.Failed != n {
		v.Wrong = append(v.Wrong, fmt.Sprintf("I4: %d jobs failed, want the %d that were poison", v.Failed, n))
	}
	return Row{Injected: n, Verdict: v, Notes: []string{fmt.Sprintf("%v", kinds)}}, err
}

// duplicates creates tasks ten times at once with the same key (F13), across a restart too.
func (r *run) duplicates(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "0s", []int{1})
	if err != nil {
		return Row{}, err
	}
	var failed atomic.Value
	create := func(i int) {
		var all sync.WaitGroup
		var ids sync.Map
		for range 10 {
			all.Go(func() {
				id, err := o.submit(ctx, fmt.Sprintf("same-%d", i), o.any(), "", done)
				if err != nil {
					failed.Store(err)
				}
				ids.Store(id, true)
			})
		}
		all.Wait()
		count := 0
		ids.Range(func(any, any) bool { count++; return true })
		if count != 1 {
			o.Wrong("I2", "%d tasks for one key", count)
		}
		o.Fault("ten creates")
	}
	for i := range n {
		create(i)
	}
	if err := o.Settle(ctx, ended); err != nil {
		return Row{}, err
	}
	node.Kill()
	if err := node.Start(ctx, ""); err != nil {
		return Row{}, err
	}
	for i := range min(n, 50) {
		create(i)
	}
	if err, _ := failed.Load().(error); err != nil {
		return Row{}, err
	}
	v, err := r.verdict(ctx, o, node, ended)
	v.Recovery = nil
	if v.Jobs != n+1 {
		v.Wrong = append(v.Wrong, fmt.Sprintf("I2: %d tasks for %d keys", v.Jobs, n+1))
	}
	again := fmt.Sprintf("%d of them again after kill -9 and a restart", min(n, 50))
	return Row{Injected: n, Verdict: v, Notes: []string{again}}, err
}
