package queue

import (
	"context"
	"errors"
	"testing"
	"time"

	"steno/job"
	"steno/transcript"
)

// patientWorker has leases that no test waits for.
func patientWorker(name string) WorkerConfig {
	cfg := quick()
	cfg.Name, cfg.AckWait = name, 10*time.Minute
	return cfg
}

// TestRestartedNodeGoesOnAtOnce kills a node with a job in work. The next one does not wait for the dead worker's lease, the
// job keeps its place before those that were submitted later, and the lost attempt is counted.
func TestRestartedNodeGoesOnAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := startChild(t, "role:patient-node", dir, "hang")
	c.expect(t, "ready")
	cfg, err := Local(dir)
	if err != nil {
		t.Fatal(err)
	}
	client, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	running := submit(t, client, 1<<20)
	c.expect(t, "three chunks")
	later := submit(t, client, 1000)
	_ = c.kill()
	client.Close()

	q := open(t, startServer(t, EmbeddedConfig{Dir: dir}))
	s, err := q.Status(t.Context(), running.ID)
	if err != nil || s.State != job.Queued || len(s.History) != 1 || s.History[0].Outcome != OutcomeLost {
		t.Errorf("after the restart: %+v, %v", s, err)
	}
	began := time.Now()
	work(t, q, patientWorker("second"), five) // one slot
	first := await(t, q, running.ID, job.Done)
	second := await(t, q, later.ID, job.Done)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("both were done after %s", took)
	}
	if first.Attempt != 2 || len(first.History) != 2 {
		t.Errorf("status %+v", first)
	}
	if second.Started.Before(first.Finished) {
		t.Error("the job that came later went first")
	}
	if got, err := q.Result(t.Context(), running.ID); err != nil || got.Text != "computed 2, reused 3" {
		t.Errorf("result %q, %v", got.Text, err)
	}
	drained(t, q)
}

// TestLivingWorkersKeepTheirLeases connects to a server again while a worker is at work: only what was there when the server
// started is released.
func TestLivingWorkersKeepTheirLeases(t *testing.T) {
	server := startServer(t, EmbeddedConfig{})
	q := open(t, server)
	begun, finish := make(chan struct{}), make(chan struct{})
	work(t, q, patientWorker("w"), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		close(begun)
		<-finish
		return echo(ctx, d)
	})
	j := submit(t, q, 1000)
	<-begun
	other := open(t, server)
	if err := other.releaseOrphans(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := q.Status(t.Context(), j.ID); err != nil || s.State != job.Running {
		t.Errorf("state %s, %v: want running", s.State, err)
	}
	close(finish)
	if s := await(t, q, j.ID, job.Done); s.Attempt != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestOrphan(t *testing.T) {
	now := time.Unix(1000, 0).UTC()
	r := newRecord(job.Job{ID: job.NewID()}, DefaultPool, now)
	if got := r.claim(lease{ID: "a", Worker: "w", TTL: time.Minute}, 3, yes, now, now); got != claimRun {
		t.Fatalf("claim: %v", got)
	}
	if err := r.orphan("b", now); !errors.Is(err, errUnchanged) || r.Lease == nil {
		t.Errorf("another's lease: %v", err)
	}
	if err := r.orphan("a", now); err != nil || r.State != job.Queued || r.Lease != nil || r.Attempt != 1 {
		t.Errorf("%v, %+v", err, r)
	}
	if err := r.orphan("a", now); !errors.Is(err, errUnchanged) {
		t.Errorf("a second time: %v", err)
	}
	for i, want := range []claimed{claimRun, claimRun, claimExhausted} {
		id := string(rune('c' + i))
		if got := r.claim(lease{ID: id, TTL: time.Minute}, 3, yes, now, now); got != want {
			t.Fatalf("claim: %v, want %v", got, want)
		}
		_ = r.orphan(id, now)
	}
}

// TestLocalClientFollowsARestart keeps a client over the end of its server and the start of another one, whose address and
// token are others. (A Watch goes on as well, within about 20 s, when its consumer misses the heartbeats of the first.)
func TestLocalClientFollowsARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := startServer(t, EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0"})
	open(t, first)
	cfg, err := Local(dir)
	if err != nil {
		t.Fatal(err)
	}
	client, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	j := submit(t, client, 1000)
	first.Shutdown()
	second := startServer(t, EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0"})
	if second.token == first.token {
		t.Fatal("both servers have the same token")
	}
	work(t, open(t, second), quick(), echo)
	eventually(t, "the client is back", func() bool { return client.Ping(t.Context()) == nil })
	await(t, client, j.ID, job.Done)
}
