package queue

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
	"steno/transcript"
)

// Kinds of events on steno.events.<job>.<kind>. They are lossy by design: the record has what counts.
const (
	eventProgress = "progress"
	eventSegments = "segments"
)

// keptSegments bounds what is held for a receiver that does not keep up.
const keptSegments = 1000

// Watch sends a job's status now, after every change, and with each progress report and partial transcript. A slow receiver
// gets the latest status, not each one. The channel is closed after a terminal status, or when ctx ends or the connection is
// closed; the caller must receive until then, or end ctx.
func (q *Queue) Watch(ctx context.Context, id job.ID) (<-chan Status, error) {
	if _, _, err := q.record(ctx, id); err != nil {
		return nil, unreachable("watch the job", err)
	}
	events := make(chan *nats.Msg, 64)
	sub, err := q.nc.ChanSubscribe(eventSubject(id, "*"), events)
	if err != nil {
		return nil, unreachable("watch the job", err)
	}
	records, err := q.records.Watch(ctx, string(id))
	if err != nil {
		_ = sub.Unsubscribe()
		return nil, unreachable("watch the job", err)
	}
	w := &watch{q: q, id: id, records: records, events: events, out: make(chan Status)}
	go func() {
		defer close(w.out)
		defer stopWatch(records)
		defer func() { _ = sub.Unsubscribe() }() // an error means that the connection has ended
		w.run(ctx)
	}()
	return w.out, nil
}

// watch is owned by its goroutine.
type watch struct {
	q       *Queue
	id      job.ID
	records jetstream.KeyWatcher
	events  chan *nats.Msg
	out     chan Status

	now   Status
	fresh bool // now has something that the receiver has not seen
}

func (w *watch) run(ctx context.Context) {
	for {
		var out chan Status
		if w.fresh {
			out = w.out
		}
		select {
		case entry, ok := <-w.records.Updates():
			if !ok {
				return
			}
			w.record(entry)
		case m := <-w.events:
			if err := w.event(m); err != nil {
				w.q.cfg.Log.Warn("job event", "job", w.id, "error", err)
			}
		case out <- w.now:
			w.fresh, w.now.Segments = false, nil
			if w.now.State.Terminal() {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (w *watch) record(entry jetstream.KeyValueEntry) {
	if entry == nil || entry.Operation() != jetstream.KeyValuePut {
		return
	}
	r, err := decodeRecord(entry.Value())
	if err != nil {
		w.q.cfg.Log.Error("job record", "job", w.id, "error", err)
		return
	}
	next := r.status()
	next.Version = entry.Revision()
	next.Segments = w.now.Segments
	// Progress by event may be ahead of the record, but not from one attempt to the next.
	if next.State == job.Running && next.Started.Equal(w.now.Started) && next.Progress.Done < w.now.Progress.Done {
		next.Progress = w.now.Progress
	}
	w.now, w.fresh = next, true
}

func (w *watch) event(m *nats.Msg) error {
	if w.now.State != job.Running {
		return nil // the record has not arrived yet, or the job is over
	}
	switch m.Subject {
	case eventSubject(w.id, eventProgress):
		if err := json.Unmarshal(m.Data, &w.now.Progress); err != nil {
			return fmt.Errorf("decode progress: %w", err)
		}
	case eventSubject(w.id, eventSegments):
		var s []transcript.Segment
		if err := json.Unmarshal(m.Data, &s); err != nil {
			return fmt.Errorf("decode segments: %w", err)
		}
		w.now.Segments = append(w.now.Segments, s...)
		if over := len(w.now.Segments) - keptSegments; over > 0 {
			w.now.Segments = w.now.Segments[over:]
		}
	default:
		return nil
	}
	w.fresh = true
	return nil
}
