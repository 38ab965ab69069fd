package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"steno/api"
	"steno/internal/disk"
	"steno/job"
)

// fullStore is an object store without room.
type fullStore struct{ api.Objects }

func (fullStore) Put(context.Context, io.Reader) (job.Source, error) {
	return job.Source{}, fmt.Errorf("write the object: %w", syscall.ENOSPC)
}

// While there is no room nothing new is taken, with an answer that says so; what is there is shown as ever.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	var low atomic.Bool
	r := newRig(t, func(c *api.Config) {
		c.Room = func() error {
			if low.Load() {
				return &disk.LowError{Path: "/srv/secret", Free: 1 << 20, Want: 1 << 30}
			}
			return nil
		}
	})
	f := r.upload(r.ada, "a.wav", wav(1))
	body := map[string]any{"file_id": f.ID, "language": "en"}
	low.Store(true)
	for what, p := range map[string]*reply{
		"upload": r.call(r.ada, "POST", filesPath+"?name=b.wav", wav(2), "Content-Type", "audio/wav"),
		"create": r.call(r.ada, "POST", createPath, body),
	} {
		p.want(http.StatusInsufficientStorage)
		if text := string(p.body); p.Header.Get("Retry-After") != "60" || !strings.Contains(text, "DISK_FULL") || strings.Contains(text, "secret") {
			t.Errorf("%s: Retry-After %q, %s", what, p.Header.Get("Retry-After"), text)
		}
	}
	r.call(r.ada, "GET", filesPath+"/"+f.ID, nil).want(http.StatusOK)
	low.Store(false)
	r.call(r.ada, "POST", createPath, body).want(http.StatusCreated)
}

// The disk under an outside queue is not seen before it is written to.
func TestQueueStoreFull(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t, unprobed, func(c *api.Config) { c.Objects = refusingStore{c.Objects} })
	p := r.call(r.ada, "POST", filesPath+"?name=a.wav", wav(1), "Content-Type", "audio/wav")
	p.problem(http.StatusInsufficientStorage, "QUEUE_STORE_FULL")
	if p.Header.Get("Retry-After") != "60" || strings.Contains(string(p.body), "secret") {
		t.Errorf("Retry-After %q, %s", p.Header.Get("Retry-After"), p.body)
	}
	r.empty(scratch)
}

// refusingStore is an object store on a queue whose disk is full.
type refusingStore struct{ api.Objects }

func (refusingStore) Put(context.Context, io.Reader) (job.Source, error) {
	return job.Source{}, job.Errorf(job.Resource, "QUEUE_STORE_FULL", "the disk under the queue is full: free space on secret.example")
}

// A disk that is full between the look and the write is told in the same way.
func TestDiskFullOnTheWay(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t, unprobed, func(c *api.Config) { c.Objects = fullStore{c.Objects} })
	p := r.call(r.ada, "POST", filesPath+"?name=a.wav", wav(1), "Content-Type", "audio/wav").want(http.StatusInsufficientStorage)
	if !strings.Contains(string(p.body), "DISK_FULL") {
		t.Errorf("%s", p.body)
	}
	r.empty(scratch)
}
