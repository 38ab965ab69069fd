package api_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"steno/api"
)

// Readiness names what is wrong, in the words of the check only where those are for everybody, and models that rest.
func TestReadyNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	var failure atomic.Value
	type cause struct{ error }
	failure.Store(cause{})
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	resting := map[string]time.Time{}
	r := newRig(t, func(c *api.Config) {
		c.Ready["models"] = func(context.Context) error { return failure.Load().(cause).error }
		c.Quarantined = func() map[string]time.Time { return resting }
	})
	type body struct {
		Status string
		Checks map[string]struct {
			OK     bool
			Detail string
		}
		Quarantined map[string]time.Time
	}
	// An answer is kept for a second.
	ask := func(path string, status int) (b body) {
		t.Helper()
		time.Sleep(1100 * time.Millisecond)
		r.call(user{}, "GET", path, nil).want(status).json(&b)
		return b
	}
	if b := ask("/health/ready", 200); b.Status != "ready" || !b.Checks["models"].OK || b.Quarantined != nil {
		t.Errorf("%+v", b)
	}
	failure.Store(cause{api.Shown{Err: errors.New("the model pool is stuck")}})
	resting["tiny.en"] = until
	b := ask("/api/v1/health/ready", 503)
	if m := b.Checks["models"]; b.Status != "not ready" || m.OK || m.Detail != "the model pool is stuck" {
		t.Errorf("%+v", b)
	}
	if !b.Checks["queue"].OK || !b.Checks["database"].OK || !b.Quarantined["tiny.en"].Equal(until) {
		t.Errorf("%+v", b)
	}
	failure.Store(cause{errors.New("10.0.0.7: connection refused")})
	if m := ask("/health/ready", 503).Checks["models"]; m.OK || m.Detail != "it does not answer as it should: see the log" {
		t.Errorf("%+v", m)
	}
}
