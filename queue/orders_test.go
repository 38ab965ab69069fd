package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"steno/job"
	"steno/transcript"
)

// TestOrder: what an operator asks of a node comes to it alone, and its answer comes back as it is.
func TestOrder(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	var mu sync.Mutex
	got := map[string][]Order{}
	join := func(name string) {
		cfg := quick()
		cfg.Name, cfg.HeartbeatEvery = name, 50*time.Millisecond
		cfg.Manage = func(ctx context.Context, o Order) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("an order has no bound in time")
			}
			mu.Lock()
			defer mu.Unlock()
			got[name] = append(got[name], o)
			switch o.Model {
			case "none":
				return &job.Error{Class: job.Resource, Code: "MODEL_MISSING", Message: "pull it first", Err: errors.New("/a/path")}
			case "odd":
				return errors.New("no error of ours")
			case "bug":
				panic("a fault")
			}
			return nil
		}
		work(t, q, cfg, echo)
	}
	join("one")
	join("two")
	slow := quick()
	slow.Name, slow.AckWait, slow.HeartbeatEvery = "slow", 4*time.Minute, time.Minute
	var told atomic.Int32
	slow.Manage = func(context.Context, Order) error { return nil }
	slow.Describe = func() any { return told.Add(1) }
	work(t, q, slow, echo)
	plain := quick()
	plain.Name, plain.HeartbeatEvery = "plain", 50*time.Millisecond
	work(t, q, plain, echo)
	eventually(t, "four nodes are there", func() bool { return len(nodes(t, q)) == 4 })
	want := []Order{
		{Do: OrderLoad, Model: "base", Device: "cuda:1", Words: true}, {Do: OrderPin, Model: "base"},
		{Do: OrderUnpin, Model: "base"}, {Do: OrderUnload, Model: "base"},
	}
	for _, o := range want {
		if err := q.Order(t.Context(), "one", o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	mu.Lock()
	if len(got["two"]) != 0 || len(got["one"]) != len(want) || got["one"][0] != want[0] || got["one"][3] != want[3] {
		t.Errorf("the nodes heard %+v", got)
	}
	mu.Unlock()
	err := q.Order(t.Context(), "two", Order{Do: OrderLoad, Model: "none"})
	wantCode(t, err, job.Resource, "MODEL_MISSING")
	if err.Error() == "" || strings.Contains(err.Error(), "/a/path") {
		t.Errorf("the answer is %q", err)
	}
	wantCode(t, q.Order(t.Context(), "two", Order{Model: "odd"}), job.Internal, job.AsError(errors.New("x")).Code)
	wantCode(t, q.Order(t.Context(), "two", Order{Model: "bug"}), job.Internal, "PANIC")
	wantCode(t, q.Order(t.Context(), "two", Order{Model: strings.Repeat("x", maxOrder)}), job.Input, "BAD_ORDER")
	wantCode(t, q.Order(t.Context(), "plain", Order{Do: OrderPin, Model: "base"}), job.Input, "NO_MODELS")
	for _, name := range []string{"nobody", "", "a.b", "*", ">", "a b"} {
		wantCode(t, q.Order(t.Context(), name, Order{Do: OrderPin}), job.Input, "NODE_NOT_FOUND")
	}
	answer, err := q.nc.Request(subjectModel+".one", []byte("no JSON"), time.Second)
	if err != nil || !strings.Contains(string(answer.Data), "BAD_ORDER") {
		t.Errorf("to what is no order it says %v, %v", answer, err)
	}
	if err := q.Order(t.Context(), "slow", Order{Do: OrderPin, Model: "base"}); err != nil {
		t.Error(err)
	}
	eventually(t, "it tells of itself again and again", func() bool { return told.Load() > 3 })
	late, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	wantCode(t, q.Order(late, "one", Order{Do: OrderPin}), job.Transient, "QUEUE_UNREACHABLE")
}

// TestOrderOfADrainingNode: a node that ends takes on no models; memory it gives back.
func TestOrderOfADrainingNode(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	cfg := quick()
	cfg.Name, cfg.HeartbeatEvery, cfg.DrainTimeout = "first", 50*time.Millisecond, 20*time.Second
	cfg.Manage = func(context.Context, Order) error { return nil }
	running, release := make(chan bool, 1), make(chan struct{})
	work(t, q, cfg, func(context.Context, *Delivery) (transcript.Transcript, error) {
		running <- true
		<-release
		return say("done"), nil
	})
	submit(t, q, 100)
	<-running
	if err := q.Drain(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it drains", func() bool { all := nodes(t, q); return len(all) == 1 && all[0].State == NodeDraining })
	for _, do := range []string{OrderLoad, OrderPin} {
		wantCode(t, q.Order(t.Context(), "first", Order{Do: do, Model: "base"}), job.Input, "NODE_DRAINING")
	}
	if err := q.Order(t.Context(), "first", Order{Do: OrderUnload, Model: "base"}); err != nil {
		t.Error(err)
	}
	close(release)
}
