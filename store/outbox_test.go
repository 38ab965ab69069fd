package store

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func testClaim(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	var ids []string
	for range 5 {
		ids = append(ids, string(f.addTask(f.user, file).ID))
		f.pass(time.Second)
	}
	first := must(f.Claim(ctx, LaneQueue, 3, time.Minute))(t)
	rest := must(f.Claim(ctx, LaneQueue, 3, time.Minute))(t)
	var got []string
	for _, c := range slices.Concat(first, rest) {
		got = append(got, string(c.Task))
	}
	if !slices.Equal(got, ids) {
		t.Errorf("claimed %v, want %v", got, ids)
	}
	if n, age, err := f.Backlog(ctx, LaneQueue); n != 5 || age != 5*time.Second || err != nil {
		t.Errorf("backlog %d of %v, %v", n, age, err)
	}
	if err := f.Complete(ctx, first[0].ID); err != nil {
		t.Fatal(err)
	}
	f.pass(59 * time.Second)
	wantKinds(t, f.outbox())
	f.pass(2 * time.Second) // the holder of the rest has died
	again := f.outbox()
	wantKinds(t, again, Publish, Publish, Publish, Publish)
	if again[0].Tries != 2 || string(again[0].Task) != ids[1] {
		t.Errorf("claimed again: %+v", again[0])
	}
	for _, c := range again {
		if err := f.Complete(ctx, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	if n, age, err := f.Backlog(ctx, LaneQueue); n != 0 || age != 0 || err != nil {
		t.Errorf("backlog %d of %v, %v", n, age, err)
	}
}

// Relays that work at once never get the same command.
func testClaimConcurrently(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	second := f.reopen(Config{})
	file := f.addFile(f.user, "talk.mp3", "talk")
	const n = 40
	for range n {
		f.addTask(f.user, file)
	}
	var mu sync.Mutex
	seen := map[int64]int{}
	var all sync.WaitGroup
	for i := range 8 {
		s := []*Store{f.Store, second}[i%2]
		all.Go(func() {
			for empty := 0; empty < 3; {
				list, err := s.Claim(ctx, LaneQueue, 3, time.Hour)
				if err != nil {
					t.Error(err)
					return
				}
				if len(list) == 0 {
					empty++
				}
				mu.Lock()
				for _, c := range list {
					seen[c.ID]++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(seen) != n {
		t.Errorf("%d commands claimed, want %d", len(seen), n)
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("command %d was claimed %d times", id, times)
		}
	}
}

func testRetry(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	f.addTask(f.user, f.addFile(f.user, "talk.mp3", "talk"))
	for tries, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		list := f.outbox()
		if len(list) != 1 || list[0].Tries != tries+1 {
			t.Fatalf("try %d: %+v", tries+1, list)
		}
		cause := errors.New("queue away \x00\xff" + strings.Repeat("ä", 2000))
		if err := f.Retry(ctx, list[0], cause); err != nil {
			t.Fatal(err)
		}
		f.pass(time.Duration(seconds)*time.Second - time.Microsecond)
		wantKinds(t, f.outbox())
		f.pass(time.Microsecond)
	}
	// Whose lease has run out has no say any more.
	stale := f.outbox()[0]
	f.pass(2 * time.Minute)
	wantKinds(t, f.outbox(), Publish)
	if err := f.Retry(ctx, stale, errors.New("late")); err != nil {
		t.Fatal(err)
	}
	f.pass(2 * time.Second)
	wantKinds(t, f.outbox()) // the other's lease still holds
}

// Commands about one task come one after the other; those of other tasks and lanes do not wait for them.
func testOrder(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	task, _, err := f.CreateTask(ctx, NewTask{User: f.user.ID, File: file.ID, Webhook: "https://x"})
	if err != nil {
		t.Fatal(err)
	}
	publish := f.outbox()[0]
	must(f.CancelTask(ctx, f.user.ID, task.ID))(t)
	f.addTask(f.user, file)
	wantKinds(t, f.outbox(), Publish) // the other's
	if err := f.Retry(ctx, publish, errors.New("away")); err != nil {
		t.Fatal(err)
	}
	f.pass(time.Second)
	publish = f.outbox()[0]
	if publish.Task != task.ID || publish.Kind != Publish {
		t.Fatalf("%+v, want the first again", publish)
	}
	f.finish(task, "x")
	hook := must(f.Claim(ctx, LaneWebhook, 9, time.Minute))(t)
	if len(hook) != 1 || hook[0].URL != "https://x" || hook[0].State != "done" || hook[0].Task != task.ID {
		t.Errorf("webhook %+v", hook)
	}
	if err := f.Complete(ctx, publish.ID); err != nil {
		t.Fatal(err)
	}
	wantKinds(t, f.outbox(), Cancel)
}
