package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"steno/api"
	"steno/job"
	"steno/queue"
	"steno/store"
	"steno/transcript"
)

const deadPath = "/api/v1/admin/dead-letters"

// letter is a dead letter as it is shown.
type letter struct {
	ID       string  `json:"letter_id"`
	Task     *job.ID `json:"task_id"`
	FileName string  `json:"file_name"`
	User     *string `json:"user_id"`
	Username *string
	Error    *job.Error
	Stage    job.Stage
	Attempts []struct {
		Number  int
		Worker  string
		Started time.Time `json:"started_at"`
		Ended   time.Time `json:"ended_at"`
		Outcome string
		Stage   job.Stage
		Error   *job.Error
	}
	Retries   int
	Retryable bool
	Failed    time.Time `json:"failed_at"`
}

func (l letter) path(rest string) string { return deadPath + "/" + l.ID + rest }

// letters are all dead letters, read in pages of n.
func (r *rig) letters(as user, n int) (all []letter) {
	r.Helper()
	for cursor := ""; ; {
		var page struct {
			Items []letter
			Limit int
			Next  *string `json:"next_cursor"`
		}
		r.call(as, "GET", fmt.Sprintf("%s?limit=%d&cursor=%s", deadPath, n, cursor), nil).want(200).json(&page)
		if len(page.Items) > n || page.Limit != n {
			r.Fatalf("a page of %d with limit %d", len(page.Items), page.Limit)
		}
		if all = append(all, page.Items...); page.Next == nil {
			return all
		}
		cursor = *page.Next
	}
}

// mendable is a handler that fails until the flag is set.
func mendable(mended *atomic.Bool) queue.Handler {
	return func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		if mended.Load() {
			return say("at last")(ctx, d)
		}
		d.Progress(job.Progress{Stage: job.StageProbe, Total: 2})
		return transcript.Transcript{}, &job.Error{
			Class: job.Input, Code: "NO_AUDIO_STREAM", Message: "there is no sound in it: send another file", Err: errors.New("a secret cause"),
		}
	}
}

// A task that has failed is tried again over the API, is open again for its user, whose stream of events begins anew, and ends well.
func TestRetryADeadLetter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.accountOf("root", store.RoleAdmin)
	var mended atomic.Bool
	r.work(mendable(&mended))
	file := r.upload(r.ada, "merger.wav", wav(1)).ID
	var task taskOf
	r.call(r.ada, "POST", "/api/v1/transcription/create", map[string]any{"file_id": file, "prompt": "Ada's secret words"}).want(201).json(&task)
	r.await(r.ada, task.ID, job.Failed)
	var l letter
	r.eventually("there is a dead letter", func() bool {
		all := r.letters(root, 10)
		if len(all) == 1 {
			l = all[0]
		}
		return len(all) == 1
	})
	if l.ID != string(task.ID) || l.Task == nil || *l.Task != task.ID || l.FileName != "merger.wav" || *l.User != r.ada.ID || *l.Username != "ada" ||
		l.Error.Code != "NO_AUDIO_STREAM" || l.Error.Class != job.Input || l.Stage != job.StageProbe || l.Retries != 0 || !l.Retryable ||
		time.Since(l.Failed) > time.Minute || len(l.Attempts) != 1 {
		t.Fatalf("the dead letter is %+v", l)
	}
	if a := l.Attempts[0]; a.Number != 1 || a.Worker != worker || a.Outcome != "failed" || a.Error == nil || a.Ended.Before(a.Started) {
		t.Errorf("its attempt is %+v", a)
	}
	one := r.call(root, "GET", strings.ToLower(l.path("")), nil).want(200)
	if bytes.Contains(one.body, []byte("secret")) {
		t.Errorf("it tells of what its user wrote, or of what is in the log: %s", one.body)
	}
	if one.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("it may be kept: %v", one.Header)
	}
	// Whoever watches sees it open again, though a stream has told of its end.
	if end := r.call(r.ada, "GET", taskPath(task.ID, "/events"), nil).want(200); !bytes.Contains(end.body, []byte("event: failed")) {
		t.Fatalf("events: %s", end.body)
	}
	release := make(chan struct{})
	r.work(hold(release))
	var retried struct {
		ID   string  `json:"letter_id"`
		Task *job.ID `json:"task_id"`
	}
	r.call(root, "POST", l.path("/retry"), nil).want(202).json(&retried)
	if retried.ID != l.ID || retried.Task == nil || *retried.Task != task.ID {
		t.Errorf("answer %+v", retried)
	}
	r.call(root, "POST", l.path("/retry"), nil).problem(404, "DEAD_LETTER_NOT_FOUND")
	if again := r.await(r.ada, task.ID, job.Running); again.Error != nil {
		t.Errorf("it runs again with an error: %+v", again)
	}
	if len(r.letters(root, 10)) != 0 {
		t.Error("its dead letter is still listed")
	}
	time.AfterFunc(100*time.Millisecond, func() { close(release) })
	story := string(r.call(r.ada, "GET", taskPath(task.ID, "/events"), nil).want(200).body)
	if !strings.Contains(story, "event: done") || strings.Contains(story, "event: failed") {
		t.Errorf("events: %s", story)
	}
	r.await(r.ada, task.ID, job.Done)
	if text := r.call(r.ada, "GET", taskPath(task.ID, "/download"), nil).want(200).body; !bytes.Contains(text, []byte("released")) {
		t.Errorf("the transcript is %s", text)
	}
}

