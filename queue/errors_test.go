package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// What the server says of a full disk has no code of its own; which one it comes with depends on what was asked.
func TestUnreachable(t *testing.T) {
	api := func(code jetstream.ErrorCode, text string) error {
		return fmt.Errorf("write: %w", &jetstream.APIError{Code: 500, ErrorCode: code, Description: text})
	}
	const full = "write /srv/steno/nats/jetstream/$G/streams/S/msgs/1.blk: no space left on device"
	const free = "submit the job: the disk under the queue is full: free space on it; the job was not accepted"
	for name, c := range map[string]struct {
		err     error
		class   job.Class
		code    string
		message string
	}{
		"a purge":               {api(10051, full), job.Resource, "QUEUE_STORE_FULL", free},
		"a publish":             {api(codeStoreFailed, full), job.Resource, "QUEUE_STORE_FULL", free},
		"an older client":       {&nats.APIError{ErrorCode: 10077, Description: full}, job.Resource, "QUEUE_STORE_FULL", free},
		"beside a time-out":     {errors.Join(context.DeadlineExceeded, api(10051, full)), job.Resource, "QUEUE_STORE_FULL", free},
		"all storage reserved":  {api(codeNoStorage, "insufficient storage resources available"), job.Resource, "QUEUE_STORE_FULL", "more bytes"},
		"insufficient":          {api(codeInsufficient, "insufficient resources"), job.Resource, "QUEUE_STORE_FULL", "more bytes"},
		"a stream's limit":      {api(codeStoreFailed, overBytes), job.Resource, "QUEUE_STORE_FULL", "more bytes"},
		"another fault":         {api(10051, "stream is broken"), job.Transient, "QUEUE_UNREACHABLE", "stream is broken"},
		"no answer":             {nats.ErrTimeout, job.Transient, "QUEUE_UNREACHABLE", "check that `steno up`"},
		"one for users already": {queueFull(nil), job.Resource, "QUEUE_FULL", "the queue is full"},
	} {
		err := unreachable(submitting, c.err)
		wantCode(t, err, c.class, c.code)
		if !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: %v", name, err)
		}
		if full := c.message == free; errors.Is(err, syscall.ENOSPC) != full || full && strings.Contains(err.Error(), "/srv") {
			t.Errorf("%s: a full disk is %v to programs; %v", name, !full, err)
		}
	}
}

// A job that was refused and cannot be taken back may run later: nobody must be told that it was not accepted.
func TestRefusedJobThatStays(t *testing.T) {
	q := newQueue(t, func(c *Config) { c.Limits.Jobs = 1 })
	first := submit(t, q, 10)
	stream, err := q.js.Stream(t.Context(), "KV_"+bucketJobs)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.DenyPurge, cfg.AllowRollup = true, false
	if _, err := q.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	id := job.NewID()
	err = q.Submit(t.Context(), job.Job{ID: id, Source: first.Source})
	wantCode(t, err, job.Transient, "QUEUE_UNREACHABLE")
	if !strings.Contains(err.Error(), "may run later") {
		t.Error(err)
	}
	if s, err := q.Status(t.Context(), id); err != nil || s.State != job.Queued {
		t.Errorf("%+v, %v", s, err)
	}
}
