package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"steno/api"
	"steno/job"
	"steno/queue"
	"steno/store"
	"steno/transcript"
)

// belongings are ada's, one of each kind, and in each state.
type belongings struct {
	tasks           map[job.State]job.ID
	file, key, gone string // gone is a key that was revoked
	upload          string // in parts, that has begun
}

// furnish gives ada one of everything. Her running tasks go on until release is closed.
func (r *rig) furnish(release <-chan struct{}) belongings {
	r.Helper()
	b := belongings{tasks: map[job.State]job.ID{}, file: r.upload(r.ada, "ada's merger.wav", wav(1)).ID}
	b.upload = path.Base(r.begin(r.ada, "ada's next merger.wav", 1000))
	b.tasks[job.Done] = r.finished(r.ada, b.file)
	r.work(func(context.Context, *queue.Delivery) (transcript.Transcript, error) {
		return transcript.Transcript{}, job.Errorf(job.Input, "NO_AUDIO_STREAM", "there is no sound in it: send another file")
	})
	b.tasks[job.Failed] = r.finished(r.ada, b.file)
	r.work(hold(release))
	b.tasks[job.Cancelled] = r.create(r.ada, b.file).ID
	r.await(r.ada, b.tasks[job.Cancelled], job.Running)
	r.call(r.ada, "DELETE", taskPath(b.tasks[job.Cancelled], ""), nil).want(202)
	r.recorded(b.tasks[job.Cancelled])
	for range 4 { // as many as the worker takes
		id := r.create(r.ada, b.file).ID
		r.eventually("all is told of a running task", func() bool { return r.status(r.ada, id).Progress == 0.25 })
		b.tasks[job.Running] = id
	}
	b.tasks[job.Queued] = r.create(r.ada, b.file).ID
	r.eventually("the queue has all tasks", func() bool {
		n, _, err := r.store.Backlog(context.WithoutCancel(r.Context()), store.LaneQueue)
		return err == nil && n == 0
	})
	for _, id := range []*string{&b.key, &b.gone} {
		var k struct {
			ID string `json:"key_id"`
		}
		r.call(r.ada, "POST", "/api/v1/user/keys", map[string]string{"name": "laptop"}).want(201).json(&k)
		*id = k.ID
	}
	r.call(r.ada, "DELETE", "/api/v1/user/keys/"+b.gone, nil).want(204)
	for state, id := range b.tasks {
		if got := r.status(r.ada, id); got.Status != state {
			r.Fatalf("task %+v, want it %s", got, state)
		}
	}
	return b
}

// ids are the names of all that there is, by the part of a path that they fit.
func (b belongings) ids() map[string][]string {
	ids := map[string][]string{"file_id": {b.file}, "key_id": {b.key, b.gone}, "upload_id": {b.upload}}
	for _, id := range b.tasks {
		ids["task_id"] = append(ids["task_id"], string(id))
	}
	ids["node_id"] = []string{worker}
	ids["letter_id"] = []string{string(b.tasks[job.Failed])}
	return ids
}

// all is everything that record and queue know of a user.
func (r *rig) all(u user) string {
	r.Helper()
	ctx := context.WithoutCancel(r.Context())
	known := []any{must(r.store.User(ctx, u.ID))(r.T), must(r.store.APIKeys(ctx, u.ID))(r.T)}
	tasks, _, err := r.store.History(ctx, u.ID, store.Filter{}, "", store.MaxLimit)
	if err != nil {
		r.Fatal(err)
	}
	for _, t := range tasks {
		f, err := r.store.File(ctx, u.ID, t.File)
		result, _ := r.store.Result(ctx, u.ID, t.ID) // most have none
		s := must(r.q.Status(ctx, t.ID))(r.T)
		if t.Status == job.Running {
			t.Updated = time.Time{} // its heartbeat
		}
		known = append(known, t, f, err, result, s.State, s.Claims, s.Cancelling, s.Error)
	}
	n, _, err := r.store.Backlog(ctx, store.LaneQueue)
	return fmt.Sprintf("%s, %d commands, %v", must(json.MarshalIndent(known, "", " "))(r.T), n, err)
}

