package store

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"steno/job"
)

func testApply(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	task := f.addTask(f.user, f.addFile(f.user, "talk.mp3", "talk"))
	f.pass(time.Minute)
	began := epoch.Add(30 * time.Second)
	apply := func(u Update, want Effect) Task {
		t.Helper()
		u.Task = task.ID
		if got := must(f.Apply(ctx, u))(t); got != want {
			t.Errorf("effect of %+v: %s, want %s", u, got, want)
		}
		return f.get(task)
	}
	running := Update{
		State: job.Running, Attempt: 1, Version: 5, Started: began,
		Progress: job.Progress{Stage: job.StageTranscribe, Done: 3, Total: 12},
	}
	want := task
	want.Status, want.Stage, want.Progress, want.Attempt = job.Running, job.StageTranscribe, 0.25, 1
	want.Started, want.Updated = began, epoch.Add(time.Minute)
	if got := apply(running, Applied); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	f.pass(time.Minute)
	apply(running, Duplicate)
	apply(Update{State: job.Queued, Version: 4, Attempt: 1}, Late)
	apply(Update{State: job.Cancelled, Version: 99, Attempt: 0}, Late)
	if got := f.get(task); !reflect.DeepEqual(got, want) {
		t.Errorf("what had no effect has changed %+v\nto %+v", want, got)
	}
	why := &job.Error{Class: job.Transient, Code: "TIMEOUT", Message: "too slow \x00\xff"}
	if got := apply(Update{State: job.Queued, Attempt: 1, Version: 6, Error: why}, Applied); got.Error == nil || got.Error.Code != "TIMEOUT" ||
		got.Error.Message != "too slow " || !got.Started.Equal(began) {
		t.Errorf("waits to be tried again: %+v, %+v", got, got.Error)
	}
	ended := epoch.Add(2 * time.Minute)
	done := Update{State: job.Done, Attempt: 2, Version: 1, Result: say("héllo"), Ended: ended, Progress: job.Progress{Stage: job.StageStore}}
	if got := apply(done, Applied); got.Status != job.Done || got.Progress != 1 || got.Error != nil || !got.Ended.Equal(ended) {
		t.Errorf("done: %+v", got)
	}
	apply(done, Duplicate)
	other := done
	other.Version, other.Result = 7, say("another")
	apply(other, Ended)
	apply(Update{State: job.Failed, Attempt: 9, Version: 1, Error: why}, Ended)
	apply(running, Ended)
	r := must(f.Result(ctx, f.user.ID, task.ID))(t)
	if !reflect.DeepEqual(r.Transcript, *say("héllo")) || len(r.SHA256) != 64 || r.Bytes < 100 {
		t.Errorf("result %+v", r)
	}

	for _, bad := range []Update{{State: job.Done}, {State: job.Failed}, {State: job.Failed, Error: &job.Error{}}, {State: "odd"}} {
		_, err := f.Apply(ctx, bad)
		wantCode(t, err, job.Internal, "BAD_UPDATE")
	}
	if effect := must(f.Apply(ctx, Update{Task: job.NewID(), State: job.Running, Version: 1}))(t); effect != Unknown {
		t.Error(effect)
	}
	failed := f.addTask(f.user, f.addFile(f.user, "b.mp3", "b"))
	u := Update{Task: failed.ID, State: job.Failed, Attempt: 1, Version: 1, Error: &job.Error{Class: job.Input, Code: "NO_AUDIO_STREAM", Message: "m"}}
	if effect := must(f.Apply(ctx, u))(t); effect != Applied {
		t.Error(effect)
	}
	if got := f.get(failed); got.Status != job.Failed || !reflect.DeepEqual(got.Error, u.Error) {
		t.Errorf("failed: %+v", got)
	}
}

