package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"steno/api"
	"steno/job"
	"steno/store"
)

// quiet is a gateway on a rig's record that no relay tells of changes: what its cache forgets, it was told to by requests to it.
func (r *rig) quiet(cfg api.Config, change ...func(*api.Config)) *rig {
	r.Helper()
	reg := prometheus.NewRegistry()
	cache := api.NewMemoryCache(16 << 20)
	r.Cleanup(func() { _ = cache.Close() })
	cfg.Cache, cfg.Metrics = cache, reg
	for _, f := range change {
		f(&cfg)
	}
	server := must(api.New(cfg))(r.T)
	r.Cleanup(server.Close)
	at := httptest.NewServer(server)
	r.Cleanup(at.Close)
	return &rig{T: r.T, base: at.URL, server: server, store: r.store, q: r.q, reg: reg, ada: r.ada, eve: r.eve}
}

// newQuiet starts a rig, and a quiet gateway on it.
func newQuiet(t *testing.T, change ...func(*api.Config)) (r, quiet *rig) {
	t.Helper()
	var cfg api.Config
	r = newRig(t, func(c *api.Config) { cfg = *c })
	return r, r.quiet(cfg, change...)
}

// finished makes a task that is done, and all have heard of it.
func (r *rig) finished(as user, file string) job.ID {
	r.Helper()
	id := r.create(as, file).ID
	r.recorded(id)
	return id
}

// recorded waits until the end of a task is in the record and the gateway was told:
// after that the relay confirms it to the queue.
func (r *rig) recorded(id job.ID) {
	r.Helper()
	r.eventually(fmt.Sprintf("the end of task %s is recorded", id), func() bool {
		s, err := r.q.Status(context.WithoutCancel(r.Context()), id)
		return err == nil && !s.Recorded.IsZero()
	})
}

// from checks where an answer came from: HIT, MISS, or "" for one that the cache has nothing to do with.
func (p *reply) from(want string) *reply {
	p.t.Helper()
	if got := p.Header.Get("X-Cache"); got != want {
		p.t.Errorf("%s: X-Cache is %q, want %q", p.what, got, want)
	}
	return p
}

func taskPath(id job.ID, at string) string { return "/api/v1/transcription/" + string(id) + at }

const historyPath = "/api/v1/user/history"

// spied is a cache that notes what is asked of it, and fails where it is told to.
type spied struct {
	api.Cache
	mu    sync.Mutex
	asked []string // get, put and drop
	ttl   time.Duration
	onGet func()
	err   error // of get and put
}

func (s *spied) note(what string, ttl time.Duration) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, what)
	s.ttl = max(s.ttl, ttl)
	return s.onGet, s.err
}

func (s *spied) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(s.asked), func(a string) bool { return a != what }))
}

func (s *spied) breakIt(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *spied) Get(ctx context.Context, tag, key string) ([]byte, string, error) {
	then, err := s.note("get", 0)
	if err != nil {
		return nil, "", err
	}
	if then != nil {
		then()
	}
	return s.Cache.Get(ctx, tag, key)
}

func (s *spied) Put(ctx context.Context, tag, key, ticket string, value []byte, ttl time.Duration) error {
	if _, err := s.note("put", ttl); err != nil {
		return err
	}
	return s.Cache.Put(ctx, tag, key, ticket, value, ttl)
}

func (s *spied) Drop(ctx context.Context, tags ...string) error {
	_, _ = s.note("drop", 0)
	return s.Cache.Drop(ctx, tags...)
}