// answer is all of an answer that tells something, with the id that was asked for replaced.
func (r *rig) answer(as user, method, path, id string, body any) string {
	r.Helper()
	p := r.call(as, method, path, body, "X-Request-Id", "same")
	p.Header.Del("Date")
	text := fmt.Sprint(p.StatusCode, p.Header, string(p.body))
	return strings.NewReplacer(id, "ID", strings.ToUpper(id), "ID").Replace(text)
}

// What is somebody else's is answered exactly as what never was, by each route, in each state, and stays as it is.
func TestOthersThingsAreNotThere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	things := r.furnish(release)
	ids := things.ids()
	var every []string
	for name, list := range ids {
		if name != "upload_id" { // whose length shows in that of the answer
			every = append(every, list...)
		}
	}
	before := ""
	r.eventually("worker and relay have written all they have to say", func() bool {
		last := before
		time.Sleep(500 * time.Millisecond) // of silence
		before = r.all(r.ada)
		return before == last && strings.Contains(before, ", 0 commands, ")
	})
	routes := operations(t, r.call(user{}, "GET", "/openapi.json", nil).want(200).body)
	asked := 0
	compare := func(o operation, query, id, never string) {
		asked++
		path := func(id string) string { return strings.TrimSuffix(o.at(id)+"?"+query, "?") }
		theirs, nobodys := r.answer(r.eve, o.method, path(id), id, o.example), r.answer(r.eve, o.method, path(never), never, o.example)
		want := "404 "
		if strings.HasPrefix(o.path, "/api/v1/admin/") { // eve learns that she is none, and nothing else
			want = "403 "
		}
		if theirs != nobodys || !strings.HasPrefix(theirs, want) {
			t.Errorf("%s %s of ada's %s: %s\nof nobody's: %s", o.method, o.path, id, theirs, nobodys)
		}
		if now := r.all(r.ada); now != before {
			t.Fatalf("%s %s has changed what is ada's from %s\nto %s", o.method, path(id), before, now)
		}
	}
	for _, o := range routes {
		for _, name := range o.ids {
			if ids[name] == nil && name != "model" { // models are everybody's
				t.Fatalf("%s names a %s: say in this test what ada has of them", o.path, name)
			}
			for _, id := range every { // also of another kind
				compare(o, "", id, string(job.NewID()))
			}
			for _, id := range ids[name] {
				compare(o, "", strings.ToLower(id), strings.ToLower(string(job.NewID())))
				if o.query != "" {
					compare(o, o.query, id, string(job.NewID()))
				}
			}
		}
		for _, field := range o.body {
			if ids[field] == nil {
				t.Fatalf("%s takes a %s: say in this test what ada has of them", o.path, field)
			}
			for _, id := range ids[field] {
				never := string(job.NewID())
				theirs := r.answer(r.eve, o.method, o.path, id, map[string]string{field: id})
				if nobodys := r.answer(r.eve, o.method, o.path, never, map[string]string{field: never}); theirs != nobodys {
					t.Errorf("%s %s with ada's %s: %s\nwith nobody's: %s", o.method, o.path, field, theirs, nobodys)
				}
			}
		}
	}
	if now := r.all(r.ada); now != before || asked < 50 {
		t.Errorf("after %d requests from %s\nto %s", asked, before, now)
	}

	// All of it is there for ada, so that the same requests would have shown it.
	close(release)
	r.await(r.ada, things.tasks[job.Running], job.Done)
	r.await(r.ada, things.tasks[job.Queued], job.Done)
	r.eventually("the other tasks of the file have ended", func() bool {
		return !strings.Contains(string(r.call(r.ada, "GET", historyPath+"?status=running", nil).body), "task_id")
	})
	mine := map[string]string{"task_id": string(things.tasks[job.Done]), "file_id": things.file, "key_id": things.key}
	for _, o := range routes {
		for _, name := range o.ids {
			if got := r.call(r.ada, o.method, o.at(mine[name]), o.example); mine[name] != "" && got.StatusCode/100 != 2 {
				t.Errorf("%s: %d: %s", got.what, got.StatusCode, got.body)
			}
		}
	}
}

