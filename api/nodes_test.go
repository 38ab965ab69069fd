package api_test

import (
	"math"
	"testing"
	"time"

	"steno/api"
	"steno/job"
	"steno/queue"
	"steno/store"
)

const nodesPath = "/api/v1/admin/nodes"

// Administrators see the workers, and tell them what to do with their models.
func TestNodes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.accountOf("root", store.RoleAdmin)
	var list struct{ Items []api.Node }
	r.eventually("the worker has told of itself", func() bool {
		got := r.call(root, "GET", nodesPath, nil).want(200).json(&list)
		if got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("it may be kept: %v", got.Header)
		}
		return len(list.Items) == 1
	})
	if n := list.Items[0]; n.ID != worker || n.State != "ready" || n.Slots != 4 || time.Since(n.Seen) > time.Minute || n.Devices[0].ID != "cpu" {
		t.Errorf("the node is %+v", n)
	}
	models := nodesPath + "/" + worker + "/models"
	want := []queue.Order{
		{Do: "load", Model: "base", Device: "cuda:0", Words: true}, {Do: "pin", Model: "base"}, {Do: "unpin", Model: "base"},
		{Do: "unload", Model: "base"},
	}
	for _, o := range want {
		var begun struct {
			ID string `json:"node_id"`
		}
		r.call(root, "POST", models, o).want(202).json(&begun)
		if begun.ID != worker {
			t.Errorf("%+v: %+v", o, begun)
		}
	}
	r.mu.Lock()
	for i, o := range want {
		if len(r.orders) != len(want) || r.orders[i] != o {
			t.Fatalf("the worker was told %+v", r.orders)
		}
	}
	r.mu.Unlock()
	r.call(root, "POST", models, map[string]string{"do": "load", "model": "none"}).problem(422, "MODEL_MISSING")
	r.call(root, "POST", models, map[string]string{"do": "burn", "model": "base"}).problem(422, "BAD_FIELD")
	r.call(root, "POST", models, map[string]string{"do": "load"}).problem(422, "BAD_FIELD")
	r.call(root, "POST", models, map[string]string{"do": "load", "model": ""}).problem(422, "BAD_FIELD")
	for _, id := range []string{"nobody", "*", "a.b", "%3E"} {
		r.call(root, "POST", nodesPath+"/"+id+"/models", want[0]).problem(404, "NODE_NOT_FOUND")
		r.call(root, "POST", nodesPath+"/"+id+"/drain", nil).problem(404, "NODE_NOT_FOUND")
	}
	for _, as := range []user{r.ada, {}} {
		status, code := 403, "NOT_ADMIN"
		if as.token == "" {
			status, code = 401, "UNAUTHORIZED"
		}
		r.call(as, "GET", nodesPath, nil).problem(status, code)
		r.call(as, "GET", "/api/v1/admin/summary", nil).problem(status, code)
		r.call(as, "POST", models, want[0]).problem(status, code)
		r.call(as, "POST", nodesPath+"/"+worker+"/drain", nil).problem(status, code)
	}

	release := make(chan struct{})
	r.work(hold(release))
	task := r.create(r.ada, r.upload(r.ada, "a.wav", wav(1)).ID)
	r.await(r.ada, task.ID, job.Running)
	r.call(root, "POST", nodesPath+"/"+worker+"/drain", nil).want(202)
	r.eventually("it drains", func() bool {
		r.call(root, "GET", nodesPath, nil).want(200).json(&list)
		return len(list.Items) == 1 && list.Items[0].State == "draining"
	})
	r.call(root, "POST", models, want[0]).problem(409, "NODE_DRAINING")
	close(release)
	r.await(r.ada, task.ID, job.Done)
	r.eventually("it is gone", func() bool {
		list.Items = nil
		r.call(root, "GET", nodesPath, nil).want(200).json(&list)
		return len(list.Items) == 0
	})
	r.call(root, "POST", models, want[0]).problem(404, "NODE_NOT_FOUND")
}

// What is shown at a glance is what there is.
func TestSummary(t *testing.T) {
	t.Parallel()
	now := time.Now()
	clock := func() time.Time { return now }
	r := newRig(t, func(c *api.Config) { c.Now = clock })
	root := r.accountOf("root", store.RoleAdmin)
	key, kept := api.NewAPIKey(root.ID, "test") // which is good for hours
	must(r.store.CreateAPIKey(t.Context(), kept))(t)
	root.token = key
	look := func() (s struct {
		Pending   int
		InFlight  int     `json:"in_flight"`
		OldestAge float64 `json:"oldest_age_seconds"`
		Dead      int     `json:"dead_letters"`
		Done      int
		Failed    int
		Cancelled int
		Share     *float64 `json:"failure_share"`
		Audio     float64  `json:"audio_seconds"`
		RealTime  *float64 `json:"real_time_factor"`
	}) {
		t.Helper()
		now = now.Add(10 * time.Second) // what was summed up is kept for a moment
		r.call(root, "GET", "/api/v1/admin/summary", nil).want(200).json(&s)
		return s
	}
	if s := look(); s.Pending+s.InFlight+s.Dead+s.Done+s.Failed != 0 || s.Share != nil || s.RealTime != nil {
		t.Errorf("where nothing is: %+v", s)
	}
	file := r.upload(r.ada, "a.wav", wav(1))
	for range 3 {
		r.finished(r.ada, file.ID)
	}
	release := make(chan struct{})
	r.work(hold(release))
	for range 5 {
		r.create(r.ada, file.ID)
	}
	r.eventually("four run and one waits", func() bool { s := look(); return s.Pending == 1 && s.InFlight == 4 })
	s := look()
	if s.Done != 3 || s.Failed != 0 || s.Share == nil || *s.Share != 0 || math.Abs(s.Audio-3*file.Duration) > 0.01 || s.RealTime == nil ||
		*s.RealTime <= 0 || s.OldestAge <= 0 {
		t.Errorf("it goes like %+v", s)
	}
	close(release)
	now = now.Add(2 * time.Hour)
	r.eventually("all are done", func() bool { s := look(); return s.Pending+s.InFlight == 0 })
	if s := look(); s.Done != 0 || s.Share != nil {
		t.Errorf("hours later: %+v", s)
	}
}