// A failed task takes what is newer than its failure where the queue has brought its job back, and nothing else.
func testApplyRetried(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	why := &job.Error{Class: job.Input, Code: "NO_AUDIO_STREAM", Message: "m"}
	task := f.addTask(f.user, f.addFile(f.user, "b.mp3", "b"))
	must(f.CancelTask(ctx, f.user.ID, task.ID))(t)
	task = f.addTask(f.user, f.addFile(f.user, "c.mp3", "c"))
	must(f.Claim(ctx, LaneQueue, 10, time.Minute))(t)
	if got := must(f.CancelTask(ctx, f.user.ID, task.ID))(t); !got.Cancelling {
		t.Fatalf("%+v", got)
	}
	apply := func(u Update, want Effect) Task {
		t.Helper()
		u.Task = task.ID
		if got := must(f.Apply(ctx, u))(t); got != want {
			t.Errorf("effect of %+v: %s, want %s", u, got, want)
		}
		return f.get(task)
	}
	failure := Update{State: job.Failed, Attempt: 2, Version: 10, Error: why, Started: epoch}
	failed := apply(failure, Applied)
	apply(Update{State: job.Queued, Attempt: 2, Version: 12}, Ended)
	apply(Update{State: job.Queued, Attempt: 2, Version: 9, Retried: true}, Ended)
	again := Update{State: job.Queued, Attempt: 2, Version: 12, Retried: true, Progress: job.Progress{Stage: job.StageQueue}}
	got := apply(again, Applied)
	if got.Status != job.Queued || got.Error != nil || !got.Ended.IsZero() || got.Cancelling || got.Progress != 0 {
		t.Errorf("opened again: %+v", got)
	}
	apply(failure, Late) // of before: it must not close the task
	apply(again, Duplicate)
	if open := must(f.OpenTasks(ctx, epoch.Add(time.Hour), nil, 10))(t); len(open) != 1 || open[0].ID != failed.ID {
		t.Errorf("open tasks: %+v", open)
	}
	if _, err := f.Result(ctx, f.user.ID, task.ID); err == nil {
		t.Error("it has a result")
	}
	second := Update{State: job.Failed, Attempt: 3, Version: 14, Error: why, Retried: true}
	apply(second, Applied)
	apply(second, Duplicate)
	apply(Update{State: job.Running, Attempt: 3, Version: 13, Retried: true}, Ended)
	// Whoever was away sees the end alone.
	done := Update{State: job.Done, Attempt: 4, Version: 20, Result: say("at last"), Retried: true}
	if got := apply(done, Applied); got.Status != job.Done || got.Error != nil {
		t.Errorf("done: %+v", got)
	}
	if r := must(f.Result(ctx, f.user.ID, task.ID))(t); r.Transcript.Text != "at last" {
		t.Errorf("result %+v", r)
	}
	apply(Update{State: job.Running, Attempt: 5, Version: 21, Retried: true}, Ended) // no way back from done
}

func testThroughput(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	if got := must(f.Throughput(ctx, epoch.Add(-time.Hour)))(t); got != (Throughput{}) {
		t.Errorf("where nothing is: %+v", got)
	}
	file := f.addFile(f.user, "talk.mp3", "talk")
	end := func(s job.State, ended time.Time) Task {
		t.Helper()
		task := f.addTask(f.user, file)
		u := Update{
			Task: task.ID, State: s, Attempt: 1, Version: 1, Started: ended.Add(-500 * time.Millisecond), Ended: ended, Result: say("x"),
			Error: &job.Error{Class: job.Input, Code: "X", Message: "m"},
		}
		if got := must(f.Apply(ctx, u))(t); got != Applied {
			t.Fatal(got)
		}
		return task
	}
	long := end(job.Done, epoch.Add(time.Minute)) // before
	for range 3 {
		end(job.Done, epoch.Add(time.Hour))
	}
	end(job.Failed, epoch.Add(time.Hour))
	end(job.Failed, epoch.Add(2*time.Hour))
	end(job.Cancelled, epoch.Add(time.Hour))
	f.addTask(f.user, file) // open
	n := NewTask{User: f.user.ID, File: file.ID, Reuse: true}
	if again, _, err := f.CreateTask(ctx, n); err != nil || !again.Reused {
		t.Fatalf("%+v, %v", again, err)
	}
	want := Throughput{Done: 3, Failed: 2, Cancelled: 1, Audio: 3 * long.Duration, Work: 1.5}
	if got := must(f.Throughput(ctx, epoch.Add(30*time.Minute)))(t); got != want || long.Duration == 0 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := must(f.Throughput(ctx, epoch.Add(3*time.Hour)))(t); got != (Throughput{}) {
		t.Errorf("after all: %+v", got)
	}
}

// Updates of one task in any order, some of them twice: the newest that came before the end holds, and the first end stays.
func testApplyAnyOrder(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	rapid.Check(t, func(r *rapid.T) {
		task := f.addTask(f.user, file)
		var at [2]int // attempt and version of the last that was applied
		state, text := job.Queued, ""
		for i := range rapid.IntRange(1, 12).Draw(r, "updates") {
			u := Update{
				Task: task.ID, Attempt: rapid.IntRange(0, 2).Draw(r, "attempt"), Version: uint64(rapid.IntRange(1, 4).Draw(r, "version")),
				State: rapid.SampledFrom([]job.State{job.Queued, job.Running, job.Running, job.Done, job.Failed, job.Cancelled}).Draw(r, "state"),
				Error: &job.Error{Class: job.Internal, Code: "X"}, Result: say(fmt.Sprint(i)),
			}
			newer := u.Attempt > at[0] || u.Attempt == at[0] && int(u.Version) > at[1]
			effect, err := f.Apply(ctx, u)
			if err != nil || (effect == Applied) != (newer && !state.Terminal()) {
				r.Fatalf("%s, %v for %+v after %v of %v", effect, err, u, state, at)
			}
			if effect == Applied {
				at, state = [2]int{u.Attempt, int(u.Version)}, u.State
				text = fmt.Sprint(i)
			}
		}
		if got := f.get(task); got.Status != state {
			r.Fatalf("status %s, want %s", got.Status, state)
		}
		result, err := f.Result(ctx, f.user.ID, task.ID)
		if (err == nil) != (state == job.Done) || err == nil && result.Transcript.Text != text {
			r.Fatalf("%s task has the result %q, %v; want %q", state, result.Transcript.Text, err, text)
		}
	})
}

