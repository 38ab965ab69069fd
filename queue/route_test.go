package queue

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"steno/job"
	"steno/transcript"
)

// TestWarmWorkerIsPreferred: jobs go to the worker that has their model while it has a slot, and to others as soon as it has none.
func TestWarmWorkerIsPreferred(t *testing.T) {
	t.Parallel()
	s := startServer(t, EmbeddedConfig{})
	q, other := open(t, s), open(t, s)
	var mu sync.Mutex
	ran := map[string]int{}
	release := make(chan struct{})
	handler := func(name string) Handler {
		return func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
			mu.Lock()
			ran[name]++
			mu.Unlock()
			if d.Job.Params.Model == "held" {
				<-release
			}
			return say("done"), nil
		}
	}
	cold, hot := named("cold"), named("hot")
	cold.PollEvery, hot.PollEvery = time.Second, time.Second // as in earnest
	cold.Slots, cold.Warm, cold.WarmWithin = 4, func(string) bool { return false }, 2*time.Second
	hot.Slots, hot.Warm = 1, func(string) bool { return true }
	work(t, q, cold, handler("cold"))
	work(t, other, hot, handler("hot"))
	eventually(t, "both workers are there", func() bool { return len(nodes(t, q)) == 2 })
	for range 5 {
		await(t, q, submit(t, q, 100).ID, job.Done)
		drained(t, q) // its slot is free
	}
	mu.Lock()
	if ran["hot"] != 5 {
		t.Errorf("of 5 jobs %v: want all on the worker that has the model", ran)
	}
	mu.Unlock()
	// Its only slot is taken: nobody waits for it.
	held := submitFor(t, q, "held")
	await(t, q, held.ID, job.Running)
	began := time.Now()
	await(t, q, submit(t, q, 100).ID, job.Done)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a job waited %v for a worker that is busy", took)
	}
	close(release)
	await(t, q, held.ID, job.Done)
}

// submitFor queues a job for a model.
func submitFor(t *testing.T, q *Queue, model string) job.Job {
	t.Helper()
	src, err := q.PutAudio(t.Context(), strings.NewReader(model))
	if err != nil {
		t.Fatal(err)
	}
	j := job.Job{ID: job.NewID(), FileName: "talk.mp3", Source: src, Params: job.Params{Model: model}}
	if err := q.Submit(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	return j
}

// TestManyJobsLetFewPass: who has submitted a few does not wait for who has submitted many, and those go on all the same.
func TestManyJobsLetFewPass(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	src, err := q.PutAudio(t.Context(), strings.NewReader("audio"))
	if err != nil {
		t.Fatal(err)
	}
	var all []job.ID
	add := func(n int, user string, bulk bool) {
		for range n {
			j := job.Job{ID: job.NewID(), User: user, FileName: "talk.mp3", Source: src, Bulk: bulk}
			if err := q.Submit(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			all = append(all, j.ID)
		}
	}
	add(10, "many", true)
	add(6, "few", false)
	var mu sync.Mutex
	var order []string
	work(t, q, named("one"), func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, d.Job.User)
		return say("done"), nil
	})
	for _, id := range all {
		await(t, q, id, job.Done)
	}
	want := strings.Fields("few few few many few few few many many")
	mu.Lock()
	defer mu.Unlock()
	if len(order) != 16 || !slices.Equal(order[:len(want)], want) {
		t.Errorf("they ran in the order %v, want %v first", order, want)
	}
}
