package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"steno/api"
	"steno/job"
	"steno/store"
	"steno/transcript"
)

// stage is a gateway whose record and queue say what the test has them say. One task at a time can be followed.
type stage struct {
	*rig
	news    chan api.News
	version uint64
	ctx     context.Context
}

// Watch implements api.Live.
func (s *stage) Watch(context.Context, job.ID) (<-chan api.News, error) { return s.news, nil }

func newStage(t *testing.T, change ...func(*api.Config)) *stage {
	t.Helper()
	s := &stage{news: make(chan api.News), ctx: context.WithoutCancel(t.Context())}
	record := must(store.Open(t.Context(), filepath.Join(t.TempDir(), "steno.db"), store.Config{}))(t)
	t.Cleanup(func() { _ = record.Close() })
	cache := api.NewMemoryCache(16 << 20)
	t.Cleanup(func() { _ = cache.Close() })
	cfg := api.Config{
		Store: record, Objects: objects{}, Live: s, Cache: cache, Scratch: t.TempDir(), Partial: t.TempDir(), Metrics: prometheus.NewRegistry(),
		Keys: must(api.LoadKeys(filepath.Join(t.TempDir(), "keys")))(t),
		Probe: func(context.Context, string) (api.Media, error) {
			return api.Media{}, errors.New("nothing is uploaded here")
		},
		Resolve: resolve,
	}
	for _, f := range change {
		f(&cfg)
	}
	s.rig = &rig{T: t, server: must(api.New(cfg))(t), store: record, reg: cfg.Metrics.(*prometheus.Registry)}
	t.Cleanup(s.server.Close)
	s.ada, s.eve = s.guest("ada"), s.guest("eve")
	return s
}

// guest makes a user with an API key, which costs no work of a log-in.
func (s *stage) guest(name string) user {
	s.Helper()
	u := must(s.store.CreateUser(s.ctx, store.User{Username: name, PasswordHash: must(hashed())(s.T), Role: store.RoleUser}))(s.T)
	key, kept := api.NewAPIKey(u.ID, "test")
	must(s.store.CreateAPIKey(s.ctx, kept))(s.T)
	return user{u, key}
}

// open lets it answer over the network.
func (s *stage) open() *stage {
	at := httptest.NewServer(s.server)
	s.Cleanup(at.Close)
	s.base = at.URL
	return s
}

// task makes a task of ada's that nobody works on.
func (s *stage) task() job.ID {
	s.Helper()
	return s.taskOf(s.ada)
}

func (s *stage) taskOf(as user) job.ID {
	s.Helper()
	f := must(s.store.AddFile(s.ctx, store.File{
		User: as.ID, Name: "a.wav", SHA256: sumOf([]byte("a")), Object: sumOf([]byte("a")), Size: 1, Duration: 10,
	}))(s.T)
	t, _, err := s.store.CreateTask(s.ctx, store.NewTask{User: as.ID, File: f.ID})
	if err != nil {
		s.Fatal(err)
	}
	return t.ID
}

// record puts a state into the record, and tells the gateway if it is to know.
func (s *stage) record(id job.ID, state job.State, done float64, told bool) {
	s.Helper()
	s.version++
	u := store.Update{
		Task: id, State: state, Attempt: 1, Version: s.version,
		Progress: job.Progress{Stage: job.StageTranscribe, Done: done, Total: 10},
	}
	switch state {
	case job.Done:
		u.Result = &transcript.Transcript{Text: "all of it", Segments: []transcript.Segment{{End: 1, Text: "all of it"}}}
	case job.Failed:
		u.Error = job.Errorf(job.Input, "NO_SPEECH", "nobody speaks: send a recording with speech")
	}
	if effect := must(s.store.Apply(s.ctx, u))(s.T); effect != store.Applied {
		s.Fatalf("%s is %s", state, effect)
	}
	if told {
		s.server.InvalidateTask(s.ada.ID, id)
	}
}

