package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// checkTimeout bounds one check. Probes give up after 1 to 10 seconds, and should get an answer that names the culprit.
const checkTimeout = 2 * time.Second

// readyReply is the body of /health/ready.
type readyReply struct {
	Status string            `json:"status"` // ready or unready
	Checks map[string]string `json:"checks"` // "ok" or why not, by name
	// Sandbox are the layers around child processes that hold.
	Sandbox []string `json:"sandbox,omitempty"`
	// Quarantined are the models that are not loaded until then.
	Quarantined map[string]time.Time `json:"quarantined,omitempty"`
}

// readiness answers /health/ready. It is safe for concurrent use.
type readiness struct {
	checks      map[string]Check
	sandbox     func() []string
	quarantined func() map[string]time.Time
	log         *slog.Logger
}

func (h *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	reply, code := readyReply{Status: "ready", Checks: map[string]string{}}, http.StatusOK
	if h.sandbox != nil {
		reply.Sandbox = h.sandbox()
	}
	if h.quarantined != nil {
		reply.Quarantined = h.quarantined()
	}
	for name, err := range h.run(ctx) {
		reply.Checks[name] = "ok"
		if err != nil {
			reply.Checks[name] = err.Error()
			reply.Status, code = "unready", http.StatusServiceUnavailable
			h.log.WarnContext(ctx, "not ready", "check", name, "error", err)
		}
	}
	writeJSON(w, code, reply)
}

// run asks all at the same time, so that a slow dependency does not hide another.
func (h *readiness) run(ctx context.Context) map[string]error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	results := make(map[string]error, len(h.checks))
	for name, check := range h.checks {
		wg.Go(func() {
			err := runCheck(ctx, check)
			mu.Lock()
			defer mu.Unlock()
			results[name] = err
		})
	}
	wg.Wait()
	return results
}

// runCheck turns a panic into a failed check: net/http recovers only in its own goroutine.
func runCheck(ctx context.Context, check Check) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check itself broke: %v", p)
		}
	}()
	err = check(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v", checkTimeout)
	}
	return err
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client is gone then, and nobody is left to tell
}
