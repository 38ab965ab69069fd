package queue

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"steno/job"
)

// A message that its consumer takes for acknowledged never comes again. The state is made from two real ones: a stream of before the
// acknowledgement, with the consumer of after it.
func TestReconcileStuckMessage(t *testing.T) {
	t.Parallel()
	before, after := t.TempDir(), t.TempDir()
	var ids []job.ID
	visit := func(dir string, f func(q *Queue)) {
		t.Helper()
		s, err := Embedded(t.Context(), EmbeddedConfig{Dir: dir, MaxBytes: 256 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		q, err := Connect(t.Context(), Config{Server: s, Log: testLog(t), Grace: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		f(q)
	}
	visit(before, func(q *Queue) {
		_ = work(t, q, quick(), echo)() // makes the consumers
		for range 3 {
			ids = append(ids, submit(t, q, 10).ID)
		}
	})
	if err := os.CopyFS(after, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	visit(after, func(q *Queue) {
		stop := work(t, q, quick(), echo)
		drained(t, q)
		_ = stop()
	})
	old, newer := consumers(t, before), consumers(t, after)
	if err := os.RemoveAll(old); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(old, os.DirFS(newer)); err != nil {
		t.Fatal(err)
	}
	visit(before, func(q *Queue) {
		stop := work(t, q, quick(), echo)
		defer func() { _ = stop() }()
		await(t, q, submit(t, q, 10).ID, job.Done) // so they had their turn
		for _, id := range ids {
			if s, err := q.Status(t.Context(), id); err != nil || s.State != job.Queued || s.Claims != 0 {
				t.Fatalf("job %s is not stuck, so this test shows nothing: %+v, %v", id, s, err)
			}
		}
		time.Sleep(60 * time.Millisecond)
		rep, err := q.Reconcile(t.Context())
		if err != nil || rep != (Report{Renewed: len(ids)}) {
			t.Fatalf("%+v, %v", rep, err)
		}
		for _, id := range ids {
			await(t, q, id, job.Done)
		}
		drained(t, q)
		if rep, err := q.Reconcile(t.Context()); err != nil || rep != (Report{}) {
			t.Errorf("a healthy queue is not left alone: %+v, %v", rep, err)
		}
	})
}

// consumers is the folder in which a server keeps what it knows of the consumers of jobs.
func consumers(t *testing.T, dir string) string {
	t.Helper()
	found := ""
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if strings.HasSuffix(path, filepath.Join(streamJobs, "obs")) {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("there are no consumers in %s: %v", dir, err)
	}
	return found
}
