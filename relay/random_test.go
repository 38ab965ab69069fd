package relay_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"steno/job"
	"steno/queue"
	"steno/relay"
	"steno/store"
	"steno/transcript"
)

// shaky is a queue whose calls fail now and then, before they are carried out or after it, and which reports late.
type shaky struct {
	jobs
	mu  sync.Mutex
	rnd *rand.Rand
}

var errShaky = errors.New("the line is bad")

func (s *shaky) roll(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rnd.IntN(n)
}

// call makes a call that may fail on its way there, fail on its way back, or come twice.
func (s *shaky) call(f func() error) error {
	switch s.roll(8) {
	case 0:
		return errShaky
	case 1:
		_ = f()
		return errShaky
	case 2:
		_ = f()
	}
	return f()
}

func (s *shaky) Submit(ctx context.Context, j job.Job) error {
	return s.call(func() error { return s.jobs.Submit(ctx, j) })
}

func (s *shaky) Cancel(ctx context.Context, id job.ID) error {
	return s.call(func() error { return s.jobs.Cancel(ctx, id) })
}

func (s *shaky) Forget(ctx context.Context, id job.ID) error {
	return s.call(func() error { return s.jobs.Forget(ctx, id) })
}

func (s *shaky) Recorded(ctx context.Context, id job.ID, finished time.Time) error {
	return s.call(func() error { return s.jobs.Recorded(ctx, id, finished) })
}

func (s *shaky) Result(ctx context.Context, id job.ID) (t transcript.Transcript, err error) {
	if s.roll(8) == 0 {
		return t, job.Errorf(job.Transient, "QUEUE_UNREACHABLE", "the line is bad")
	}
	return s.jobs.Result(ctx, id)
}

// flaky is a record whose writes fail now and then, before they are done or after it.
type flaky struct {
	*store.Store
	line *shaky
}

func (f flaky) Complete(ctx context.Context, id int64) error {
	return f.line.call(func() error { return f.Store.Complete(ctx, id) })
}

func (f flaky) Apply(ctx context.Context, u store.Update) (e store.Effect, err error) {
	err = f.line.call(func() error {
		e, err = f.Store.Apply(ctx, u)
		return err
	})
	return e, err
}

// ends watches that a task which has ended never changes again.
type ends struct {
	mu    sync.Mutex
	state map[job.ID]string
}

func (e *ends) check(t *testing.T, s *store.Store, id job.ID) {
	task, err := s.AnyTask(context.Background(), id)
	if err != nil || !task.Status.Terminal() {
		return
	}
	now := fmt.Sprint(task.Status, task.Ended, task.Error, task.Attempt)
	e.mu.Lock()
	defer e.mu.Unlock()
	if old, known := e.state[id]; known && old != now {
		t.Errorf("task %s changed after its end from %s to %s", id, old, now)
	}
	e.state[id] = now
}

// TestRandom lets several relays work over bad lines while tasks are created, cancelled and deleted, relays and workers come and go,
// and the broker restarts. At the end each task has one terminal state, and each that is done its own result.
// STENO_RANDOM_SEED repeats a run; STENO_RANDOM_STEPS makes it longer.
func TestRandom(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if s := os.Getenv("STENO_RANDOM_SEED"); s != "" {
		seed = must(strconv.ParseUint(s, 10, 64))(t)
	}
	steps := 120
	if s := os.Getenv("STENO_RANDOM_STEPS"); s != "" {
		steps = must(strconv.Atoi(s))(t)
	}
	onBoth(t, func(t *testing.T, dsn string) {
		t.Logf("STENO_RANDOM_SEED=%d", seed)
		newChaos(t, dsn, seed).run(steps)
	})
}

type chaos struct {
	*rig
	rnd     *rand.Rand
	line    *shaky
	ends    ends
	relays  []func()
	workers []func()
	live    []*relay.Relay
	tasks   []job.ID
	asked   map[job.ID]bool // to be cancelled
	deleted map[job.ID]bool
}

func newChaos(t *testing.T, dsn string, seed uint64) *chaos {
	r := newRig(t, dsn)
	return &chaos{
		rig: r, rnd: rand.New(rand.NewPCG(seed, 1)), line: &shaky{jobs: jobs{r.q}, rnd: rand.New(rand.NewPCG(seed, 2))},
		ends: ends{state: map[job.ID]string{}}, asked: map[job.ID]bool{}, deleted: map[job.ID]bool{},
	}
}

