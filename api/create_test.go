package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"steno/job"
	"steno/queue"
	"steno/transcript"
)

const createPath = "/api/v1/transcription/create"

// listed is how many tasks a user has.
func (r *rig) listed(as user) int {
	r.Helper()
	var page struct{ Total int }
	r.call(as, "GET", historyPath+"?page=1", nil).want(200).json(&page)
	return page.Total
}

// A key makes repeated calls create one task, whoever sends them at the same time.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := r.upload(r.ada, "a.wav", wav(1))
	body := map[string]any{"file_id": f.ID, "reuse": false, "language": "en"}
	ask := func(as user, key string, body any) *reply {
		t.Helper()
		return r.call(as, "POST", createPath, body, "Idempotency-Key", key)
	}
	var first, again, other taskOf
	p := ask(r.ada, "k1", body).want(201).json(&first)
	if p.Header.Get("Idempotency-Replayed") != "" || p.Header.Get("Location") != taskPath(first.ID, "/status") {
		t.Errorf("header %v", p.Header)
	}
	r.await(r.ada, first.ID, job.Done)
	p = ask(r.ada, "k1", []byte(`{"language":"en", "reuse":false, "file_id":"`+f.ID+`"}`)).want(201).json(&again)
	if p.Header.Get("Idempotency-Replayed") != "true" || again.ID != first.ID || again.Status != job.Done {
		t.Errorf("again: %+v, header %v", again, p.Header)
	}
	ask(r.ada, "k2", body).want(201).json(&other)
	if other.ID == first.ID {
		t.Error("another key gives the same task")
	}
	for what, change := range map[string]any{
		"language": "de", "words": true, "model": "tiny.en", "prompt": "x", "task": "translate", "reuse": true,
	} {
		another := maps.Clone(body)
		another[what] = change
		ask(r.ada, "k1", another).problem(409, "IDEMPOTENCY_MISMATCH")
	}
	// Keys are the user's own, and stay good when the file has gone.
	g := r.upload(r.eve, "a.wav", wav(1))
	ask(r.eve, "k1", map[string]any{"file_id": g.ID}).want(201)
	r.await(r.ada, other.ID, job.Done)
	r.call(r.ada, "DELETE", filesPath+"/"+f.ID, nil).want(204)
	if ask(r.ada, "k1", body).want(201).json(&again); again.ID != first.ID {
		t.Errorf("without its file: %+v", again)
	}
	ask(r.ada, "k3", body).problem(404, "FILE_NOT_FOUND")
	ask(r.ada, strings.Repeat("k", 256), body).problem(422, "BAD_FIELD")
	ask(r.ada, "k\xff", body).problem(422, "BAD_PARAMETER")
	if n := r.listed(r.ada); n != 2 {
		t.Errorf("ada has %d tasks", n)
	}
}

func TestIdempotencyAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var runs atomic.Int64
	r.work(func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		runs.Add(1)
		return say("once")(ctx, d)
	})
	f := r.upload(r.ada, "a.wav", wav(1))
	var all sync.WaitGroup
	replies := make([]*reply, 10)
	for i := range replies {
		all.Go(func() {
			replies[i] = r.call(r.ada, "POST", createPath, map[string]any{"file_id": f.ID}, "Idempotency-Key", "k")
		})
	}
	all.Wait()
	fresh, ids := 0, map[job.ID]bool{}
	for _, p := range replies {
		var task taskOf
		p.want(201).json(&task)
		ids[task.ID] = true
		if p.Header.Get("Idempotency-Replayed") == "" {
			fresh++
		}
	}
	if len(ids) != 1 || fresh != 1 || r.listed(r.ada) != 1 {
		t.Errorf("%d tasks of which %d are new; the history has %d", len(ids), fresh, r.listed(r.ada))
	}
	for id := range ids {
		r.recorded(id)
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// A transcript of the same content, model and parameters is taken over, unless that is not wanted.
func TestReuse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var runs atomic.Int64
	r.work(func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		return say(fmt.Sprintf("run %d", runs.Add(1)))(ctx, d)
	})
	a, b, other := r.upload(r.ada, "a.wav", wav(1)), r.upload(r.eve, "b.wav", wav(1)), r.upload(r.eve, "b.wav", wav(2))
	for _, row := range []struct {
		what   string
		as     user
		body   map[string]any
		reused bool
		text   string
	}{
		{"first", r.ada, map[string]any{"file_id": a.ID}, false, "run 1"},
		{"the same", r.ada, map[string]any{"file_id": a.ID}, true, "run 1"},
		{"same in full", r.ada, map[string]any{"file_id": a.ID, "reuse": true, "model": "base", "language": "auto"}, true, "run 1"},
		{"somebody else's of the same content", r.eve, map[string]any{"file_id": b.ID}, true, "run 1"},
		{"other content", r.eve, map[string]any{"file_id": other.ID}, false, "run 2"},
		{"other parameter", r.ada, map[string]any{"file_id": a.ID, "language": "en"}, false, "run 3"},
		{"other model", r.ada, map[string]any{"file_id": a.ID, "model": "tiny.en"}, false, "run 4"},
		{"anew", r.ada, map[string]any{"file_id": a.ID, "reuse": false}, false, "run 5"},
	} {
		var task taskOf
		r.call(row.as, "POST", createPath, row.body).want(201).json(&task)
		if task.Reused != row.reused || (task.Status == job.Done) != row.reused {
			t.Errorf("%s: created %+v", row.what, task)
		}
		if got := r.await(row.as, task.ID, job.Done); got.Reused != row.reused || got.Progress != 1 {
			t.Errorf("%s: status %+v", row.what, got)
		}
		got := r.call(row.as, "GET", taskPath(task.ID, "/download"), nil).want(200)
		if strings.TrimSpace(string(got.body)) != row.text {
			t.Errorf("%s: text %q, want %q", row.what, got.body, row.text)
		}
		if !row.reused {
			r.recorded(task.ID) // then the next may take it over
		}
	}
}

