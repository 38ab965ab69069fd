package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"steno/api"
	"steno/job"
)

// Where nothing happens there are signs of life, and what another gateway writes is seen all the same. A story stays for those
// who come back soon, and only for them.
func TestTimesOfEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		id := s.task()
		// follow returns what comes within the given time.
		follow := func(last string, during time.Duration, meanwhile func()) string {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, taskPath(id, "/events"), nil)
			req.Header.Set("Authorization", "Bearer "+s.ada.token)
			req.Header.Set("Last-Event-ID", last)
			w := httptest.NewRecorder()
			var done sync.WaitGroup
			done.Go(func() { s.server.ServeHTTP(w, req) })
			synctest.Wait()
			meanwhile()
			time.Sleep(during)
			cancel()
			done.Wait()
			return w.Body.String()
		}
		lastOf := func(text string) string {
			t.Helper()
			i := strings.LastIndex(text, "id: ")
			if i < 0 {
				t.Fatalf("no event in %q", text)
			}
			last, _, _ := strings.Cut(text[i+len("id: "):], "\n")
			return last
		}
		text := follow("", 50*time.Second, func() { s.hears("one") })
		beats, events := strings.Count(text, ": alive\n\n"), strings.Count(text, "event: ")
		if beats != 3 || events != 2 || !strings.Contains(text, "\n\nretry: 2000\n\n") {
			t.Errorf("in 50 s: %q", text)
		}
		last := lastOf(text)
		time.Sleep(29 * time.Second)
		text = follow(last, 3*time.Second, func() { s.record(id, job.Running, 1, false) }) // nobody tells this gateway
		if strings.Count(text, "event: ") != 1 || !strings.Contains(text, `"status":"running"`) {
			t.Errorf("back after 29 s: %q", text)
		}
		last = lastOf(text)
		time.Sleep(31 * time.Second)
		text = follow(last, time.Second, func() {})
		if strings.Count(text, "event: ") != 1 || !strings.Contains(text, `"status":"running"`) || lastOf(text) == last {
			t.Errorf("back after 31 s: %q", text)
		}
		if n := s.gauge("steno_event_subscribers"); n != 0 {
			t.Errorf("%v follow", n)
		}
		s.server.Close()
		if text = follow("", time.Second, func() {}); !strings.Contains(text, `"code":"STOPPING"`) {
			t.Errorf("after the end: %q", text)
		}
	})
}

// The number of streams is bounded, for one user and for all; one that ends makes room for another.
func TestSubscribers(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(c *api.Config) { c.Subscribers, c.UserSubscribers = 3, 2 }).open()
	id, eves := s.task(), s.taskOf(s.eve)
	one, two, three := s.events(s.ada, id, ""), s.events(s.ada, id, ""), s.events(s.eve, eves, "")
	for _, f := range []*sse{one, two, three} {
		f.want("status", "queued")
	}
	busy := func(as user, id job.ID, status int, code string) {
		t.Helper()
		p := s.call(as, "GET", taskPath(id, "/events"), nil)
		if p.problem(status, code); p.Header.Get("Retry-After") != "5" {
			t.Errorf("header %v", p.Header)
		}
	}
	busy(s.eve, eves, 503, "BUSY")
	_ = three.Body.Close()
	s.eventually("there is room for one", func() bool { return s.gauge("steno_event_subscribers") == 2 })
	busy(s.ada, id, 429, "TOO_MANY_REQUESTS")
	_ = one.Body.Close()
	s.eventually("there is room again", func() bool { return s.gauge("steno_event_subscribers") == 1 })
	four := s.events(s.ada, id, "")
	four.want("status", "queued")
	_ = two.Body.Close()
	_ = four.Body.Close()
	s.eventually("all have gone", func() bool { return s.gauge("steno_event_subscribers") == 0 })
}

// wide is a part of the transcript that fills the buffers of a connection soon.
var wide = strings.Repeat("wide ", 20_000)

// Who does not read holds nobody up, and is let go of after a while: half a second here.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	const parts = 150 // of 100 kB each, which is more than any buffer between the two takes
	s := newStage(t).open()
	soon := s.hastily()
	id := s.task()
	slow := soon.dial("GET " + taskPath(id, "/events"))
	if err := slow.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	s.eventually("the slow one follows", func() bool { return s.gauge("steno_event_subscribers") == 1 })
	fast := soon.events(s.ada, id, "")
	fast.lines.Buffer(nil, 1<<20)
	fast.want("status", "queued")
	for i := range parts {
		s.hears(fmt.Sprintf("part %d. %s", i, wide))
		fast.want("segments", fmt.Sprintf("part %d. ", i))
	}
	s.eventually("the slow one is let go of", func() bool { return s.gauge("steno_event_subscribers") == 1 })
	s.record(id, job.Done, 10, true)
	fast.want("done", "")
	fast.want("", "")
}