// What is kept is answered as it was made, whole, in parts, or not at all where the client has it.
func TestCachedAnswers(t *testing.T) {
	t.Parallel()
	r, quiet := newQuiet(t)
	id := r.finished(r.ada, r.upload(r.ada, "a.wav", wav(1)).ID)
	path := taskPath(id, "/download?format=json")
	for name, first := range map[string][]string{ // the request that is the miss; all of them keep the whole
		"plain": {"GET"}, "head": {"HEAD"}, "part": {"GET", "Range", "bytes=0-0"}, "conditional": {"GET", "If-None-Match", `"other"`},
		"outside": {"GET", "Range", "bytes=999999-"}, "no-cache": {"GET", "Cache-Control", "no-cache"},
	} {
		quiet.server.InvalidateTask(r.ada.ID, id)
		quiet.call(r.ada, first[0], path, nil, first[1:]...).from("MISS")
		whole := quiet.call(r.ada, "GET", path, nil).want(200).from("HIT")
		fresh := quiet.call(r.ada, "GET", path, nil, "Cache-Control", "no-cache").want(200).from("MISS")
		tag := whole.Header.Get("ETag")
		if len(tag) < 10 || whole.body[0] != '{' || string(whole.body) != string(fresh.body) {
			t.Errorf("after %s: ETag %s: %s, afresh %s", name, tag, whole.body, fresh.body)
		}
		for _, header := range []string{"ETag", "Content-Type", "Content-Length", "Content-Disposition", "Cache-Control", "Vary"} {
			if got, want := whole.Header.Get(header), fresh.Header.Get(header); got != want || want == "" {
				t.Errorf("after %s: %s is %q, afresh %q", name, header, got, want)
			}
		}
		head := quiet.call(r.ada, "HEAD", path, nil).want(200).from("HIT")
		if len(head.body) != 0 || head.ContentLength != int64(len(whole.body)) || head.Header.Get("ETag") != tag {
			t.Errorf("after %s: HEAD has %d bytes, Content-Length %d, %v", name, len(head.body), head.ContentLength, head.Header)
		}
		same := quiet.call(r.ada, "GET", path, nil, "If-None-Match", `"x", `+tag).want(304).from("HIT")
		if len(same.body) != 0 || same.Header.Get("ETag") != tag {
			t.Errorf("after %s: 304 with %q, %v", name, same.body, same.Header)
		}
		quiet.call(r.ada, "GET", path, nil, "If-None-Match", `"x"`).want(200).from("HIT")
		quiet.call(r.ada, "GET", path, nil, "If-Match", `"x"`).want(412).from("HIT")
		part := quiet.call(r.ada, "GET", path, nil, "Range", "bytes=2-5").want(206).from("HIT")
		if want := fmt.Sprintf("bytes 2-5/%d", len(whole.body)); string(part.body) != string(whole.body[2:6]) ||
			part.Header.Get("Content-Range") != want {
			t.Errorf("after %s: part %q, %q, want %q of %q", name, part.body, part.Header.Get("Content-Range"), whole.body[2:6], want)
		}
		quiet.call(r.ada, "GET", path, nil, "Range", "bytes=2-5", "If-Range", `"x"`).want(200).from("HIT")
		quiet.call(r.ada, "GET", path, nil, "Range", "bytes=999999-").want(416)
	}
	// The same without the cache.
	quiet.server.InvalidateTask(r.ada.ID, id)
	if got := quiet.call(r.ada, "GET", path, nil, "Range", "bytes=0-0").want(206).from("MISS"); string(got.body) != "{" {
		t.Errorf("part %q", got.body)
	}
	h := quiet.call(r.ada, "GET", historyPath, nil).want(200).from("MISS").Header
	if h.Get("Cache-Control") != "private, no-cache" || h.Get("Vary") != "Authorization" || h.Get("ETag") == "" {
		t.Errorf("header %v", h)
	}
	have := []string{"If-None-Match", h.Get("ETag")}
	quiet.call(r.ada, "GET", historyPath+"?limit=9", nil, have...).want(200).from("MISS") // the limit is in the answer
	quiet.call(r.ada, "GET", historyPath+"?limit=10", nil, have...).want(304).from("MISS")
}

// An answer belongs to a user, a method, a path and a query, in whatever order that is.
func TestCacheKey(t *testing.T) {
	t.Parallel()
	r, quiet := newQuiet(t)
	f := r.upload(r.ada, "a.wav", wav(1))
	id := r.finished(r.ada, f.ID)
	for _, row := range []struct {
		as   user
		path string
		want string
	}{
		{r.ada, historyPath, "MISS"},
		{r.ada, historyPath, "HIT"},
		{r.ada, historyPath + "?", "HIT"},
		{r.eve, historyPath, "MISS"},
		{r.eve, historyPath, "HIT"},
		{r.ada, historyPath + "?limit=5&status=done&page=1", "MISS"},
		{r.ada, historyPath + "?status=done&page=1&limit=5", "HIT"},
		{r.ada, historyPath + "?status=d%6Fne&page=1&&limit=5", "HIT"},
		{r.ada, historyPath + "?status=done&page=1&limit=6", "MISS"},
		{r.ada, historyPath + "?status=done&limit=5", "MISS"},
		{r.ada, historyPath + "?status=failed&page=1&limit=5", "MISS"},
		{r.eve, historyPath + "?status=done&page=1&limit=5", "MISS"},
		{r.ada, taskPath(id, "/status"), "MISS"},
		{r.ada, taskPath(id, "/status"), "HIT"},
		{r.ada, taskPath(id, "/download"), "MISS"},
		{r.ada, taskPath(id, "/download?format=srt"), "MISS"},
		{r.ada, taskPath(id, "/download?format=srt"), "HIT"},
		{r.ada, "/api/v1/files/" + f.ID, "MISS"},
		{r.ada, "/api/v1/files/" + f.ID, "HIT"},
	} {
		quiet.call(row.as, "GET", row.path, nil).want(200).from(row.want)
	}
	// Nobody else sees them, and nothing but a GET or HEAD is answered by them.
	for _, path := range []string{taskPath(id, "/status"), taskPath(id, "/download"), "/api/v1/files/" + f.ID} {
		quiet.call(r.eve, "GET", path, nil).want(404).from("")
		quiet.call(user{}, "GET", path, nil).want(401).from("")
		quiet.call(r.ada, "POST", path, nil).want(405).from("")
	}
	quiet.call(r.ada, "DELETE", taskPath(id, ""), nil).want(204).from("")
	quiet.call(r.ada, "DELETE", taskPath(id, ""), nil).want(404).from("")
}