// What cannot be done is refused before there is a task, by a code and the field that is wrong.
func TestBadTasks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := r.upload(r.ada, "a.wav", wav(1))
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, row := range []struct {
		field  string
		value  any
		status int
		code   string
	}{
		{"file_id", "", 404, "FILE_NOT_FOUND"},
		{"file_id", string(job.NewID()), 404, "FILE_NOT_FOUND"},
		{"file_id", "a\x00b", 404, "FILE_NOT_FOUND"},
		{"file_id", "../" + f.ID, 404, "FILE_NOT_FOUND"},
		{"file_id", nil, 422, "BAD_FIELD"},
		{"file_id", 7, 422, "BAD_FIELD"},
		{"file_id", long(65), 422, "BAD_FIELD"},
		{"color", "red", 422, "BAD_FIELD"},
		{"words", "yes", 422, "BAD_FIELD"},
		{"language", 7, 422, "BAD_FIELD"},
		{"language", []string{"en"}, 422, "BAD_FIELD"},
		{"language", long(9), 422, "BAD_FIELD"},
		{"language", "xx", 422, "BAD_PARAMETER"},
		{"language", "de en", 422, "BAD_PARAMETER"},
		{"task", "sing", 422, "BAD_FIELD"},
		{"task", "", 422, "BAD_FIELD"},
		{"model", "whisper-huge", 422, "MODEL_UNKNOWN"},
		{"model", long(65), 422, "BAD_FIELD"},
		{"prompt", long(4097), 422, "BAD_FIELD"},
		{"prompt", "a\x00b", 422, "BAD_PARAMETER"},
		{"diarization", "left", 422, "BAD_FIELD"},
		{"reuse", "maybe", 422, "BAD_FIELD"},
		{"webhook", "https://127.0.0.1/hook", 422, "BAD_WEBHOOK"},
		{"webhook", "https://[::ffff:10.0.0.1]/hook", 422, "BAD_WEBHOOK"},
		{"webhook", "https://169.254.169.254/latest/meta-data", 422, "BAD_WEBHOOK"},
		{"webhook", "http://example.com/hook", 422, "BAD_WEBHOOK"},
		{"webhook", "https://user:secret@example.com/", 422, "BAD_WEBHOOK"},
		{"webhook", "file:///etc/passwd", 422, "BAD_WEBHOOK"},
		{"webhook", "hook", 422, "BAD_WEBHOOK"},
		{"webhook", "https://example.com/" + long(2048), 422, "BAD_FIELD"},
	} {
		body := map[string]any{"file_id": f.ID, row.field: row.value}
		p := r.call(r.ada, "POST", createPath, body)
		p.problem(row.status, row.code)
		if row.code != "BAD_FIELD" {
			continue
		}
		var v struct {
			Errors []struct{ Location, Message string }
		}
		if p.json(&v); len(v.Errors) != 1 || v.Errors[0].Location != "body."+row.field || v.Errors[0].Message == "" {
			t.Errorf("%s %v: errors %+v", row.field, row.value, v.Errors)
		}
	}
	good := `{"file_id":"` + f.ID + `"}`
	for what, row := range map[string]struct {
		body, kind string
		status     int
		code       string
	}{
		"half an object": {good[:10], "application/json", 400, "BAD_REQUEST"},
		"two objects":    {good + good, "application/json", 400, "BAD_REQUEST"},
		"nothing":        {"", "application/json", 400, "BAD_REQUEST"},
		"a list":         {"[" + good + "]", "application/json", 422, "BAD_FIELD"},
		"null":           {"null", "application/json", 422, "BAD_FIELD"},
		"no field":       {"{}", "application/json", 422, "BAD_FIELD"},
		"form":           {"file_id=" + f.ID, "application/x-www-form-urlencoded", 415, "UNSUPPORTED_MEDIA_TYPE"},
		"plain text":     {good, "text/plain", 415, "UNSUPPORTED_MEDIA_TYPE"},
		"too large":      {`{"file_id":"` + f.ID + `","prompt":"` + long(64<<10) + `"}`, "application/json", 413, "BODY_TOO_LARGE"},
	} {
		p := r.call(r.ada, "POST", createPath, []byte(row.body), "Content-Type", row.kind)
		p.what = what
		p.problem(row.status, row.code)
	}
	r.call(r.eve, "POST", createPath, map[string]any{"file_id": f.ID}).problem(404, "FILE_NOT_FOUND")
	r.call(user{}, "POST", createPath, map[string]any{"file_id": f.ID}).problem(401, "UNAUTHORIZED")
	if n := r.listed(r.ada) + r.listed(r.eve); n != 0 {
		t.Errorf("%d tasks were made", n)
	}

	// The most that is allowed is taken, and an id in lower case is the same.
	var task taskOf
	r.call(r.ada, "POST", createPath, map[string]any{
		"file_id": strings.ToLower(f.ID), "model": "tiny.en", "language": "haw", "task": "transcribe", "words": true,
		"diarization": true, "prompt": strings.Repeat("é", 4096), "allow_truncated": true, "reuse": true,
		"webhook": "https://hooks.example/" + long(2000),
	}).want(201).json(&task)
	var got map[string]any
	if err := json.Unmarshal(r.call(r.ada, "GET", taskPath(task.ID, "/status"), nil).want(200).body, &got); err != nil {
		t.Fatal(err)
	}
	if got["model"] != "tiny.en" || got["language"] != "haw" || got["file_id"] != f.ID {
		t.Errorf("task %v", got)
	}
}