// Lists show what is the caller's, whatever place in somebody else's list is asked for.
func TestHistoriesAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	type page struct {
		Items []taskOf `json:"items"`
		Next  *string  `json:"next_cursor"`
		Total *int     `json:"total"`
	}
	owns := map[string]map[job.ID]bool{}
	for _, u := range []user{r.ada, r.eve} {
		f := r.upload(u, "same name.wav", wav(1))
		owns[u.ID] = map[job.ID]bool{}
		for range 3 {
			owns[u.ID][r.finished(u, f.ID)] = true
		}
	}
	for _, u := range []user{r.ada, r.eve} {
		for _, query := range []string{
			"", "?page=1", "?limit=2&page=2", "?status=done", "?file_name=same", "?limit=1", "?limit=100&page=1",
		} {
			var got page
			r.call(u, "GET", historyPath+query, nil).want(200).json(&got)
			if len(got.Items) == 0 || got.Total != nil && *got.Total != 3 {
				t.Errorf("%s: %s: %+v", u.Username, query, got)
			}
			for _, item := range got.Items {
				if !owns[u.ID][item.ID] {
					t.Errorf("%s sees %+v at %q", u.Username, item, query)
				}
			}
		}
	}
	var first page
	r.call(r.ada, "GET", historyPath+"?limit=1", nil).want(200).json(&first)
	r.call(r.ada, "GET", historyPath+"?limit=1&cursor="+*first.Next, nil).want(200)
	r.call(r.eve, "GET", historyPath+"?limit=1&cursor="+*first.Next, nil).problem(422, "BAD_CURSOR")
	var keys struct {
		Items []any `json:"items"`
	}
	r.call(r.ada, "POST", "/api/v1/user/keys", map[string]string{"name": "laptop"}).want(201)
	r.call(r.eve, "GET", "/api/v1/user/keys", nil).want(200).json(&keys)
	if len(keys.Items) != 0 {
		t.Errorf("eve has keys %v", keys.Items)
	}
	var secrets [2]string
	for i, u := range []user{r.ada, r.eve} {
		secrets[i] = string(r.call(u, "GET", "/api/v1/user/webhook-secret", nil).want(200).body)
	}
	if secrets[0] == secrets[1] {
		t.Errorf("both sign webhooks with %s", secrets[0])
	}
}

// An idempotency key is its user's own.
func TestIdempotencyKeysAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	create := func(u user, file string) *reply {
		body := map[string]any{"file_id": file, "reuse": false}
		return r.call(u, "POST", "/api/v1/transcription/create", body, "Idempotency-Key", "monday")
	}
	files := map[string]string{}
	for _, u := range []user{r.ada, r.eve} {
		files[u.ID] = r.upload(u, "a.wav", wav(1)).ID
	}
	var hers, eves taskOf
	create(r.ada, files[r.ada.ID]).want(201).json(&hers)
	create(r.eve, files[r.ada.ID]).problem(404, "FILE_NOT_FOUND")
	got := create(r.eve, files[r.eve.ID]).want(201).json(&eves)
	if hers.ID == eves.ID || got.Header.Get("Idempotency-Replayed") != "" {
		t.Errorf("eve gets task %s, ada has %s, %v", eves.ID, hers.ID, got.Header)
	}
	if again := create(r.ada, files[r.ada.ID]); again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("again: %v: %s", again.Header, again.body)
	}
}

