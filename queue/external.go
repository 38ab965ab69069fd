package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// WatchAll sends the status of every job that the queue holds, and then of each that changes, until ctx ends or the queue is
// closed; the channel is closed then. Deleted jobs are not told. It survives a restart of the broker: after each reconnect it
// sends all jobs again as they are then, so what changed meanwhile is not missed, and states of one job never go back. A receiver
// that is slow may miss states between, never the last. The caller must receive until the end, or end ctx.
func (q *Queue) WatchAll(ctx context.Context) (<-chan Status, error) {
	back := q.nc.StatusChanged(nats.CONNECTED)
	records, err := q.records.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		q.nc.RemoveStatusListener(back)
		return nil, unreachable("watch the jobs", err)
	}
	out := make(chan Status)
	go func() {
		defer close(out)
		defer q.nc.RemoveStatusListener(back)
		for records != nil {
			again := q.forward(ctx, records, back, out)
			stopWatch(records)
			if !again {
				return
			}
			records = q.watchAgain(ctx)
		}
	}()
	return out, nil
}

// forward passes on what a watcher brings. It reports whether there is to be another watcher: the library's own goes on after a
// reconnect too, but only when it has missed two heartbeats, 10 s later.
func (q *Queue) forward(ctx context.Context, records jetstream.KeyWatcher, back <-chan nats.Status, out chan<- Status) bool {
	for {
		select {
		case entry, ok := <-records.Updates():
			if !ok {
				return ctx.Err() == nil && !q.nc.IsClosed()
			}
			if entry == nil || entry.Operation() != jetstream.KeyValuePut {
				continue
			}
			r, err := decodeRecord(entry.Value())
			if err != nil {
				q.cfg.Log.Error("job record", "job", entry.Key(), "error", err)
				continue
			}
			s := r.status()
			s.Version = entry.Revision()
			select {
			case out <- s:
			case <-ctx.Done():
				return false
			}
		case <-back:
			return true
		case <-ctx.Done():
			return false
		}
	}
}

// watchAgain opens a watcher as soon as the broker lets it. It returns nil where ctx or the connection has ended.
func (q *Queue) watchAgain(ctx context.Context) jetstream.KeyWatcher {
	for pause := 50 * time.Millisecond; !q.nc.IsClosed(); pause = min(2*pause, 2*time.Second) {
		if q.nc.IsConnected() {
			records, err := q.records.WatchAll(ctx, jetstream.IgnoreDeletes())
			if err == nil {
				return records
			}
			if ctx.Err() == nil {
				q.cfg.Log.Warn("watch the jobs", "error", err, "pause", pause)
			}
		}
		if !sleep(ctx, pause+rand.N(pause)) {
			return nil
		}
	}
	return nil
}

// Recorded says that the record outside the queue has the end of an external job, so that the queue need not hold it for long.
// Which end is told by its time, Status.Finished: a job that was retried has more than one. To say it again, of a job that has
// not ended, of another end or of a job that is gone changes nothing.
func (q *Queue) Recorded(ctx context.Context, id job.ID, finished time.Time) error {
	_, err := q.change(ctx, id, func(r *record, _ time.Time) error {
		if !r.State.Terminal() || !r.Recorded.IsZero() || !r.Finished.Equal(finished) {
			return errUnchanged
		}
		r.Recorded = time.Now().UTC()
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return unreachable("note that the job is recorded", err)
}

// Forget erases what the queue holds of a job that has ended: record, result, dead letter, and a message that was left over. That
// there is nothing is no error. One that has not ended is cancelled, and the error is TRANSIENT with the code JOB_RUNNING until
// its worker has stopped.
func (q *Queue) Forget(ctx context.Context, id job.ID) error {
	return unreachable("delete the job", q.erase(ctx, id))
}

func (q *Queue) erase(ctx context.Context, id job.ID) error {
	r, _, err := q.record(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	known := err == nil
	if known && !r.State.Terminal() {
		if err := q.Cancel(ctx, id); err != nil && !ended(err) {
			return err
		}
		if r, _, err = q.record(ctx, id); err != nil {
			return err
		}
		if !r.State.Terminal() {
			return job.Errorf(job.Transient, "JOB_RUNNING", "job %s is being cancelled: delete it again in a moment", id)
		}
	}
	// The record goes last: while it is there, whoever tries again after a crash finds the rest.
	if err := errors.Join(q.exhume(ctx, string(id)), q.unpublishAnywhere(ctx, id)); err != nil {
		return err
	}
	if r.Result != "" {
		if err := q.results.remove(ctx, r.Result); err != nil {
			return err
		}
	}
	if !known {
		return nil
	}
	return q.forget(ctx, id)
}

// ended reports whether err says that a job has ended before.
func ended(err error) bool {
	var e *job.Error
	return errors.As(err, &e) && e.Code == "JOB_ENDED"
}

// keepMark is the entry in the meta data of audio that Sweep leaves alone.
const keepMark = "steno-keep"

// KeepAudio holds an object of the audio store until DeleteAudio, whatever its age, for files that wait for their first job. The
// error's code is AUDIO_MISSING where it is not in the store.
func (q *Queue) KeepAudio(ctx context.Context, object string) error {
	err := q.audio.change(ctx, object, func(info *jetstream.ObjectInfo) {
		if info.Metadata == nil {
			info.Metadata = map[string]string{}
		}
		info.Metadata[keepMark] = "1"
	})
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return audioMissing()
	}
	return q.unreachable("keep the audio", err)
}

// DeleteAudio lets go of an object and removes it, unless a job that is not external needs it: Sweep does it then when that
// job's time has come. That it is not there is no error.
func (q *Queue) DeleteAudio(ctx context.Context, object string) error {
	err := q.audio.change(ctx, object, func(info *jetstream.ObjectInfo) { delete(info.Metadata, keepMark) })
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil
	}
	if err != nil {
		return unreachable("delete the audio", err)
	}
	needed, now := false, time.Now()
	err = q.each(ctx, func(r record, _ time.Time) {
		young := !r.Job.External && now.Sub(r.Finished) <= q.cfg.Limits.AudioAge
		needed = needed || r.Job.Source.Object == object && (!r.State.Terminal() || young)
	})
	if err == nil && !needed {
		err = q.audio.remove(ctx, object)
	}
	return unreachable("delete the audio", err)
}

// kept reports whether an object is held by KeepAudio.
func kept(info *jetstream.ObjectInfo) bool { return info.Metadata[keepMark] != "" }

// errChanging is returned where an object's meta data change faster than they can be written.
var errChanging = fmt.Errorf("the object is being changed by others: %w", context.DeadlineExceeded)
