package store

import (
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"steno/job"
)

func testRevisions(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	task := f.addTask(f.user, f.addFile(f.user, "talk.mp3", "talk"))
	_, _, err := f.Revised(ctx, f.user.ID, task.ID, Newest)
	wantCode(t, err, job.Input, "NOT_DONE")
	_, err = f.Revise(ctx, f.user.ID, task.ID, Original, *say("too early"))
	wantCode(t, err, job.Input, "NOT_DONE")
	f.finish(task, "heard")

	text := func(number, want int) string {
		t.Helper()
		r, got, err := f.Revised(ctx, f.user.ID, task.ID, number)
		if err != nil || got != want {
			t.Errorf("revision %d is number %d, %v; want %d", number, got, err, want)
		}
		return r.Transcript.Text
	}
	if got := text(Newest, Original); got != "heard" {
		t.Errorf("before any edit: %q", got)
	}
	f.pass(time.Minute)
	first := must(f.Revise(ctx, f.user.ID, task.ID, Original, *say("corrected")))(t)
	f.pass(time.Minute)
	second := must(f.Revise(ctx, f.user.ID, task.ID, 1, *say("corrected again")))(t)
	if first.Number != 1 || second.Number != 2 || second.Created.Sub(first.Created) != time.Minute || second.Bytes < 100 {
		t.Errorf("revisions %+v, %+v", first, second)
	}
	for number, want := range map[int]string{Original: "heard", 1: "corrected", 2: "corrected again"} {
		if got := text(number, number); got != want {
			t.Errorf("revision %d: %q", number, got)
		}
	}
	if got := text(Newest, 2); got != "corrected again" {
		t.Errorf("the newest: %q", got)
	}
	if got := must(f.Result(ctx, f.user.ID, task.ID))(t); got.Transcript.Text != "heard" {
		t.Errorf("the original has become %q", got.Transcript.Text)
	}
	if got := must(f.Revisions(ctx, f.user.ID, task.ID))(t); !reflect.DeepEqual(got, []Revision{second, first}) {
		t.Errorf("list %+v", got)
	}

	_, err = f.Revise(ctx, f.user.ID, task.ID, 1, *say("late"))
	wantCode(t, err, job.Input, "EDITED_MEANWHILE")
	if !errors.Is(err, ErrConflict) {
		t.Errorf("a late edit: %v", err)
	}
	_, _, err = f.Revised(ctx, f.user.ID, task.ID, 3)
	wantCode(t, err, job.Input, "REVISION_NOT_FOUND")
	other := f.addUser("other")
	_, err = f.Revise(ctx, other.ID, task.ID, 2, *say("not mine"))
	wantCode(t, err, job.Input, "TASK_NOT_FOUND")
	_, err = f.Revisions(ctx, other.ID, task.ID)
	wantCode(t, err, job.Input, "TASK_NOT_FOUND")
	_, _, err = f.Revised(ctx, other.ID, task.ID, 2)
	wantCode(t, err, job.Input, "TASK_NOT_FOUND")

	var all sync.WaitGroup
	var won atomic.Int32
	for range 8 { // who edit at the same time
		all.Go(func() {
			if _, err := f.Revise(ctx, f.user.ID, task.ID, 2, *say("at once")); err == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d edits of the same revision were saved", won.Load())
	}

	// Another task takes over what was heard, not what was written over it; and edits go with their task.
	if err := f.DeleteTask(ctx, f.user.ID, task.ID); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := f.write.QueryRow("SELECT COUNT(*) FROM revisions").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d revisions of a deleted task are left, %v", left, err)
	}
}