// tell has the queue say something.
func (s *stage) tell(n api.News) {
	s.Helper()
	select {
	case s.news <- n:
	case <-time.After(20 * time.Second):
		s.Fatal("nobody listens to the queue")
	}
}

// hears has the queue tell of a part of the transcript.
func (s *stage) hears(text string) {
	s.Helper()
	s.tell(api.News{Segments: []transcript.Segment{{Text: text}}})
}

// soon is next, but for an event that does not come it ends the stream.
func (s *sse) soon() sseEvent {
	late := time.AfterFunc(20*time.Second, func() { _ = s.Body.Close() })
	defer late.Stop()
	return s.next()
}

// want reads the next event, and checks its name and what is part of its data.
func (s *sse) want(name, part string) sseEvent {
	s.t.Helper()
	e := s.soon()
	if e.name != name || !strings.Contains(e.data, part) || e.id == "" && name != "" {
		s.t.Fatalf("event %+v, want %q with %s", e, name, part)
	}
	return e
}

// Who comes late gets the latest status and what was heard so far, and then the same as all others.
func TestLateFollower(t *testing.T) {
	t.Parallel()
	s := newStage(t).open()
	id := s.task()
	first := s.events(s.ada, id, "")
	if h := first.Header; first.StatusCode != 200 || h.Get("Content-Type") != "text/event-stream" ||
		h.Get("Cache-Control") != "no-store" || h.Get("X-Accel-Buffering") != "no" {
		t.Errorf("status %s, header %v", first.Status, h)
	}
	first.want("status", `"status":"queued"`)
	s.record(id, job.Running, 1, true)
	first.want("status", `"progress":0.1`)
	s.hears("one")
	one := first.want("segments", `"text":"one"`)
	s.record(id, job.Running, 2, true)
	first.want("status", `"progress":0.2`)
	// The queue knows sooner than the record, but nothing goes back.
	s.tell(api.News{State: job.Running, Attempt: 1, Progress: job.Progress{Stage: job.StageMerge, Done: 5, Total: 10}})
	now := first.want("status", `"progress":0.5`)
	s.record(id, job.Running, 3, true)
	s.hears("two")
	two := first.want("segments", `"text":"two"`)

	late := s.events(s.ada, id, "")
	for _, want := range []sseEvent{one, now, two} {
		if got := late.soon(); got.id != want.id || got.data != want.data {
			t.Errorf("late: %+v, want %+v", got, want)
		}
	}
	s.hears("three")
	s.record(id, job.Done, 10, true)
	for _, f := range []*sse{first, late} {
		f.want("segments", `"text":"three"`)
		if e := f.want("done", `"progress":1`); e.task().Status != job.Done || e.task().ID != id {
			t.Errorf("end %+v", e)
		}
		f.want("", "")
	}
}

// After a break nothing is lost and nothing comes twice.
func TestResumedEvents(t *testing.T) {
	t.Parallel()
	s := newStage(t).open()
	id := s.task()
	f := s.events(s.ada, id, "")
	f.want("status", "queued")
	s.record(id, job.Running, 1, true)
	all := []sseEvent{f.want("status", "running")}
	for i := range 20 {
		s.hears(fmt.Sprintf("part %d.", i))
		all = append(all, f.want("segments", fmt.Sprintf("part %d.", i)))
		if i%3 == 0 {
			_ = f.Body.Close()
			s.hears(fmt.Sprintf("missed %d.", i)) // while nobody is there
			f = s.events(s.ada, id, all[len(all)-1].id)
			all = append(all, f.want("segments", fmt.Sprintf("missed %d.", i)))
		}
	}
	for i, e := range all {
		again := s.events(s.ada, id, e.id)
		for _, want := range all[i+1:] {
			if got := again.soon(); got.id != want.id || got.data != want.data {
				t.Fatalf("after event %d: %+v, want %+v", i, got, want)
			}
		}
		_ = again.Body.Close()
	}
	// An id that is not of this story, or none at all, gets the whole of it.
	epoch, _, _ := strings.Cut(all[0].id, ".")
	for _, last := range []string{"", "x", "0.1", ".", epoch, epoch + ".", epoch + ".-1", epoch + ".ü", epoch + ".zzzzzzzzzzzzzzz"} {
		again := s.events(s.ada, id, last)
		if got := again.soon(); got.id != all[0].id {
			t.Errorf("after %q: %+v", last, got)
		}
		_ = again.Body.Close()
	}
	s.record(id, job.Done, 10, true)
	f.want("done", "")
	f.want("", "")
}