// A task that has not ended is cancelled, and one that has is deleted.
func TestDeleteTask(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := make(chan struct{})
	var runs atomic.Int64
	r.work(func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		runs.Add(1)
		d.Progress(job.Progress{Stage: job.StageTranscribe, Done: 1, Total: 4})
		<-ctx.Done()
		<-stop // it takes its time to stop
		return transcript.Transcript{}, context.Cause(ctx)
	})
	f, g := r.upload(r.ada, "f.wav", wav(1)), r.upload(r.ada, "g.wav", wav(2))
	var running []job.ID
	for range 4 { // as many as the worker takes at the same time
		id := r.create(r.ada, f.ID).ID
		r.await(r.ada, id, job.Running)
		running = append(running, id)
	}
	queued := r.create(r.ada, g.ID).ID
	r.eventually("the queue has the task", func() bool {
		_, err := r.q.Status(t.Context(), queued)
		return err == nil
	})
	type cancelled struct {
		taskOf
		Cancelling bool `json:"cancelling"`
	}
	cancel := func(id job.ID, query string) (got cancelled) {
		t.Helper()
		r.status(r.ada, id) // for the cache
		r.call(r.ada, "DELETE", taskPath(id, query), nil).want(202).json(&got)
		return got
	}

	for _, id := range []job.ID{queued, running[0]} {
		r.call(r.eve, "DELETE", taskPath(id, ""), nil).problem(404, "TASK_NOT_FOUND")
		r.call(user{}, "DELETE", taskPath(id, ""), nil).problem(401, "UNAUTHORIZED")
		r.call(r.ada, "DELETE", taskPath(id, "?file=perhaps"), nil).problem(422, "BAD_FIELD")
	}
	if got := cancel(queued, "?file=true"); got.ID != queued || got.Status != job.Queued || !got.Cancelling {
		t.Errorf("the one that waits: %+v", got)
	}
	r.await(r.ada, queued, job.Cancelled)

	for range 2 { // to ask twice is to ask once
		if got := cancel(running[0], ""); got.ID != running[0] || got.Status != job.Running || !got.Cancelling {
			t.Errorf("the one that runs: %+v", got)
		}
		var now cancelled
		r.call(r.ada, "GET", taskPath(running[0], "/status"), nil).want(200).json(&now)
		if now.Status != job.Running || !now.Cancelling {
			t.Errorf("the one that runs, asked: %+v", now)
		}
	}
	cancel(running[1], "")
	cancel(running[2], "")
	close(stop)
	for _, id := range running[:3] {
		if got := r.await(r.ada, id, job.Cancelled); got.Error != nil || got.Stage == "" {
			t.Errorf("cancelled: %+v", got)
		}
		r.call(r.ada, "GET", taskPath(id, "/download"), nil).problem(409, "NOT_DONE")
	}

	// Ended ones are deleted; their file goes with them where that is wanted and nobody else needs it.
	gone := func(id job.ID) {
		t.Helper()
		for _, at := range []string{"/status", "/download", "/events"} {
			r.call(r.ada, "GET", taskPath(id, at), nil).problem(404, "TASK_NOT_FOUND")
		}
		r.call(r.ada, "DELETE", taskPath(id, ""), nil).problem(404, "TASK_NOT_FOUND")
	}
	r.call(r.ada, "DELETE", strings.ToLower(taskPath(running[0], "")), nil).want(204)
	gone(running[0])
	r.call(r.ada, "DELETE", taskPath(running[1], "?file=true"), nil).want(204)
	gone(running[1])
	r.call(r.ada, "GET", filesPath+"/"+f.ID, nil).want(200) // the fourth runs still
	cancel(running[3], "")
	r.await(r.ada, running[3], job.Cancelled)
	r.call(r.ada, "DELETE", taskPath(running[3], "?file=1"), nil).want(204)
	r.call(r.ada, "GET", filesPath+"/"+f.ID, nil).problem(404, "FILE_NOT_FOUND")
	if got := r.status(r.ada, running[2]); got.File != nil {
		t.Errorf("a task of the file that has gone: %+v", got)
	}
	r.call(r.ada, "DELETE", taskPath(queued, ""), nil).want(204)
	r.call(r.ada, "GET", filesPath+"/"+g.ID, nil).want(200) // what was cancelled with ?file=true kept it: tasks that end need it
	if n := runs.Load(); n != 4 {
		t.Errorf("%d jobs ran, and four should have", n)
	}
	for _, id := range []string{"X", "01ARZ3NDEKTSV4RRFFQ69G5FAV", strings.Repeat("0", 200)} {
		r.call(r.ada, "DELETE", "/api/v1/transcription/"+id, nil).problem(404, "TASK_NOT_FOUND")
	}
}
