package api_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"steno/api"
	"steno/internal/testredis"
	"steno/job"
)

// A write forgets what it has changed, and nothing else.
func TestWritesForgetExactly(t *testing.T) {
	t.Parallel()
	r, quiet := newQuiet(t)
	f, g := r.upload(r.ada, "f.wav", wav(1)).ID, r.upload(r.ada, "g.wav", wav(2)).ID
	a, b, c := r.finished(r.ada, f), r.finished(r.ada, f), r.finished(r.ada, g)
	r.work(hold(nil))
	open := r.create(r.ada, g).ID
	r.await(r.ada, open, job.Running)

	type view struct {
		as   user
		path string
	}
	views := map[string]view{
		"history": {r.ada, historyPath}, "page": {r.ada, historyPath + "?page=1"}, "eve's history": {r.eve, historyPath},
		"status a": {r.ada, taskPath(a, "/status")}, "download a": {r.ada, taskPath(a, "/download")},
		"status b": {r.ada, taskPath(b, "/status")}, "download b": {r.ada, taskPath(b, "/download?format=srt")},
		"status c": {r.ada, taskPath(c, "/status")}, "download c": {r.ada, taskPath(c, "/download")},
		"status open": {r.ada, taskPath(open, "/status")},
		"file f":      {r.ada, "/api/v1/files/" + f}, "file g": {r.ada, "/api/v1/files/" + g},
	}
	again := map[string]any{"file_id": f}
	once := []string{"Idempotency-Key", "1"}
	for _, row := range []struct {
		what    string
		do      func()
		forgets []string
		gone    []string // of those, what is not there any more
	}{
		{"nothing", func() {}, nil, nil},
		{"upload", func() { quiet.upload(r.ada, "f.wav", wav(1)) }, nil, nil},
		{"create", func() {
			quiet.call(r.ada, "POST", "/api/v1/transcription/create", again, once...).want(201)
		}, []string{"history", "page"}, nil},
		{"the same create again", func() {
			quiet.call(r.ada, "POST", "/api/v1/transcription/create", again, once...).want(201)
		}, nil, nil},
		{"a create that is refused", func() {
			quiet.call(r.ada, "POST", "/api/v1/transcription/create", map[string]any{"file_id": "X"}).want(404)
		}, nil, nil},
		{"delete of a file in use", func() { quiet.call(r.ada, "DELETE", "/api/v1/files/"+g, nil).want(409) }, nil, nil},
		{"delete of somebody else's", func() {
			quiet.call(r.eve, "DELETE", taskPath(a, ""), nil).want(404)
			quiet.call(r.eve, "DELETE", "/api/v1/files/"+f, nil).want(404)
		}, nil, nil},
		{"cancel", func() {
			quiet.call(r.ada, "DELETE", taskPath(open, ""), nil).want(202)
			r.recorded(open)
		}, []string{"history", "page", "status open"}, nil},
		{"the relay's news", func() { quiet.server.InvalidateTask(r.ada.ID, open) }, []string{"history", "page", "status open"}, nil},
		{"delete of a task", func() { quiet.call(r.ada, "DELETE", taskPath(a, ""), nil).want(204) },
			[]string{"history", "page", "status a", "download a"}, []string{"status a", "download a"}},
		{"delete of a file", func() { quiet.call(r.ada, "DELETE", "/api/v1/files/"+g, nil).want(204) },
			[]string{"history", "page", "file g", "status open", "status c", "download c"}, []string{"file g"}},
		{"delete of a task with its file", func() { quiet.call(r.ada, "DELETE", taskPath(b, "?file=1"), nil).want(204) },
			[]string{"history", "page", "status b", "download b", "file f"}, []string{"status b", "download b", "file f"}},
	} {
		for name, v := range views {
			quiet.call(v.as, "GET", v.path, nil).want(200)
			if got := quiet.call(v.as, "GET", v.path, nil).want(200); got.Header.Get("X-Cache") != "HIT" {
				t.Errorf("before %s: %s is not kept", row.what, name)
			}
		}
		row.do()
		for _, name := range slices.Sorted(maps.Keys(views)) {
			v := views[name]
			from, status := "HIT", 200
			if slices.Contains(row.forgets, name) {
				from = "MISS"
			}
			if slices.Contains(row.gone, name) {
				from, status = "", 404
				delete(views, name)
			}
			got := quiet.call(v.as, "GET", v.path, nil)
			if x := got.Header.Get("X-Cache"); got.StatusCode != status || x != from {
				t.Errorf("after %s: %s has status %d, %s; want %d, %s", row.what, name, got.StatusCode, x, status, from)
			}
		}
	}
}

