package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"steno/internal/failpoint"
)

// ended is how long a row waits for the last job: the lease of a dead worker takes 30 s, three with their pauses two minutes.
const ended = 4 * time.Minute

// notes says where faults hit, and what they cost in attempts.
func notes(hit map[string]int, v Verdict) []string {
	return []string{fmt.Sprint(hit), fmt.Sprintf("%d further attempts, %d given up", v.Attempts, v.GivenUp)}
}

// killWorkers kills two of three workers again and again (F1). The third keeps jobs from meeting a dying worker each time, for a
// job that three workers died with is given up, and rightly so.
func (r *run) killWorkers(ctx context.Context, f *injection, n int) (Row, error) {
	folder, err := r.folder(f)
	if err != nil {
		return Row{}, err
	}
	c, err := newCluster(ctx, r.Programs, folder, "1ms")
	if err != nil {
		return Row{}, err
	}
	defer c.Close()
	for w := range 3 {
		if err := c.Work(ctx, w, ""); err != nil {
			return Row{}, err
		}
	}
	o := newOracle(f.id, c.client, r.ledger, r.Seed)
	if err := o.Learn(ctx, sounds(r.Seed, []int{2, 5, 40})...); err != nil {
		return Row{}, err
	}
	o.killed = true
	stop := o.Load(ctx, 8)
	choices, places, work := r.source(f), map[string]int{}, failpoint.Work()
	for i := range n {
		w, place := i%2, "at random"
		if i%4 != 3 {
			place = work[choices.IntN(len(work))]
		}
		c.workers[w].kill() // a quiet one between two faults; its jobs count for the fault that follows
		points := ""
		if place != "at random" {
			points = fmt.Sprintf("%s=kill@%d", place, 1+choices.IntN(3))
		}
		if err := c.Work(ctx, w, points); err != nil {
			return Row{}, err
		}
		if points == "" {
			time.Sleep(time.Duration(200+choices.IntN(1000)) * time.Millisecond)
		}
		if points != "" && !c.workers[w].waitFor(20*time.Second) { // the others take all that there is
			place = "at random"
		}
		below := children(c.workers[w].pid())
		c.workers[w].kill()
		if !c.workers[w].killed() {
			o.Wrong("I5", "worker ended by itself: %v\n%s", c.workers[w].err, c.workers[w].log.tail())
		}
		o.Fault("worker killed: " + place)
		places[place]++
		if orphans := left(below, 5*time.Second); len(orphans) > 0 {
			o.Wrong("I5", "left of a killed worker: %v", orphans)
		}
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

// killEngines sends signals to the engine while it decodes (F2). Its node lives on, and no job needs a second attempt.
func (r *run) killEngines(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "10ms,deaths=100000", 5, 40, 100)
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
		// A chunk must come through between two kills, for one that three engines die under is poison.
		time.Sleep(time.Duration(600+choices.IntN(600)) * time.Millisecond)
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
	v, err := r.verdict(ctx, o, node, ended)
	if err != nil {
		return Row{}, err
	}
	if node.run.pid() != pid || !node.run.alive() {
		o.Wrong("I5", "the node did not live on")
	}
	v.Wrong = o.broken()
	if v.Attempts > 0 {
		v.Wrong = append(v.Wrong, fmt.Sprintf("I3: %d further attempts at jobs, want 0: a dead engine costs chunks", v.Attempts))
	}
	m, err := metrics(ctx, node.admin)
	again := fmt.Sprintf("%v chunks again", m["steno_chunk_engine_deaths_total"])
	return Row{Injected: n, Verdict: v, Notes: []string{fmt.Sprint(sent), again}}, err
}

// killNodes kills gateway, queue, database and worker at once (F3).
func (r *run) killNodes(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "1ms", 2, 5, 40)
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
	node, o, err := r.node(ctx, f, "20ms", 5, 40, 100)
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

// disturbNATS breaks the server and the way to it (F6).
func (r *run) disturbNATS(ctx context.Context, f *injection, n int) (Row, error) {
	folder, err := r.folder(f)
	if err != nil {
		return Row{}, err
	}
	c, err := newCluster(ctx, r.Programs, folder, "5ms")
	if err != nil {
		return Row{}, err
	}
	defer c.Close()
	for w := range 2 {
		if err := c.Work(ctx, w, ""); err != nil {
			return Row{}, err
		}
	}
	o := newOracle(f.id, c.client, r.ledger, r.Seed)
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
			c.server.kill()
			if err := c.StartServer(ctx); err != nil {
				return Row{}, err
			}
		case "stopped for 5 s", "stopped for 35 s":
			c.server.signal(syscall.SIGSTOP)
			pause := 5 * time.Second
			if kind != "stopped for 5 s" {
				pause = 35 * time.Second
			}
			time.Sleep(pause)
			c.server.signal(syscall.SIGCONT)
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
	node, o, err := r.node(ctx, f, "1ms,deaths=100000", 2, 5)
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
			prompt, w = b.prompt, want{"failed", b.code}
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
	cmd := exec.CommandContext(ctx, r.Programs.Steno, "dead", "list", "--json", "--data", node.data)
	cmd.Env = environment(r.Programs, "", "")
	out, listErr := cmd.Output()
	if listErr != nil {
		return Row{}, fmt.Errorf("list dead letters: %w", listErr)
	}
	var letters []struct{ ID string }
	if err := json.Unmarshal(out, &letters); err != nil {
		return Row{}, fmt.Errorf("read dead letters: %w", err)
	}
	if len(letters) != n {
		v.Wrong = append(v.Wrong, fmt.Sprintf("I4: %d dead letters, want %d", len(letters), n))
	}
	return Row{Injected: n, Verdict: v, Notes: []string{fmt.Sprintf("%v", kinds)}}, err
}

// duplicates creates tasks ten times at once with the same key (F13), across a restart too.
func (r *run) duplicates(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "0s", 1)
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

// noMemory has decodes fail for want of memory (F16): each ladder ends, with RESOURCE or with a failure that says so.
func (r *run) noMemory(ctx context.Context, f *injection, n int) (Row, error) {
	node, o, err := r.node(ctx, f, "1ms", 2, 5)
	if err != nil {
		return Row{}, err
	}
	var hungry []string
	for range n {
		o.Fault("no memory")
		id, err := o.Submit(ctx, o.any(), "oom", want{"cancelled", ""})
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
		if t.last.terminal() { // or they were given up
			t.want = want{"failed", ""}
		} else {
			waiting++
		}
		o.mu.Unlock()
		if _, err := o.client.insist(ctx, "DELETE", "/api/v1/transcription/"+id, none); err != nil {
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
	node, o, err := r.node(ctx, f, "0s", 1)
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
		node.client.http.CloseIdleConnections()
		time.Sleep(3 * time.Second)
		return o.Idle(ctx, node)
	}
	var at [3]map[string]float64
	for i, jobs := range []int{max(50, n/10), n / 2, n / 2} {
		if at[i], err = batch(jobs); err != nil {
			return Row{}, err
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