// What fails is not kept, nor what is not cached at all: the cache is not even asked.
func TestNotCached(t *testing.T) {
	t.Parallel()
	var spy spied
	r, quiet := newQuiet(t, func(c *api.Config) {
		spy.Cache = c.Cache
		c.Cache = &spy
	})
	f := r.upload(r.ada, "a.wav", wav(1))
	release := make(chan struct{})
	r.work(hold(release))
	id := r.create(r.ada, f.ID).ID
	for range 2 {
		quiet.call(r.ada, "GET", taskPath(id, "/download"), nil).want(409).from("")
		quiet.call(r.ada, "GET", taskPath(job.NewID(), "/status"), nil).want(404).from("")
		quiet.call(r.ada, "GET", taskPath("X", "/status"), nil).want(404).from("")
		quiet.call(r.ada, "GET", historyPath+"?limit=0", nil).want(422).from("")
		quiet.call(r.ada, "GET", historyPath+"?cursor=x", nil).want(422).from("")
	}
	if gets, puts := spy.count("get"), spy.count("put"); gets != 10 || puts != 0 {
		t.Errorf("%d gets and %d puts of what fails", gets, puts)
	}
	close(release)
	r.recorded(id)
	quiet.call(r.ada, "GET", taskPath(id, "/download"), nil).want(200).from("MISS") // though nobody told this gateway

	before := spy.count("get")
	for _, path := range []string{
		"/health", "/health/ready", "/api/v1/health", "/api/v1/health/ready", "/metrics", "/api/v1/metrics", "/openapi.json",
		"/api/v1/user/me", "/api/v1/user/keys", "/api/v1/user/webhook-secret", "/v1/models", "/api/v1/files/" + f.ID + "/content",
		"/api/v1/auth/token",
	} {
		for range 2 {
			quiet.call(r.ada, "GET", path, nil).from("")
		}
	}
	quiet.login("ada")
	quiet.call(r.ada, "POST", "/api/v1/auth/refresh", nil).want(200).from("")
	if after := spy.count("get"); after != before {
		t.Errorf("the cache was asked %d times", after-before)
	}
	if spy.ttl > time.Minute || spy.ttl < 50*time.Second {
		t.Errorf("kept for %s by default", spy.ttl)
	}
}

// What is too large for the cache is answered all the same, and parts of it, too.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	r, quiet := newQuiet(t)
	f := must(r.store.AddFile(t.Context(), store.File{
		User: r.ada.ID, Name: "a.wav", SHA256: strings.Repeat("0", 64), Object: "0", Size: 1,
		Media: json.RawMessage(`{"tags": "` + strings.Repeat("many words ", 500_000) + `"}`),
	}))(t)
	for range 2 {
		if got := quiet.call(r.ada, "GET", "/api/v1/files/"+f.ID, nil).want(200).from("MISS"); len(got.body) < 5_000_000 {
			t.Errorf("%d bytes", len(got.body))
		}
		quiet.call(r.ada, "GET", "/api/v1/files/"+f.ID, nil, "Range", "bytes=-5").want(206).from("MISS")
	}
}

func TestCacheTurnedOff(t *testing.T) {
	t.Parallel()
	var spy spied
	_, quiet := newQuiet(t, func(c *api.Config) {
		spy.Cache = c.Cache
		c.Cache, c.CacheTTL = &spy, -1
	})
	f := quiet.upload(quiet.ada, "a.wav", wav(1))
	for range 2 {
		quiet.call(quiet.ada, "GET", historyPath, nil).want(200).from("MISS")
		quiet.call(quiet.ada, "GET", "/api/v1/files/"+f.ID, nil, "Range", "bytes=0-0").want(206).from("MISS")
	}
	quiet.call(quiet.ada, "DELETE", "/api/v1/files/"+f.ID, nil).want(204)
	if len(spy.asked) > 0 {
		t.Errorf("the cache was asked to %v", spy.asked)
	}
}

// The time that an answer may be kept begins with the work on it: what was read from the record before a drop that failed must be
// gone when the cache is trusted again.
func TestTimeOfWorkCounts(t *testing.T) {
	t.Parallel()
	const ttl, work = time.Minute, 30 * time.Millisecond
	var spy spied
	_, quiet := newQuiet(t, func(c *api.Config) {
		spy.Cache, spy.onGet = c.Cache, func() { time.Sleep(work) }
		c.Cache, c.CacheTTL = &spy, ttl
	})
	quiet.call(quiet.ada, "GET", historyPath, nil).want(200).from("MISS")
	if spy.ttl > ttl-work || spy.ttl < ttl/2 {
		t.Errorf("kept for %s, of %s", spy.ttl, ttl)
	}
}
