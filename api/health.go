package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// readyTime bounds how long the dependencies may take to answer.
const readyTime = 3 * time.Second

// readyAge is how long an answer of the dependencies is passed on: whoever asks often must not be a load to them. One check at a
// time runs.
const readyAge = time.Second

type healthOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Status  string `json:"status" enum:"ok"`
		Version string `json:"version"`
	}
}

// health says that the process answers.
func (s *Server) health(context.Context, *struct{}) (*healthOutput, error) {
	out := &healthOutput{CacheControl: "no-store"}
	out.Body.Status, out.Body.Version = "ok", s.cfg.Version
	return out, nil
}

type readyBody struct {
	Status string               `json:"status" enum:"ready,not ready"`
	Checks map[string]readyItem `json:"checks" doc:"each dependency"`
	// Sandbox is nil where nothing is confined.
	Sandbox []string `json:"sandbox,omitempty" doc:"layers of the sandbox around programs that read media, as far as they hold"`
	// Quarantined is nil where no model rests.
	Quarantined map[string]time.Time `json:"quarantined,omitempty" doc:"models that rest until then: their engines died too often"`
}

type readyItem struct {
	OK      bool    `json:"ok"`
	Detail  string  `json:"detail,omitempty" doc:"what is wrong"`
	Seconds float64 `json:"seconds" doc:"how long it took to answer"`
}

// readiness asks the dependencies, and keeps the answer for a moment. Safe for concurrent use.
type readiness struct {
	checks map[string]Check
	mu     sync.Mutex // held while the dependencies are asked
	asked  time.Time
	last   readyBody
}

func (r *readiness) now() readyBody {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.asked) < readyAge {
		return r.last
	}
	// Whoever asks shares the answer with others, so it does not end with this request.
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	body := readyBody{Status: "ready", Checks: map[string]readyItem{}}
	for name, check := range r.checks {
		all.Go(func() {
			began := time.Now()
			err := check(ctx)
			item := readyItem{OK: err == nil, Seconds: time.Since(began).Seconds()}
			if err != nil {
				item.Detail = "it does not answer as it should: see the log"
				if shown, ok := errors.AsType[Shown](err); ok {
					item.Detail = shown.Error()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			body.Checks[name] = item
			if err != nil {
				body.Status = "not ready"
			}
		})
	}
	all.Wait()
	r.asked, r.last = time.Now(), body
	return body
}

// ready says whether all that a request needs is there. What is wrong may name hosts, so it is only in the log unless Shown.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) error {
	body, status := s.readiness.now(), http.StatusOK
	if s.cfg.Sandbox != nil {
		body.Sandbox = s.cfg.Sandbox()
	}
	if s.cfg.Quarantined != nil {
		body.Quarantined = s.cfg.Quarantined()
	}
	if s.draining.Err() != nil {
		body.Status = "not ready" // so that nobody sends anything new here
	}
	if body.Status != "ready" {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	return writeJSON(w, status, body)
}

func (s *Server) healthRoutes() {
	logged := func(name string, check Check) Check {
		return func(ctx context.Context) error {
			err := check(ctx)
			if err != nil {
				s.cfg.Log.Warn("a dependency is not ready", "dependency", name, "error", err)
			}
			return err
		}
	}
	s.readiness.checks = map[string]Check{"database": logged("database", s.cfg.Store.Ping)}
	for name, check := range s.cfg.Ready {
		s.readiness.checks[name] = logged(name, check)
	}
	for _, at := range []struct{ prefix, id string }{{"", ""}, {prefix, "-v1"}} {
		register(s, route{
			method: http.MethodGet, path: at.prefix + "/health", id: "health" + at.id, tag: "service", public: true, free: true,
			summary: "See whether the service answers",
		}, s.health)
		s.plain(route{
			method: http.MethodGet, path: at.prefix + "/health/ready", id: "ready" + at.id, tag: "service", public: true, free: true,
			summary: "See whether all that requests need is there",
			done: map[int]*huma.Response{
				http.StatusOK:                 answerOf[readyBody](s, "ReadyBody", "all is there"),
				http.StatusServiceUnavailable: answerOf[readyBody](s, "ReadyBody", "something is not there"),
			},
		}, s.ready)
	}
}
