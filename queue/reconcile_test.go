package queue

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
	"steno/transcript"
)

func failOn(id job.ID) Handler {
	return func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		if d.Job.ID == id {
			return transcript.Transcript{}, job.Errorf(job.Input, "BAD", "bad")
		}
		return echo(ctx, d)
	}
}

// eager takes nothing to be under way.
func eager(c *Config) { c.Grace = time.Nanosecond }

func reconcile(t *testing.T, q *Queue, want Report) {
	t.Helper()
	if got, err := q.Reconcile(t.Context()); err != nil || got != want {
		t.Fatalf("reconciled %+v, %v; want %+v", got, err, want)
	}
	if got, err := q.Reconcile(t.Context()); err != nil || got != (Report{}) {
		t.Fatalf("reconciled once more %+v, %v; want nothing", got, err)
	}
}

func TestReconcileLeavesAHealthyQueueAlone(t *testing.T) {
	q := newQueue(t, eager)
	bad, running := submit(t, q, 10), submit(t, q, 11)
	release := make(chan struct{})
	work(t, q, quick(), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		if d.Job.ID == running.ID {
			<-release
		}
		return failOn(bad.ID)(ctx, d)
	})
	await(t, q, bad.ID, job.Failed)
	await(t, q, running.ID, job.Running)
	queued := submit(t, q, 12).ID
	eventually(t, "there is a dead letter", func() bool {
		_, err := q.DeadLetter(t.Context(), string(bad.ID))
		return err == nil
	})
	reconcile(t, q, Report{})
	if err := q.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(release)
	await(t, q, running.ID, job.Done)
	await(t, q, queued, job.Done)
}

func TestReconcilePublishesHalfASubmit(t *testing.T) {
	q := newQueue(t, eager)
	j := submit(t, q, 10)
	r, _, err := q.record(t.Context(), j.ID)
	if err := errors.Join(err, q.unpublish(t.Context(), r)); err != nil {
		t.Fatal(err)
	}
	reconcile(t, q, Report{Republished: 1})
	work(t, q, quick(), echo)
	await(t, q, j.ID, job.Done)
	drained(t, q)
}

func TestReconcileRemovesMessagesOfEndedJobs(t *testing.T) {
	q := newQueue(t, eager)
	j := submit(t, q, 10)
	if _, err := q.change(t.Context(), j.ID, func(r *record, _ time.Time) error { return r.requestCancel(time.Now()) }); err != nil {
		t.Fatal(err)
	}
	reconcile(t, q, Report{Removed: 1})
	drained(t, q)
}

func TestReconcileBuriesAndExhumes(t *testing.T) {
	q := newQueue(t, eager)
	j := submit(t, q, 10)
	stop := work(t, q, quick(), failOn(j.ID))
	await(t, q, j.ID, job.Failed)
	drained(t, q)
	if err := errors.Join(stop(), q.exhume(t.Context(), string(j.ID))); err != nil {
		t.Fatal(err)
	}
	// Another message id than the first burial had: as after the window in which JetStream knows them.
	if _, err := q.change(t.Context(), j.ID, func(r *record, _ time.Time) error { r.Generation = 9; return nil }); err != nil {
		t.Fatal(err)
	}
	reconcile(t, q, Report{Buried: 1})
	// A retry that died after its first write.
	if _, err := q.change(t.Context(), j.ID, func(r *record, _ time.Time) error { return r.revive(time.Now()) }); err != nil {
		t.Fatal(err)
	}
	got, err := q.Reconcile(t.Context())
	if err != nil || got.Exhumed != 1 {
		t.Fatalf("reconciled %+v, %v", got, err)
	}
	reconcile(t, q, Report{Republished: 1})
	work(t, q, quick(), echo)
	await(t, q, j.ID, job.Done)
}

