package queue

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"steno/job"
	"steno/transcript"
)

// nodes lists those that live, and fails the test where that cannot be done.
func nodes(t *testing.T, q *Queue) []Node {
	t.Helper()
	all, err := q.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestNodes follows two workers from their start to their end: what they do, what they say of themselves, and that they are listed
// no longer than they live.
func TestNodes(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	if all := nodes(t, q); len(all) != 0 {
		t.Fatalf("nodes before there is a worker: %+v", all)
	}
	full := errors.New("the disk is full")
	one, two := quick(), quick()
	one.Name, one.Slots, one.HeartbeatEvery = "gpu-7.example:12", 3, 50*time.Millisecond
	one.Describe = func() any { return map[string]int{"models": 2} }
	two.Name, two.Pools, two.HeartbeatEvery = "small:7", []string{"gpu", DefaultPool}, 50*time.Millisecond
	two.Ready = func(context.Context) error { return full }
	release := make(chan struct{})
	began := time.Now()
	stop := work(t, q, one, func(context.Context, *Delivery) (transcript.Transcript, error) {
		<-release
		return say("done"), nil
	})
	stopTwo := work(t, q, two, echo)
	j := submit(t, q, 100)
	var all []Node
	eventually(t, "one runs a job, and the other waits", func() bool {
		all = nodes(t, q)
		return len(all) == 2 && all[0].Running == 1 && all[1].State == NodeWaiting
	})
	if n := all[0]; n.ID != "gpu-7-example-12" || n.Worker != one.Name || n.State != NodeReady || n.Slots != 3 || n.Host == "" ||
		len(n.Pools) != 1 || n.Pools[0] != DefaultPool || n.Started.Before(began.Add(-time.Second)) || time.Since(n.Seen) > time.Second {
		t.Errorf("the first is %+v", n)
	}
	var about struct{ Models int }
	if err := json.Unmarshal(all[0].About, &about); err != nil || about.Models != 2 {
		t.Errorf("it says %s of itself", all[0].About)
	}
	if n := all[1]; n.ID != "small-7" || len(n.Pools) != 2 || n.About != nil {
		t.Errorf("the second is %+v", n)
	}
	close(release)
	await(t, q, j.ID, job.Done)
	for _, stop := range []func() error{stop, stopTwo} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	if all := nodes(t, q); len(all) != 0 {
		t.Errorf("nodes after the last has ended: %+v", all)
	}
}

// TestDrainNode: a node that is told to drain ends its job, takes no other, and is gone; nothing is lost, for another takes over.
func TestDrainNode(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	cfg := quick()
	cfg.Name, cfg.HeartbeatEvery, cfg.DrainTimeout = "first", 50*time.Millisecond, 20*time.Second
	running, release, ended := make(chan job.ID, 10), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- q.Work(context.Background(), cfg, func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
			running <- d.Job.ID
			<-release
			return say("of the first"), nil
		})
	}()
	a, b := submit(t, q, 100), submit(t, q, 200)
	if id := <-running; id != a.ID {
		t.Fatalf("job %s runs first, want %s", id, a.ID)
	}
	if err := q.Drain(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is listed as draining", func() bool {
		all := nodes(t, q)
		return len(all) == 1 && all[0].State == NodeDraining && all[0].Running == 1
	})
	if err := q.Drain(t.Context(), "first"); err != nil {
		t.Errorf("told a second time: %v", err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("Work returned %v", err)
	}
	await(t, q, a.ID, job.Done)
	if len(running) != 0 {
		t.Error("it took a second job")
	}
	if all := nodes(t, q); len(all) != 0 {
		t.Errorf("it is still listed: %+v", all)
	}
	wantCode(t, q.Drain(t.Context(), "first"), job.Input, "NODE_NOT_FOUND")
	work(t, q, quick(), echo)
	await(t, q, b.ID, job.Done)
	drained(t, q)
}

// TestNodeThatDies: its entry ends by itself, and one that was never there cannot be drained.
func TestNodeThatDies(t *testing.T) {
	t.Parallel()
	q := newQueue(t, func(c *Config) { c.Limits.NodeAge = time.Second })
	if err := q.tell(t.Context(), "dead", []byte(`{"id":"dead","state":"ready"}`)); err != nil {
		t.Fatal(err)
	}
	if err := q.tell(t.Context(), "odd", []byte("no JSON")); err != nil {
		t.Fatal(err)
	}
	if all := nodes(t, q); len(all) != 1 || all[0].ID != "dead" {
		t.Fatalf("nodes %+v, want the one that can be read", all)
	}
	eventually(t, "its entry has ended", func() bool { return len(nodes(t, q)) == 0 })
	for _, name := range []string{"dead", "", "a.b", "*", ">", "a b"} {
		wantCode(t, q.Drain(t.Context(), name), job.Input, "NODE_NOT_FOUND")
	}
}