// At a drain streams end at once, so that clients look for another gateway; what does not end is cut off in time.
func TestDrainOfEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) { c.Drain = 10 * time.Second })
	r.work(hold(nil))
	id := r.create(r.ada, r.upload(r.ada, "a.wav", wav(1)).ID).ID
	r.await(r.ada, id, job.Running)
	var followers []*sse
	for range 5 {
		f := r.events(r.ada, id, "")
		f.want("status", `"running"`)
		followers = append(followers, f)
	}
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the gateway stopped after %s", took)
	}
	for _, f := range followers {
		for e := f.soon(); e.name != ""; e = f.soon() {
			if e.name != "status" { // progress on its way
				t.Errorf("at the drain: %+v", e)
			}
		}
		if err := f.lines.Err(); err != nil {
			t.Errorf("a stream was cut, not ended: %v", err)
		}
	}
	if n := r.gauge("steno_event_subscribers"); n != 0 {
		t.Errorf("%v still follow", n)
	}
}

// A request that does not end is cut off when the drain is over.
func TestDrainCutsOff(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t, func(c *api.Config) { c.Drain = 200 * time.Millisecond })
	w := r.dial("POST "+filesPath, "Content-Length: 16044")
	w.write(wav(1)[:1000])
	r.eventually("the upload has begun", func() bool { return r.gauge("steno_uploads_in_flight") == 1 })
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 5*time.Second || took < 200*time.Millisecond {
		t.Errorf("the gateway stopped after %s", took)
	}
	r.eventually("nothing is left", func() bool { return len(must(os.ReadDir(scratch))(t)) == 0 })
}

// toTheEnd follows a task, asks for it all the time, and checks that after its end all is as the end says.
func (r *rig) toTheEnd(id job.ID, text string) {
	r.Helper()
	f := r.events(r.ada, id, "")
	defer f.Body.Close()
	r.status(r.ada, id) // for the cache
	e := f.soon()
	for ; e.name == "status" || e.name == "segments"; e = f.soon() {
		r.status(r.ada, id)
	}
	if got := r.status(r.ada, id); e.name != "done" || got.Status != job.Done || got.Progress != 1 {
		r.Fatalf("%s, and the status is %+v", e.name, got)
	}
	if got := r.call(r.ada, "GET", taskPath(id, "/download"), nil).want(200); !strings.Contains(string(got.body), text) {
		r.Fatalf("the transcript is %q, want %q", got.body, text)
	}
}

// When done comes, the transcript is there, and nobody hears anything else any more: not from the cache either.
func TestDoneIsTrue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	f := r.upload(r.ada, "a.wav", wav(1))
	for i := range 10 {
		text := fmt.Sprintf("text of run %d", i)
		r.work(say(text))
		r.toTheEnd(r.create(r.ada, f.ID).ID, text)
	}
	s := newStage(t).open()
	for range 40 { // the gateway is told while others ask
		id := s.task()
		var work sync.WaitGroup
		work.Go(func() {
			s.record(id, job.Running, 1, true)
			s.record(id, job.Done, 10, true)
		})
		s.toTheEnd(id, "all of it")
		work.Wait()
	}
}

// An end that the gateway sees before it is told of it is no less true.
func TestDoneBeforeNews(t *testing.T) {
	t.Parallel()
	s := newStage(t).open()
	id := s.task()
	s.record(id, job.Running, 1, true)
	f := s.events(s.ada, id, "")
	f.want("status", "running")
	for range 2 { // the second time from the cache
		if got := s.status(s.ada, id); got.Status != job.Running || s.listed(s.ada) != 1 {
			t.Fatalf("status %+v", got)
		}
	}
	s.record(id, job.Done, 10, false)
	close(s.news)
	f.want("done", "")
	if got := s.status(s.ada, id); got.Status != job.Done {
		t.Errorf("after done: %+v", got)
	}
	var history struct{ Items []taskOf }
	s.call(s.ada, "GET", historyPath+"?page=1", nil).json(&history)
	if len(history.Items) != 1 || history.Items[0].Status != job.Done {
		t.Errorf("after done: %+v", history)
	}
}