func (c *chaos) run(steps int) {
	for range 2 {
		c.startRelay()
		c.startWorker()
	}
	for range steps {
		c.step()
		time.Sleep(time.Duration(c.rnd.IntN(30)) * time.Millisecond)
	}
	c.startRelay()
	c.startWorker()
	maintain := c.background(func(ctx context.Context) { // what every node does
		for ctx.Err() == nil {
			_, _ = c.q.Reconcile(ctx)
			time.Sleep(100 * time.Millisecond)
		}
	})
	defer maintain()
	c.verify()
}

func (c *chaos) step() {
	switch n := c.rnd.IntN(100); {
	case n < 55:
		c.tasks = append(c.tasks, c.create(c.wish).ID)
		for _, r := range c.live {
			r.Notify()
		}
	case n < 70:
		if id, ok := c.any(); ok && !c.deleted[id] {
			_, err := c.s.CancelTask(c.Context(), c.user.ID, id)
			if err == nil {
				c.asked[id] = true
			}
			if err != nil && codeOf(err) != "TASK_ENDED" {
				c.Error(err)
			}
		}
	case n < 78:
		if id, ok := c.any(); ok && !c.deleted[id] {
			switch err := c.s.DeleteTask(c.Context(), c.user.ID, id); codeOf(err) {
			case "":
				c.deleted[id] = err == nil
			case "TASK_OPEN":
			default:
				c.Error(err)
			}
		}
	case n < 85:
		c.relays[0]()
		c.relays = c.relays[1:]
		c.startRelay()
	case n < 92:
		c.workers[0]()
		c.workers = c.workers[1:]
		c.startWorker()
	case n < 95:
		if err := c.server.Restart(c.Context()); err != nil {
			c.Fatal(err)
		}
	default:
		for _, id := range c.tasks {
			c.ends.check(c.T, c.s, id)
		}
	}
}

// wish makes a third of the tasks fail, and another third fail once.
func (c *chaos) wish(n *store.NewTask) {
	n.Params.Prompt = []string{"", "fail", "once"}[c.rnd.IntN(3)]
}

func (c *chaos) any() (job.ID, bool) {
	if len(c.tasks) == 0 {
		return "", false
	}
	return c.tasks[c.rnd.IntN(len(c.tasks))], true
}

func (c *chaos) startRelay() {
	cfg := c.config()
	cfg.Store, cfg.Queue, cfg.RetryCap = flaky{c.s, c.line}, c.line, 200*time.Millisecond
	r, stop := c.relay(cfg)
	c.relays, c.live = append(c.relays, stop), append(c.live, r)
}

func (c *chaos) startWorker() {
	c.workers = append(c.workers, c.work(c.q, func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		select {
		case <-time.After(time.Duration(rand.IntN(100)) * time.Millisecond):
		case <-ctx.Done():
			return transcript.Transcript{}, ctx.Err()
		}
		switch {
		case d.Job.Params.Prompt == "fail":
			return transcript.Transcript{}, job.Errorf(job.Input, "NO_AUDIO_STREAM", "there is no sound: send another file")
		case d.Job.Params.Prompt == "once" && !d.Redelivered:
			return transcript.Transcript{}, job.Errorf(job.Transient, "AWAY", "something was away")
		}
		return echo(ctx, d)
	}))
}

func (c *chaos) verify() {
	counts := map[job.State]int{}
	for _, id := range c.tasks {
		if c.deleted[id] {
			continue
		}
		var task store.Task
		c.eventually(fmt.Sprintf("task %s ends", id), func() bool {
			task = must(c.s.AnyTask(c.Context(), id))(c.T)
			return task.Status.Terminal()
		})
		c.ends.check(c.T, c.s, id)
		counts[task.Status]++
		switch task.Status {
		case job.Done:
			c.done(id)
		case job.Failed:
			if task.Params.Prompt != "fail" || task.Error.Code != "NO_AUDIO_STREAM" {
				c.Errorf("task %s failed: %+v", id, task.Error)
			}
		case job.Cancelled:
			if !c.asked[id] {
				c.Errorf("task %s was cancelled, and nobody asked for it", id)
			}
		}
		if task.Status != job.Done {
			if _, err := c.s.Result(c.Context(), c.user.ID, id); codeOf(err) != "NOT_DONE" {
				c.Errorf("task %s is %s and has a result: %v", id, task.Status, err)
			}
		}
	}
	c.settled()
	for _, id := range c.tasks {
		c.eventually(fmt.Sprintf("the queue knows that task %s is recorded, or has forgotten it", id), func() bool {
			s, err := c.q.Status(c.Context(), id)
			return errors.Is(err, queue.ErrNotFound) || err == nil && !c.deleted[id] && !s.Recorded.IsZero()
		})
	}
	c.Logf("%d tasks: %v, %d deleted", len(c.tasks), counts, len(c.deleted))
}