func TestReconcileCancelsForADeadWorker(t *testing.T) {
	q := newQueue(t, eager)
	j := submit(t, q, 10)
	if _, err := q.change(t.Context(), j.ID, func(r *record, renewed time.Time) error {
		r.claim(lease{ID: "dead", TTL: time.Millisecond}, 3, yes, time.Now(), renewed)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := q.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond)
	reconcile(t, q, Report{Cancelled: 1})
	await(t, q, j.ID, job.Cancelled)
	drained(t, q)
}

func TestReconcileBuriesWhatJetStreamGaveUp(t *testing.T) {
	t.Parallel() // it mostly waits
	q := newQueue(t, eager)
	j := submit(t, q, 10)
	c, err := q.js.CreateConsumer(t.Context(), streamJobs, jetstream.ConsumerConfig{
		Durable: "any-normal", FilterSubject: subjectJobs + ".any.normal.*",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: 100 * time.Millisecond, MaxDeliver: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // one that takes it, and one that waits when its time is over
		batch, err := c.Fetch(1, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for range batch.Messages() { //nolint:revive // taken and lost
		}
	}
	eventually(t, "the stream has the advisory", func() bool {
		info, err := q.advisories.Info(t.Context())
		return err == nil && info.State.Msgs == 1
	})
	reconcile(t, q, Report{Buried: 1})
	if s := await(t, q, j.ID, job.Failed); s.Error.Code != "GIVEN_UP" {
		t.Errorf("status %+v", s)
	}
	if _, err := q.DeadLetter(t.Context(), string(j.ID)); err != nil {
		t.Error(err)
	}
	drained(t, q)
}

func TestMessageWithoutARecord(t *testing.T) {
	q := newQueue(t)
	j := submit(t, q, 10)
	if err := q.forget(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	work(t, q, quick(), echo)
	eventually(t, "the job is done all the same", func() bool {
		s, err := q.Status(t.Context(), j.ID)
		return err == nil && s.State == job.Done
	})
	drained(t, q)
}

func TestSweep(t *testing.T) {
	t.Parallel() // it mostly waits
	q := newQueue(t, eager, func(c *Config) { c.Limits.AudioAge, c.Limits.ResultAge = 3*time.Second, 6*time.Second })
	waiting, done := submit(t, q, 10), submit(t, q, 11)
	if err := q.Cancel(t.Context(), waiting.ID); err != nil {
		t.Fatal(err)
	}
	stop := work(t, q, quick(), echo)
	await(t, q, done.ID, job.Done)
	drained(t, q)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	waiting = submit(t, q, 10)
	if _, err := q.PutAudio(t.Context(), bytes.NewReader([]byte("no job"))); err != nil {
		t.Fatal(err)
	}
	name := func(string) string { return "loser.1" }
	if _, err := q.results.put(t.Context(), bytes.NewReader([]byte("x")), name); err != nil {
		t.Fatal(err)
	}
	count := func(o *objects) int {
		list, err := o.store.List(t.Context())
		if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
			t.Fatal(err)
		}
		return len(list)
	}
	sweep := func() {
		t.Helper()
		if err := q.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sweep()
	if a, r := count(q.audio), count(q.results); a != 4 || r != 1 {
		t.Errorf("%d recordings and %d results at first; want all 4, and the 1 that has a job", a, r)
	}
	time.Sleep(3500 * time.Millisecond)
	sweep()
	if a, r := count(q.audio), count(q.results); a != 1 || r != 1 {
		t.Errorf("%d recordings and %d results later; want that of the waiting job, and 1", a, r)
	}
	time.Sleep(3500 * time.Millisecond)
	sweep()
	if r := count(q.results); r != 0 {
		t.Errorf("%d results at last", r)
	}
	if list, err := q.List(t.Context(), Filter{}); err != nil || len(list) != 1 || list[0].Job.ID != waiting.ID {
		t.Errorf("jobs %v, %v; want the waiting one", list, err)
	}
	work(t, q, quick(), echo)
	await(t, q, waiting.ID, job.Done)
}

func TestSweepRemovesChunksOfCutUploads(t *testing.T) {
	q := newQueue(t)
	submit(t, q, 1000)
	for _, nuid := range []string{"a", "a", "b"} {
		if _, err := q.js.Publish(t.Context(), chunkSubject(bucketAudio, nuid), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	left := func(now time.Time) int {
		t.Helper()
		if err := q.sweepChunks(t.Context(), q.audio, now); err != nil {
			t.Fatal(err)
		}
		ids, err := idsOn(t.Context(), q.audio.stream, chunkSubject(bucketAudio, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(ids)
	}
	if n := left(time.Now()); n != 3 {
		t.Errorf("%d uploads while they may be under way, want 3", n)
	}
	if n := left(time.Now().Add(uploadAge + time.Minute)); n != 1 {
		t.Errorf("%d uploads later, want the 1 that has an object", n)
	}
}

func TestMaintenanceTakesTurns(t *testing.T) {
	s := startServer(t, EmbeddedConfig{})
	a, b := open(t, s), open(t, s)
	if !a.ourTurn(t.Context()) || a.ourTurn(t.Context()) || b.ourTurn(t.Context()) {
		t.Error("not one turn in all")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.Maintain(ctx) // returns
}

func TestChunks(t *testing.T) {
	q := newQueue(t)
	c := &Chunks{q: q}
	long := string(bytes.Repeat([]byte("k"), 500))
	for _, key := range []string{"a1.0-480000.json", "with space/and:more", "", "a..b", long} {
		if _, found, err := c.Get(t.Context(), key); err != nil || found {
			t.Errorf("key %.20q: found %t, %v before it was put", key, found, err)
		}
		if err := c.Put(t.Context(), key, []byte("v:"+key)); err != nil {
			t.Errorf("key %.20q: %v", key, err)
		}
		if data, found, err := (&Chunks{q: q}).Get(t.Context(), key); err != nil || !found || string(data) != "v:"+key {
			t.Errorf("key %.20q: %.20q, %t, %v", key, data, found, err)
		}
	}
	if err := c.Put(t.Context(), "big", make([]byte, maxValueSize+1)); err == nil {
		t.Error("took a value that is too large")
	}
	c.clear(t.Context())
	info, err := q.chunkStream.Info(t.Context())
	if err != nil || info.State.Msgs != 0 {
		t.Errorf("%d values are left, %v", info.State.Msgs, err)
	}
}
