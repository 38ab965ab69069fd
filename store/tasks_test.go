package store

import (
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"steno/job"
)

func testCreateTask(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	params := job.Params{Model: "tiny", Language: "de", Prompt: "Größe", Words: true, ChunkSeconds: 12.5}
	task, created, err := f.CreateTask(ctx, NewTask{User: f.user.ID, File: file.ID, Params: params, Priority: 3, Webhook: "https://x/y"})
	if err != nil || !created {
		t.Fatal(created, err)
	}
	params.Task = job.Transcribe
	want := Task{
		ID: task.ID, User: f.user.ID, File: file.ID, FileName: "talk.mp3", SHA256: file.SHA256, Duration: 12.5, Params: params,
		Priority: 3, Webhook: "https://x/y", Status: job.Queued, Stage: job.StageQueue, Created: epoch, Updated: epoch,
	}
	if got := must(f.Task(ctx, f.user.ID, task.ID))(t); !reflect.DeepEqual(got, want) || !reflect.DeepEqual(task, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	commands := f.outbox()
	wantKinds(t, commands, Publish)
	j := job.Job{
		ID: task.ID, User: f.user.ID, FileName: "talk.mp3", Params: params, Priority: 3, Webhook: "https://x/y", Created: epoch,
		Source: job.Source{Object: file.Object, SHA256: file.SHA256, Size: 1000},
	}
	if c := commands[0]; !reflect.DeepEqual(c.Job, j) || c.Task != task.ID || c.Tries != 1 {
		t.Errorf("command %+v\nwant job %+v", c, j)
	}
	for code, n := range map[string]NewTask{
		"FILE_NOT_FOUND": {User: f.user.ID, File: "none"},
		"BAD_PARAMETER":  {User: f.user.ID, File: file.ID, Params: job.Params{Language: "klingon"}},
		"BAD_TASK":       {User: f.user.ID, File: file.ID, IdempotencyKey: string(make([]byte, 300))},
	} {
		if code == "BAD_TASK" {
			n.IdempotencyKey = sum("a") + sum("b") + sum("c") + sum("d")
		}
		_, _, err := f.CreateTask(ctx, n)
		wantCode(t, err, job.Input, code)
	}
	if commands := f.outbox(); len(commands) != 0 {
		t.Errorf("commands of tasks that were refused: %+v", commands)
	}
}

func testIdempotency(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	n := NewTask{User: f.user.ID, File: file.ID, IdempotencyKey: "k1", RequestHash: "h1"}
	first, created, err := f.CreateTask(ctx, n)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	f.pass(time.Hour)
	again, created, err := f.CreateTask(ctx, n)
	if err != nil || created || !reflect.DeepEqual(again, first) {
		t.Errorf("again: %+v, %v, %v; want %+v", again, created, err, first)
	}
	n.RequestHash = "h2"
	_, _, err = f.CreateTask(ctx, n)
	wantCode(t, err, job.Input, "IDEMPOTENCY_MISMATCH")
	if !errors.Is(err, ErrConflict) {
		t.Error("a mismatch is no conflict")
	}
	wantKinds(t, f.outbox(), Publish)

	// Keys are per user.
	eve := f.addUser("eve")
	hers := NewTask{User: eve.ID, File: f.addFile(eve, "x", "x").ID, IdempotencyKey: "k1", RequestHash: "h1"}
	if _, created, err := f.CreateTask(ctx, hers); err != nil || !created {
		t.Errorf("her task: %v, %v", created, err)
	}
	// The answer holds even when the file has gone since.
	f.finish(first, "x")
	if _, _, err := f.DeleteFile(ctx, f.user.ID, file.ID); err != nil {
		t.Fatal(err)
	}
	n.RequestHash = "h1"
	if again, created, err := f.CreateTask(ctx, n); err != nil || created || again.ID != first.ID || again.File != "" {
		t.Errorf("without its file: %+v, %v, %v", again, created, err)
	}
}

// Many requests with one key at once, over two processes' worth of stores, make one task.
func testIdempotentRace(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	second := f.reopen(Config{})
	file := f.addFile(f.user, "talk.mp3", "talk")
	n := NewTask{User: f.user.ID, File: file.ID, RequestHash: "h"}
	for _, n.IdempotencyKey = range []string{"a", "b", "c", "d", "e"} {
		var all sync.WaitGroup
		ids, fresh := make([]job.ID, 16), make([]bool, 16)
		for i := range ids {
			all.Go(func() {
				s := []*Store{f.Store, second}[i%2]
				task, created, err := s.CreateTask(ctx, n)
				if err != nil {
					t.Error(err)
				}
				ids[i], fresh[i] = task.ID, created
			})
		}
		all.Wait()
		made := 0
		for i := range ids {
			if ids[i] != ids[0] {
				t.Fatalf("tasks %s and %s of one key", ids[i], ids[0])
			}
			if fresh[i] {
				made++
			}
		}
		if made != 1 {
			t.Errorf("%d calls say that they made the task", made)
		}
		wantKinds(t, f.outbox(), Publish)
	}
}

func testReuse(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	eve := f.addUser("eve")
	n := NewTask{User: f.user.ID, File: f.addFile(f.user, "mine.mp3", "song").ID, Reuse: true, Webhook: "https://x"}
	first, _, err := f.CreateTask(ctx, n)
	if err != nil || first.Reused || first.Status != job.Queued {
		t.Fatalf("nothing to reuse yet: %+v, %v", first, err)
	}
	f.finish(first, "la la")
	f.drain()
	f.pass(time.Minute)

	hers := NewTask{User: eve.ID, File: f.addFile(eve, "hers.mp3", "song").ID, Reuse: true}
	for name, different := range map[string]NewTask{
		"not asked for":    {User: eve.ID, File: hers.File},
		"other parameters": {User: eve.ID, File: hers.File, Reuse: true, Params: job.Params{Words: true}},
		"other model":      {User: eve.ID, File: hers.File, Reuse: true, Params: job.Params{Model: "tiny"}},
		"other content":    {User: eve.ID, File: f.addFile(eve, "x", "other").ID, Reuse: true},
	} {
		if task, _, err := f.CreateTask(ctx, different); err != nil || task.Reused || task.Status != job.Queued {
			t.Errorf("%s: %+v, %v", name, task, err)
		}
		wantKinds(t, f.outbox(), Publish)
	}
	task, created, err := f.CreateTask(ctx, hers)
	if err != nil || !created || !task.Reused || task.Status != job.Done || task.Progress != 1 || !task.Ended.Equal(f.clock()) {
		t.Fatalf("reused: %+v, %v, %v", task, created, err)
	}
	if task.User != eve.ID || task.FileName != "hers.mp3" || !reflect.DeepEqual(task, f.get(task)) {
		t.Errorf("more than the transcript was reused: %+v", task)
	}
	wantKinds(t, f.outbox())

	// Deleting either leaves the other whole.
	if err := f.DeleteTask(ctx, f.user.ID, first.ID); err != nil {
		t.Fatal(err)
	}
	if r := must(f.Result(ctx, eve.ID, task.ID))(t); r.Transcript.Text != "la la" {
		t.Errorf("her copy says %q", r.Transcript.Text)
	}
	wantKinds(t, f.outbox(), Delete)
	if err := f.DeleteTask(ctx, eve.ID, task.ID); err != nil {
		t.Fatal(err)
	}
	wantKinds(t, f.outbox()) // the queue knows nothing of a reused task
	if task, _, err := f.CreateTask(ctx, hers); err != nil || task.Reused {
		t.Errorf("nothing is left to reuse: %+v, %v", task, err)
	}
	// Nor is one taken over that lacks what was asked for: another try may have it.
	n.Webhook = ""
	lacking, _, err := f.CreateTask(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	said := say("nobody knows who")
	said.Incomplete = true
	u := Update{Task: lacking.ID, State: job.Done, Attempt: 1, Version: 9, Result: said}
	if effect, err := f.Apply(ctx, u); effect != Applied || err != nil {
		t.Fatal(effect, err)
	}
	if task, _, err := f.CreateTask(ctx, hers); err != nil || task.Reused {
		t.Errorf("an incomplete transcript was taken over: %+v, %v", task, err)
	}
	if r := must(f.Result(ctx, f.user.ID, lacking.ID))(t); r.Transcript.Text != said.Text || !r.Transcript.Incomplete {
		t.Errorf("the incomplete transcript is %+v", r.Transcript)
	}
	webhooks := must(f.Claim(ctx, LaneWebhook, 10, time.Minute))(t)
	if len(webhooks) != 0 {
		t.Errorf("webhooks of deleted tasks: %+v", webhooks)
	}
}

func testCancel(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")

	// Not published yet: the queue never hears of it.
	task := f.addTask(f.user, file)
	got := must(f.CancelTask(ctx, f.user.ID, task.ID))(t)
	if got.Status != job.Cancelled || !reflect.DeepEqual(got, f.get(task)) {
		t.Errorf("cancelled at once: %+v", got)
	}
	wantKinds(t, f.outbox())
	_, err := f.CancelTask(ctx, f.user.ID, task.ID)
	wantCode(t, err, job.Input, "TASK_ENDED")

	// On its way to the queue: the cancel follows, once.
	task = f.addTask(f.user, file)
	publish := f.outbox()
	for range 3 {
		if got := must(f.CancelTask(ctx, f.user.ID, task.ID))(t); !got.Cancelling || got.Status != job.Queued {
			t.Errorf("to be cancelled: %+v", got)
		}
	}
	wantKinds(t, f.outbox()) // not before the other is through
	if err := f.Complete(ctx, publish[0].ID); err != nil {
		t.Fatal(err)
	}
	wantKinds(t, f.outbox(), Cancel)
	if effect := must(f.Apply(ctx, Update{Task: task.ID, State: job.Cancelled, Version: 2}))(t); effect != Applied {
		t.Error(effect)
	}
	if got := f.get(task); got.Status != job.Cancelled || !got.Ended.Equal(epoch) {
		t.Errorf("cancelled: %+v", got)
	}
}

func testDelete(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	task := f.addTask(f.user, file)
	wantCode(t, f.DeleteTask(ctx, f.user.ID, task.ID), job.Input, "TASK_OPEN")
	_, _, err := f.DeleteFile(ctx, f.user.ID, file.ID)
	wantCode(t, err, job.Input, "FILE_IN_USE")
	_, err = f.Result(ctx, f.user.ID, task.ID)
	wantCode(t, err, job.Input, "NOT_DONE")

	f.drain()
	f.finish(task, "hello")
	freed, tasks, err := f.DeleteFile(ctx, f.user.ID, file.ID)
	if err != nil || freed != file.Object || !slices.Equal(tasks, []job.ID{task.ID}) {
		t.Errorf("freed %q of tasks %v: %v", freed, tasks, err)
	}
	if got := f.get(task); got.File != "" || got.FileName != "talk.mp3" {
		t.Errorf("a task outlives its file: %+v", got)
	}
	if r := must(f.Result(ctx, f.user.ID, task.ID))(t); r.Transcript.Text != "hello" {
		t.Errorf("and so does its transcript: %+v", r)
	}
	if err := f.DeleteTask(ctx, f.user.ID, task.ID); err != nil {
		t.Fatal(err)
	}
	wantKinds(t, f.outbox(), Purge, Delete)
	_, err = f.Task(ctx, f.user.ID, task.ID)
	wantCode(t, err, job.Input, "TASK_NOT_FOUND")
	if effect := must(f.Apply(ctx, Update{Task: task.ID, State: job.Running, Attempt: 9, Version: 9}))(t); effect != Unknown {
		t.Errorf("a deleted task came back: %s", effect)
	}
	var results int
	if err := f.read.QueryRow("SELECT count(*) FROM results").Scan(&results); err != nil || results != 0 {
		t.Errorf("%d results left, %v", results, err)
	}
}