// Of a transcript that is taken over from somebody else nothing but the transcript is seen, and it stays when the other goes.
func TestReuseTellsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hers := r.upload(r.ada, "merger.wav", wav(1))
	task := r.finished(r.ada, hers.ID)
	var seen strings.Builder
	tell := func(p *reply) *reply {
		fmt.Fprintln(&seen, p.Header, string(p.body))
		return p
	}
	mine := r.upload(r.eve, "mine.wav", wav(1))
	var copied taskOf
	tell(r.call(r.eve, "POST", "/api/v1/transcription/create", map[string]string{"file_id": mine.ID})).want(201).json(&copied)
	if !copied.Reused || copied.Status != job.Done || copied.ID == task || mine.ID == hers.ID {
		t.Fatalf("copy %+v of file %+v", copied, mine)
	}
	if got := r.status(r.eve, copied.ID); got.FileName != "mine.wav" || *got.File != mine.ID {
		t.Errorf("status %+v", got)
	}
	form, contentType := formOf(t, "another.wav", wav(1))
	tell(r.call(r.eve, "POST", "/v1/audio/transcriptions", form, "Content-Type", contentType)).want(200)
	paths := []string{taskPath(copied.ID, "/status"), taskPath(copied.ID, "/events"), historyPath, "/api/v1/files/" + mine.ID}
	for _, format := range []string{"text", "srt", "vtt", "json", "docx"} {
		paths = append(paths, taskPath(copied.ID, "/download?format="+format))
	}
	for _, path := range paths {
		tell(r.call(r.eve, "GET", path, nil)).want(200)
	}
	for _, secret := range []string{"merger", hers.ID, string(task), r.ada.ID, "ada"} {
		if strings.Contains(seen.String(), secret) {
			t.Errorf("eve reads %q in %s", secret, seen.String())
		}
	}
	r.call(r.ada, "DELETE", taskPath(task, "?file=true"), nil).want(204)
	r.call(r.ada, "GET", "/api/v1/files/"+hers.ID, nil).problem(404, "FILE_NOT_FOUND")
	r.eventually("the outbox is empty", func() bool {
		n, _, err := r.store.Backlog(context.WithoutCancel(t.Context()), store.LaneQueue)
		return err == nil && n == 0
	})
	if got := r.call(r.eve, "GET", "/api/v1/files/"+mine.ID+"/content", nil).want(200); string(got.body) != string(wav(1)) {
		t.Errorf("%d bytes of eve's file", len(got.body))
	}
	r.call(r.eve, "GET", taskPath(copied.ID, "/download"), nil).want(200)
}

// What is kept for one user is never the answer to another, whoever asks first. A gateway without a cache says what is right.
func TestCacheCrossesNoUsers(t *testing.T) {
	t.Parallel()
	var cfg api.Config
	r := newRig(t, func(c *api.Config) { cfg = *c })
	plain := r.quiet(cfg, func(c *api.Config) { c.CacheTTL = -1 })
	file := r.upload(r.ada, "a.wav", wav(1)).ID
	mine := map[string]string{"task_id": string(r.finished(r.ada, file)), "file_id": file, "": ""}
	cached := 0
	for _, order := range [][]user{{r.ada, r.eve, r.ada, r.eve}, {r.eve, r.ada, r.eve, r.ada}} {
		quiet := r.quiet(cfg)
		for _, o := range operations(t, plain.call(user{}, "GET", "/openapi.json", nil).want(200).body) {
			id, known := mine[strings.Join(o.ids, "")]
			path := o.at(id)
			if o.method != http.MethodGet || o.public || !known || plain.call(r.ada, "GET", path, nil).Header.Get("X-Cache") == "" {
				continue
			}
			cached++
			for i, u := range order {
				got, want := quiet.call(u, "GET", path, nil, "X-Request-Id", "same"), plain.call(u, "GET", path, nil, "X-Request-Id", "same")
				if got.StatusCode != want.StatusCode || string(got.body) != string(want.body) {
					t.Errorf("%s of %s: %d: %s\nwithout a cache %d: %s", path, u.Username, got.StatusCode, got.body, want.StatusCode, want.body)
				}
				if got.StatusCode == http.StatusOK {
					got.from([]string{"MISS", "HIT"}[i/2])
				}
				if (u.ID == r.eve.ID && id != "") != (got.StatusCode == http.StatusNotFound) {
					t.Errorf("%s of %s: %d", path, u.Username, got.StatusCode)
				}
			}
		}
	}
	if cached != 10 {
		t.Errorf("%d routes are cached in two orders: if there are others now, this test has seen them: change the number", cached)
	}
}
