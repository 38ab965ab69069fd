package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
	"steno/transcript"
)

// Delivery is one attempt at a job, as its handler sees it. Its methods are safe for concurrent use.
type Delivery struct {
	Job job.Job
	// Attempt counts from 1; attempts that were handed back do not count.
	Attempt int
	// Redelivered says that an earlier attempt was begun, so that there may be chunk results.
	Redelivered bool
	// Waited is the time since the job was queued.
	Waited time.Duration

	w      *worker
	msg    jetstream.Msg
	rec    record // as the attempt began
	lease  string
	log    *slog.Logger
	chunks *Chunks
	cancel context.CancelCauseFunc // of the handler's context
	kick   chan struct{}           // asks the keeper to look at the record now
	settle sync.Once

	stopKeeper func() // returns when it has stopped

	mu        sync.Mutex
	progress  job.Progress
	alive     time.Time // last sign of progress
	published time.Time
}

// Fetch writes the job's audio from the object store to dst; its SHA-256 is checked at the end.
func (d *Delivery) Fetch(ctx context.Context, dst io.Writer) error {
	return d.w.q.fetchAudio(ctx, d.Job.Source, lively{d, dst})
}

// FetchTo writes the job's audio to a new file, which only its owner can read. On error there is no file.
func (d *Delivery) FetchTo(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make file for the audio: %w", err)
	}
	err = d.Fetch(ctx, f)
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path)
		return err
	}
	return nil
}

// lively takes each write as a sign of progress.
type lively struct {
	d *Delivery
	w io.Writer
}

func (l lively) Write(p []byte) (int, error) {
	l.d.Alive()
	return l.w.Write(p)
}

// Chunks keeps results of chunks for the next attempt.
func (d *Delivery) Chunks() *Chunks { return d.chunks }

// Alive tells that the work moves though its progress cannot be said. Call it for real signs only: it keeps the lease.
func (d *Delivery) Alive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.alive = time.Now()
}

// publishEvery bounds how often progress is published; a change of stage always is.
const publishEvery = 250 * time.Millisecond

// Progress tells how far the job is, and that it moves: without a call for WorkerConfig.StallAfter the job counts as hung.
// It may be called as often as is convenient.
func (d *Delivery) Progress(p job.Progress) {
	now := time.Now()
	d.mu.Lock()
	next := p.Stage != d.progress.Stage
	publish := next || now.Sub(d.published) >= publishEvery
	if publish {
		d.published = now
	}
	d.progress, d.alive = p, now
	d.mu.Unlock()
	if d.rec.suspect() && p.Done > d.rec.Furthest { // it got further than where it was last seen to die
		d.w.release(d.Job.ID)
	}
	if next {
		d.look() // the record shall say in which stage a worker died
	}
	if publish {
		d.publish(eventProgress, p)
	}
}

// look makes the keeper read and renew the record now.
func (d *Delivery) look() {
	select {
	case d.kick <- struct{}{}:
	default: // it is about to
	}
}

// Segments shows a part of the transcript, without its words, to those who watch the job. It is a sign of progress, too.
func (d *Delivery) Segments(s []transcript.Segment) {
	d.Alive()
	s = slices.Clone(s)
	for i := range s {
		s[i].Words = nil // ten times the rest
	}
	d.publish(eventSegments, s)
}

// publish sends an event; that nobody gets it is no error.
func (d *Delivery) publish(kind string, v any) {
	data, err := json.Marshal(v)
	if err == nil {
		err = d.w.q.nc.Publish(eventSubject(d.Job.ID, kind), data)
	}
	if err != nil {
		d.log.Warn("publish event", "kind", kind, "error", err)
	}
}

func (d *Delivery) state() (p job.Progress, alive time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.progress, d.alive
}
