package store

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"steno/job"
)

func testFiles(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "talk.mp3", "talk")
	if got := must(f.File(ctx, f.user.ID, file.ID))(t); !reflect.DeepEqual(got, file) || file.Size != 1000 || file.Duration != 12.5 {
		t.Errorf("got  %+v\nwant %+v", got, file)
	}
	for name, bad := range map[string]func(*File){
		"no name": func(f *File) { f.Name = "" }, "NUL": func(f *File) { f.Name = "a\x00" },
		"no text": func(f *File) { f.Name = "\xff" },
	} {
		n := fileOf(f.user, "x", "x")
		bad(&n)
		_, err := f.AddFile(ctx, n)
		if e := job.AsError(err); err == nil || e.Class != job.Input || e.Code != "BAD_FILE" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]func(*File){
		"hash": func(f *File) { f.SHA256 = "X" }, "object": func(f *File) { f.Object = "" }, "size": func(f *File) { f.Size = 0 },
		"media": func(f *File) { f.Media = []byte("{") },
	} {
		n := fileOf(f.user, "x", "x")
		bad(&n)
		_, err := f.AddFile(ctx, n)
		if e := job.AsError(err); err == nil || e.Class != job.Internal || e.Code != "BAD_FILE" {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := f.AddFile(ctx, fileOf(User{ID: "nobody"}, "x", "x"))
	wantCode(t, err, job.Input, "USER_NOT_FOUND")
}

// The same content is one object; it is freed with its last file, and only then.
func testSharedObject(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	eve := f.addUser("eve")
	mine := f.addFile(f.user, "mine.mp3", "song")
	again := f.addFile(f.user, "again.mp3", "song")
	n := fileOf(eve, "hers.mp3", "song")
	n.Object, n.Duration = "another key", 99
	hers := must(f.AddFile(ctx, n))(t)
	if hers.Object != mine.Object || hers.Duration != 12.5 || hers.Name != "hers.mp3" || hers.ID == mine.ID {
		t.Errorf("hers %+v", hers)
	}
	for _, file := range []File{mine, again} {
		if freed, _, err := f.DeleteFile(ctx, f.user.ID, file.ID); err != nil || freed != "" {
			t.Errorf("freed %s too early", freed)
		}
	}
	_, _, err := f.DeleteFile(ctx, f.user.ID, mine.ID)
	wantCode(t, err, job.Input, "FILE_NOT_FOUND")
	if commands := f.outbox(); len(commands) != 0 {
		t.Errorf("commands %+v", commands)
	}
	if freed, _, err := f.DeleteFile(ctx, eve.ID, hers.ID); err != nil || freed != mine.Object {
		t.Errorf("freed %q, want %q", freed, mine.Object)
	}
	commands := f.outbox()
	wantKinds(t, commands, Purge)
	if commands[0].Object != mine.Object {
		t.Errorf("purge %+v", commands[0])
	}
}

// Content that comes back before its deletion has begun stays; while it goes on, the upload has to wait.
func testObjectUnderDeletion(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	drop := func(file File) {
		if _, _, err := f.DeleteFile(ctx, f.user.ID, file.ID); err != nil {
			t.Fatal(err)
		}
	}
	drop(f.addFile(f.user, "a.mp3", "a"))
	back := f.addFile(f.user, "a.mp3", "a")
	if commands := f.outbox(); len(commands) != 0 {
		t.Fatalf("content that is wanted again is to be purged: %+v", commands)
	}
	drop(back)
	purge := f.outbox()
	wantKinds(t, purge, Purge)
	_, err := f.AddFile(ctx, fileOf(f.user, "a.mp3", "a"))
	wantCode(t, err, job.Transient, "OBJECT_BUSY")
	if err := f.Complete(ctx, purge[0].ID); err != nil {
		t.Fatal(err)
	}
	f.addFile(f.user, "a.mp3", "a")
}

// Uploads and deletions of one content at once: at the end it is purged if and only if no file names it.
func testFilesConcurrently(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	for round := range 10 {
		content := fmt.Sprint("content", round)
		first := f.addFile(f.user, "x", content)
		var all sync.WaitGroup
		all.Go(func() {
			if _, _, err := f.DeleteFile(ctx, f.user.ID, first.ID); err != nil {
				t.Error(err)
			}
		})
		for range 3 {
			all.Go(func() {
				file, err := f.AddFile(ctx, fileOf(f.user, "y", content))
				if err == nil && round%2 == 0 {
					_, _, err = f.DeleteFile(ctx, f.user.ID, file.ID)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		commands := f.outbox()
		if want := 1 - round%2; len(commands) != want {
			t.Fatalf("round %d: %d purges, want %d", round, len(commands), want)
		}
	}
}

func testOwnership(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	eve := f.addUser("eve")
	file := f.addFile(f.user, "talk.mp3", "talk")
	task := f.addTask(f.user, file)
	f.finish(task, "secret")
	open := f.addTask(f.user, file)
	for name, do := range map[string]func() error{
		"FILE_NOT_FOUND get":    func() error { _, err := f.File(ctx, eve.ID, file.ID); return err },
		"FILE_NOT_FOUND delete": func() error { _, _, err := f.DeleteFile(ctx, eve.ID, file.ID); return err },
		"FILE_NOT_FOUND use":    func() error { _, _, err := f.CreateTask(ctx, NewTask{User: eve.ID, File: file.ID}); return err },
		"TASK_NOT_FOUND get":    func() error { _, err := f.Task(ctx, eve.ID, task.ID); return err },
		"TASK_NOT_FOUND result": func() error { _, err := f.Result(ctx, eve.ID, task.ID); return err },
		"TASK_NOT_FOUND cancel": func() error { _, err := f.CancelTask(ctx, eve.ID, open.ID); return err },
		"TASK_NOT_FOUND delete": func() error { return f.DeleteTask(ctx, eve.ID, task.ID) },
	} {
		err := do()
		if e := job.AsError(err); err == nil || e.Code != name[:14] || !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tasks, _, err := f.History(ctx, eve.ID, Filter{}, "", 10); err != nil || len(tasks) != 0 {
		t.Errorf("her history: %v, %v", tasks, err)
	}
	// Nothing of it has changed anything.
	if f.get(open).Cancelling || f.get(task).Status != job.Done {
		t.Error("she has changed a task")
	}
}