// What cannot be tried again says why.
func TestDeadLettersThatStay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.accountOf("root", store.RoleAdmin)
	r.work(mendable(new(atomic.Bool)))
	made := map[string]letter{}
	fail := func(name string, n uint32) (taskOf, fileOf) {
		t.Helper()
		file := r.upload(r.ada, name, wav(n))
		task := r.create(r.ada, file.ID)
		r.await(r.ada, task.ID, job.Failed)
		r.eventually("it has a dead letter", func() bool { return r.call(root, "GET", deadPath+"/"+string(task.ID), nil).StatusCode == 200 })
		made[name] = letter{ID: string(task.ID)}
		return task, file
	}
	deleted, _ := fail("deleted.wav", 1)
	_, gone := fail("gone.wav", 2)
	fail("plain.wav", 3)
	outside := job.Job{ID: job.NewID(), User: "shell", FileName: "of the shell.wav", Source: must(r.q.PutAudio(t.Context(), bytes.NewReader(wav(4))))(t)}
	if err := r.q.Submit(t.Context(), outside); err != nil {
		t.Fatal(err)
	}
	r.eventually("the command line's job has failed", func() bool { return len(r.letters(root, 100)) == 4 })
	var names []string
	for n := 1; n < 6; n++ {
		names = names[:0]
		for _, l := range r.letters(root, n) {
			names = append(names, l.FileName)
		}
		if want := []string{"of the shell.wav", "plain.wav", "gone.wav", "deleted.wav"}; !slices.Equal(names, want) {
			t.Errorf("in pages of %d: %v", n, names)
		}
	}
	if l := r.letters(root, 1)[0]; l.Task != nil || l.User != nil || l.Username != nil || !l.Retryable {
		t.Errorf("the command line's: %+v", l)
	}

	// Not the command that follows the deletion, but the record says that it is deleted: so it is right at once.
	if err := r.store.DeleteTask(t.Context(), r.ada.ID, deleted.ID); err != nil {
		t.Fatal(err)
	}
	r.call(root, "POST", made["deleted.wav"].path("/retry"), nil).problem(404, "TASK_NOT_FOUND")
	if err := r.q.DeleteAudio(t.Context(), must(r.store.File(t.Context(), r.ada.ID, gone.ID))(t).Object); err != nil {
		t.Fatal(err)
	}
	r.call(root, "POST", made["gone.wav"].path("/retry"), nil).problem(410, "AUDIO_MISSING")
	if got := r.status(r.ada, job.ID(made["gone.wav"].ID)); got.Status != job.Failed {
		t.Errorf("the task without audio is %s", got.Status)
	}
	for _, id := range []string{string(job.NewID()), "seq-1", "a.b", "*", "x%20y"} {
		r.call(root, "GET", deadPath+"/"+id, nil).problem(404, "DEAD_LETTER_NOT_FOUND")
		r.call(root, "POST", deadPath+"/"+id+"/retry", nil).problem(404, "DEAD_LETTER_NOT_FOUND")
	}
	for _, query := range []string{"cursor=0", "cursor=none+of+ours", "cursor=-1"} {
		r.call(root, "GET", deadPath+"?"+query, nil).problem(422, "BAD_CURSOR")
	}
	for _, query := range []string{"limit=0", "limit=101", "limit=x"} {
		r.call(root, "GET", deadPath+"?"+query, nil).problem(422, "BAD_FIELD")
	}
	for _, path := range []string{"GET " + deadPath, "GET " + made["plain.wav"].path(""), "POST " + made["plain.wav"].path("/retry")} {
		method, path, _ := strings.Cut(path, " ")
		r.call(r.ada, method, path, nil).problem(403, "NOT_ADMIN") // though it is hers
		r.call(user{}, method, path, nil).problem(401, "UNAUTHORIZED")
	}
}

// A gateway that was given no queue to show says so.
func TestNoDeadLetters(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) { c.Dead = nil })
	root := r.accountOf("root", store.RoleAdmin)
	r.call(root, "GET", deadPath, nil).problem(404, "NO_OPERATIONS")
	r.call(root, "GET", deadPath+"/x", nil).problem(404, "NO_OPERATIONS")
	r.call(root, "POST", deadPath+"/x/retry", nil).problem(404, "NO_OPERATIONS")
}