// Many recorders at once: one end, one result, and one of them is told that it was its own.
func testApplyConcurrently(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	second := f.reopen(Config{})
	file := f.addFile(f.user, "talk.mp3", "talk")
	for range 5 {
		task := f.addTask(f.user, file)
		var applied atomic.Int32
		var winner atomic.Value
		var all sync.WaitGroup
		for i := range 12 {
			s := []*Store{f.Store, second}[i%2]
			all.Go(func() {
				u := Update{
					Task: task.ID, State: []job.State{job.Done, job.Failed}[i%3%2], Attempt: 1 + i%2, Version: uint64(1 + i),
					Result: say(fmt.Sprint(i)), Error: &job.Error{Class: job.Internal, Code: "X"},
				}
				effect, err := s.Apply(ctx, u)
				if err != nil {
					t.Error(err)
				}
				if effect == Applied {
					applied.Add(1)
					winner.Store(u)
				}
			})
		}
		all.Wait()
		if applied.Load() != 1 {
			t.Fatalf("%d ends of one task", applied.Load())
		}
		u := winner.Load().(Update)
		if got := f.get(task); got.Status != u.State {
			t.Errorf("status %s, want %s", got.Status, u.State)
		}
		r, err := f.Result(ctx, f.user.ID, task.ID)
		if u.State == job.Done && (err != nil || r.Transcript.Text != u.Result.Text) || u.State == job.Failed && err == nil {
			t.Errorf("result %q, %v of %s", r.Transcript.Text, err, u.State)
		}
	}
}

func testOpenTasks(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	var want []job.ID
	for i := range 7 {
		task := f.addTask(f.user, file)
		switch i {
		case 2:
			f.finish(task, "x")
			continue
		case 3:
			must(f.Apply(ctx, Update{Task: task.ID, State: job.Running, Attempt: 1, Version: 1}))(t)
		case 4:
			f.pass(time.Second) // the others have equal times
		}
		want = append(want, task.ID)
	}
	first := f.outbox()[0]
	if err := f.Complete(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	f.pass(time.Minute)
	young := f.addTask(f.user, file)
	var got []job.ID
	var after *Task
	for {
		page := must(f.OpenTasks(ctx, young.Created, after, 2))(t)
		if len(page) == 0 {
			break
		}
		for _, task := range page {
			got = append(got, task.ID)
			if task.Pending != (task.ID != first.Task) {
				t.Errorf("pending: %v", task.Pending)
			}
			if !reflect.DeepEqual(task.Task, f.get(task.Task)) {
				t.Errorf("%+v", task)
			}
		}
		after = &page[len(page)-1].Task
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("open %v, want %v", got, want)
	}
}

func testRepublish(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	task := f.addTask(f.user, file)
	republish := func(want bool) {
		t.Helper()
		if got := must(f.Republish(ctx, task.ID))(t); got != want {
			t.Errorf("published again: %v, want %v", got, want)
		}
	}
	republish(false) // it is about to be published
	sent := f.outbox()[0]
	republish(false)
	if err := f.Complete(ctx, sent.ID); err != nil {
		t.Fatal(err)
	}
	must(f.Apply(ctx, Update{Task: task.ID, State: job.Running, Attempt: 3, Version: 70, Started: epoch}))(t)
	republish(true)
	republish(false)
	again := f.outbox()
	wantKinds(t, again, Publish)
	if !reflect.DeepEqual(again[0].Job, sent.Job) {
		t.Errorf("sent %+v\nthen %+v", sent.Job, again[0].Job)
	}
	if got := f.get(task); !reflect.DeepEqual(got, task) {
		t.Errorf("a new start: %+v, want %+v", got, task)
	}
	// A queue that lost everything counts anew.
	if effect := must(f.Apply(ctx, Update{Task: task.ID, State: job.Running, Attempt: 1, Version: 1}))(t); effect != Applied {
		t.Error(effect)
	}
	if err := f.Complete(ctx, again[0].ID); err != nil {
		t.Fatal(err)
	}
	f.finish(task, "x")
	republish(false)
	if did, err := f.Republish(ctx, job.NewID()); did || err != nil {
		t.Errorf("unknown task: %v, %v", did, err)
	}
	_, err := f.Result(ctx, f.user.ID, job.NewID())
	if !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
