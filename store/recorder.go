package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"steno/job"
	"steno/transcript"
)

// Update is what the queue reports of a task.
type Update struct {
	Task  job.ID
	State job.State
	// Attempt counts how often a worker took the job, and never falls. Version orders the updates of one attempt; the revision of
	// the queue's record does. An update is late unless its (Attempt, Version) is above that of the last that was applied, so the
	// first needs a Version of at least 1.
	Attempt  int
	Version  uint64
	Progress job.Progress
	Error    *job.Error // required for failed
	// Result is required for done.
	Result  *transcript.Transcript
	Started time.Time // of this attempt; zero keeps what is known
	Ended   time.Time // of a terminal state; zero means now
	// Retried says that the queue has brought the job back from a failure. What is newer than a recorded failure follows it then.
	Retried bool
}

// Effect is what became of an update.
type Effect string

// The effects of an update. All but Applied have changed nothing.
const (
	Applied   Effect = "applied"
	Duplicate Effect = "duplicate" // this very update was applied before
	Late      Effect = "late"      // a newer one was applied before
	Ended     Effect = "ended"     // the task has a terminal state, which changes only where a failed task is tried again
	Unknown   Effect = "unknown"   // there is no such task, or it was deleted
)

// Apply records an update: state, progress, error and, for done, the transcript, all in one transaction. It may be called any
// number of times, from several processes, in any order; each task gets one terminal state and at most one result. A failed task
// is opened again, or takes another end, by an update that is newer than its failure and Retried.
func (s *Store) Apply(ctx context.Context, u Update) (Effect, error) {
	if err := checkUpdate(u); err != nil {
		return "", err
	}
	var body result
	if u.State == job.Done {
		var err error
		if body, err = packResult(*u.Result); err != nil {
			return "", forUser(ctx, "record the result", err)
		}
	}
	var effect Effect
	err := s.tx(ctx, func(c session) (err error) {
		effect, err = s.apply(ctx, c, u, body)
		return err
	})
	return effect, forUser(ctx, "record the task's state", err)
}

func checkUpdate(u Update) error {
	switch {
	case u.State == job.Done && u.Result == nil, u.State == job.Failed && (u.Error == nil || u.Error.Code == ""):
		return job.Errorf(job.Internal, "BAD_UPDATE", "update of task %s says %s without a result or an error", u.Task, u.State)
	case u.State != job.Queued && u.State != job.Running && !u.State.Terminal():
		return job.Errorf(job.Internal, "BAD_UPDATE", "update of task %s has the unknown state %q", u.Task, u.State)
	}
	return nil
}

func (s *Store) apply(ctx context.Context, c session, u Update, body result) (Effect, error) {
	now := s.now()
	var ended time.Time
	progress := u.Progress.Fraction()
	if u.State.Terminal() {
		ended = u.Ended
		if ended.IsZero() {
			ended = now
		}
	}
	if u.State == job.Done {
		progress = 1
	}
	e := shorten(u.Error)
	var webhook string
	err := c.row(ctx, applyUpdate, u.Task, u.State, u.Progress.Stage, progress, u.Attempt, int64(u.Version),
		e.Class, e.Code, e.Message, micros(u.Started), micros(ended), micros(now), u.Retried).Scan(&webhook)
	if errors.Is(err, sql.ErrNoRows) {
		return c.whyNot(ctx, u)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", applyUpdate.Name, err)
	}
	if !u.State.Terminal() {
		return Applied, nil
	}
	if u.State == job.Done {
		if _, err := c.exec(ctx, addResult, u.Task, body.data, body.sha256, body.bytes, micros(now)); err != nil {
			return "", err
		}
		if u.Result.Incomplete {
			if _, err := c.exec(ctx, withhold, u.Task); err != nil {
				return "", err
			}
		}
	}
	return Applied, s.announce(ctx, c, Task{ID: u.Task, Status: u.State, Webhook: webhook})
}

// whyNot says why an update was not applied.
func (c session) whyNot(ctx context.Context, u Update) (Effect, error) {
	var state job.State
	var attempt int
	var version int64
	err := c.row(ctx, getVersion, u.Task).Scan(&state, &attempt, &version)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Unknown, nil
	case err != nil:
		return "", fmt.Errorf("%s: %w", getVersion.Name, err)
	case state == u.State && attempt == u.Attempt && version == int64(u.Version):
		return Duplicate, nil
	case state.Terminal():
		return Ended, nil
	}
	return Late, nil
}

// shorten is the part of an error that is kept: what users see, up to 4 KiB.
func shorten(e *job.Error) job.Error {
	if e == nil {
		return job.Error{}
	}
	message := strings.ToValidUTF8(strings.ReplaceAll(e.Message, "\x00", ""), "")
	return job.Error{Class: e.Class, Code: e.Code, Message: strings.ToValidUTF8(message[:min(len(message), 4<<10)], "")}
}

// Result is the transcript of a task that is done.
type Result struct {
	Transcript transcript.Transcript
	SHA256     string // of its JSON, 64 hex digits: an entity tag
	Bytes      int64  // of its JSON
}

// result is a row of the table: gzip makes a tenth of the JSON, and so of what each commit writes.
type result struct {
	data   []byte
	sha256 string
	bytes  int64
}

func packResult(t transcript.Transcript) (result, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return result{}, fmt.Errorf("encode transcript: %w", err)
	}
	sum := sha256.Sum256(data)
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err = w.Write(data)
	if err := errors.Join(err, w.Close()); err != nil {
		return result{}, fmt.Errorf("compress transcript: %w", err)
	}
	return result{buf.Bytes(), hex.EncodeToString(sum[:]), int64(len(data))}, nil
}

func (r result) unpack() (Result, error) {
	full := Result{SHA256: r.sha256, Bytes: r.bytes}
	zr, err := gzip.NewReader(bytes.NewReader(r.data))
	if err != nil {
		return Result{}, fmt.Errorf("decompress transcript: %w", err)
	}
	data, err := io.ReadAll(zr)
	if err != nil {
		return Result{}, fmt.Errorf("decompress transcript: %w", err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != r.sha256 {
		return Result{}, errors.New("the transcript does not have the checksum it was written with")
	}
	if err := json.Unmarshal(data, &full.Transcript); err != nil {
		return Result{}, fmt.Errorf("decode transcript: %w", err)
	}
	return full, nil
}