// Each end has its name. Afterwards there is nothing more to come, and who knows the end is told so.
func TestEndOfEvents(t *testing.T) {
	t.Parallel()
	for state, part := range map[job.State]string{
		job.Done: `"error":null`, job.Failed: `"code":"NO_SPEECH","message":"nobody speaks: send a recording with speech"`,
		job.Cancelled: `"status":"cancelled"`,
	} {
		s := newStage(t).open()
		id := s.task()
		f := s.events(s.ada, id, "")
		f.want("status", "queued")
		s.record(id, job.Running, 1, true)
		f.want("status", "running")
		s.hears("something")
		f.want("segments", "something")
		s.record(id, state, 5, true)
		last := f.want(string(state), part)
		f.want("", "")

		over := s.events(s.ada, id, last.id)
		if over.StatusCode != http.StatusNoContent {
			t.Errorf("%s: after the end %s", state, over.Status)
		}
		again := s.events(s.ada, id, "")
		again.want("segments", "something")
		again.want(string(state), part)
		again.want("", "")
	}
	s := newStage(t).open()
	id := s.task()
	f := s.events(s.ada, id, "")
	f.want("status", "queued")
	if got := must(s.store.CancelTask(s.ctx, s.ada.ID, id))(t); got.Status != job.Cancelled {
		t.Fatalf("task %+v", got)
	}
	if err := s.store.DeleteTask(s.ctx, s.ada.ID, id); err != nil {
		t.Fatal(err)
	}
	s.server.InvalidateTask(s.ada.ID, id)
	f.want("deleted", `{"task_id":"`+string(id)+`"}`)
	f.want("", "")
	s.call(s.ada, "GET", taskPath(id, "/events"), nil).problem(404, "TASK_NOT_FOUND")
}

// Followed by HEAD there is nothing to wait for.
func TestHeadOfEvents(t *testing.T) {
	t.Parallel()
	s := newStage(t).open()
	id := s.task()
	for range 3 {
		p := s.call(s.ada, "HEAD", taskPath(id, "/events"), nil).want(200)
		if p.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("header %v", p.Header)
		}
	}
	s.eventually("nobody follows", func() bool { return s.gauge("steno_event_subscribers") == 0 })
	s.call(s.eve, "GET", taskPath(id, "/events"), nil).problem(404, "TASK_NOT_FOUND")
	s.call(user{}, "GET", taskPath(id, "/events"), nil).problem(401, "UNAUTHORIZED")
	s.call(s.ada, "GET", taskPath("X", "/events"), nil).problem(404, "TASK_NOT_FOUND")
}

// Of a long story the latest parts are kept, whoever follows.
func TestLongStory(t *testing.T) {
	t.Parallel()
	const parts, kept = 2500, 2000
	s := newStage(t).open()
	id := s.task()
	s.record(id, job.Running, 1, true)
	first := s.events(s.ada, id, "")
	first.want("status", "running")
	for i := range parts {
		s.hears(fmt.Sprintf("part %d.", i))
		first.want("segments", fmt.Sprintf("part %d.", i))
	}
	s.tell(api.News{State: job.Running, Attempt: 1, Progress: job.Progress{Stage: job.StageMerge, Done: 9, Total: 10}})
	first.want("status", "merge")
	late := s.events(s.ada, id, "")
	for i := parts - kept; i < parts; i++ {
		late.want("segments", fmt.Sprintf("part %d.", i))
	}
	late.want("status", "merge")
}