// Hits, misses and errors are counted, and so is the time of each operation.
func TestCacheMetrics(t *testing.T) {
	t.Parallel()
	var spy spied
	_, quiet := newQuiet(t, func(c *api.Config) {
		spy.Cache = c.Cache
		c.Cache = &spy
	})
	want := map[string]float64{"hit": 0, "miss": 0, "error": 0}
	check := func(what string, change map[string]float64) {
		t.Helper()
		for name, n := range change {
			want[name] += n
		}
		if got := quiet.cacheCounts(); !maps.Equal(got, want) {
			t.Errorf("after %s the counts are %v, want %v", what, got, want)
		}
	}
	get := func(from string, headers ...string) {
		t.Helper()
		quiet.call(quiet.ada, "GET", historyPath, nil, headers...).want(200).from(from)
	}
	check("nothing", nil)
	get("MISS")
	check("a miss", map[string]float64{"miss": 1, "get": 1, "put": 1})
	get("HIT")
	check("a hit", map[string]float64{"hit": 1, "get": 1})
	get("MISS", "Cache-Control", "no-cache")
	check("a request for the truth", map[string]float64{"miss": 1, "get": 1})
	quiet.call(quiet.ada, "GET", taskPath(job.NewID(), "/status"), nil).want(404)
	check("a failure", map[string]float64{"miss": 1, "get": 1})
	spy.breakIt(errors.New("the cache is ill"))
	get("MISS")
	check("an error", map[string]float64{"error": 1, "get": 1})
	spy.breakIt(nil)
	quiet.server.InvalidateTask(quiet.ada.ID, job.NewID())
	check("a drop", map[string]float64{"drop": 1})
}

// cacheCounts are the numbers of requests by their result, and of operations.
func (r *rig) cacheCounts() map[string]float64 {
	r.Helper()
	counts := map[string]float64{}
	for _, family := range must(r.reg.Gather())(r.T) {
		for _, m := range family.GetMetric() {
			switch family.GetName() {
			case "steno_cache_requests_total":
				counts[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			case "steno_cache_operation_seconds":
				counts[m.GetLabel()[0].GetValue()] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return counts
}

// Redis goes away, the record changes, and Redis comes back with all that it kept from before. Requests are answered all the
// time, and nobody is shown what was true before: not by the gateway that could not say what to drop, nor by another.
func TestRedisGoesAway(t *testing.T) {
	t.Parallel()
	server := testredis.Start(t)
	var cfg api.Config
	use := func(c *api.Config) {
		c.Cache, c.CacheTTL = redisCache(t, server), 4*time.Second
		cfg = *c
	}
	r, quiet := newQuiet(t, use)
	other := r.quiet(cfg, use)
	f := r.upload(r.ada, "a.wav", wav(1)).ID
	id := r.finished(r.ada, f)
	views := []string{historyPath, taskPath(id, "/status"), taskPath(id, "/download"), "/api/v1/files/" + f}
	for _, path := range views {
		quiet.call(r.ada, "GET", path, nil).want(200).from("MISS")
		quiet.call(r.ada, "GET", path, nil).want(200).from("HIT")
		other.call(r.ada, "GET", path, nil).want(200).from("HIT")
	}
	raw := rawRedis(t, server)
	if err := raw.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}

	server.Stop()
	for _, path := range views {
		quiet.call(r.ada, "GET", path, nil).want(200).from("MISS")
	}
	quiet.call(user{}, "GET", "/api/v1/health", nil).want(200)
	quiet.call(r.ada, "DELETE", taskPath(id, ""), nil).want(204)
	quiet.call(r.ada, "DELETE", "/api/v1/files/"+f, nil).want(204)
	other.call(r.ada, "GET", historyPath, nil).want(200).from("MISS")
	for _, g := range []*rig{quiet, other} {
		if n := g.cacheCounts()["error"]; n != 1 { // it is not asked in vain again and again
			t.Errorf("%v errors are counted, want 1", n)
		}
	}

	server.Resume(t)
	kept := must(raw.Keys(t.Context(), "steno:value:*").Result())(t)
	if len(kept) != len(views) {
		t.Fatalf("%d answers are back, want %d: this run shows nothing", len(kept), len(views))
	}
	for _, g := range []*rig{quiet, other} {
		for _, path := range views[1:] {
			g.call(r.ada, "GET", path, nil).want(404)
		}
	}
	for _, g := range []*rig{quiet, other} {
		r.eventually("the cache is used again", func() bool {
			var history struct {
				Items []taskOf `json:"items"`
			}
			got := g.call(r.ada, "GET", historyPath, nil).want(200).json(&history)
			if len(history.Items) > 0 {
				t.Fatalf("history %s", got.body)
			}
			return got.Header.Get("X-Cache") == "HIT"
		})
	}
}
