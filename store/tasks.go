package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"steno/job"
)

// Task is one transcription: a row of its user's history.
type Task struct {
	ID       job.ID
	User     string
	File     string // the file's id; empty once the file was deleted
	FileName string
	SHA256   string     // of the audio
	Duration float64    // of the audio, seconds
	Params   job.Params // with defaults filled in
	Priority int
	Webhook  string
	Status   job.State
	Stage    job.Stage
	Progress float64 // 0..1
	Attempt  int
	// Error says why a failed task failed, or what a waiting one is tried again for.
	Error *job.Error
	// Reused says that the transcript is a copy of an earlier one of the same audio, model and parameters.
	Reused bool
	// Cancelling says that the user asked for the end of the task, which has not come yet.
	Cancelling bool
	Created    time.Time
	Started    time.Time // of the last attempt; zero before the first
	Ended      time.Time // zero for open tasks
	Updated    time.Time
}

// NewTask is what CreateTask needs. User and File are required.
type NewTask struct {
	User     string
	File     string
	Params   job.Params
	Priority int
	Webhook  string
	// IdempotencyKey makes repeated calls create one task; empty means that each call creates one. RequestHash is a hash of the
	// request that came with the key.
	IdempotencyKey string
	RequestHash    string
	// Reuse takes over a finished transcript of the same content (SHA-256), model and parameters, if there is a complete one on this
	// database; the task is then done at once and nothing is published. Whose task it was does not matter and is not told: the
	// transcript alone is copied, never ownership, file names or times, and the copy stays when the other task is deleted.
	Reuse bool
}

// ParamsHash identifies all that decides a transcript besides audio: 64 hex digits over p with its defaults filled in.
func ParamsHash(p job.Params) string {
	_, hash := encodeParams(p)
	return hash
}

func encodeParams(p job.Params) (text, hash string) {
	data, err := json.Marshal(p.WithDefaults())
	if err != nil {
		panic(fmt.Sprintf("job.Params cannot be encoded: %v", err)) // plain fields; only a NaN could do it, and checkTask refuses it
	}
	sum := sha256.Sum256(data)
	return string(data), hex.EncodeToString(sum[:])
}

// CreateTask adds a task and, in the same transaction, the command that publishes it. When it returns, both are on the disk.
// With an idempotency key that this user has used for the same request before, it returns that task and false.
//
// Codes: FILE_NOT_FOUND, BAD_PARAMETER, BAD_TASK; IDEMPOTENCY_MISMATCH for a key that came with another request before, which
// wraps ErrConflict.
func (s *Store) CreateTask(ctx context.Context, n NewTask) (t Task, created bool, err error) {
	if err := checkTask(n); err != nil {
		return Task{}, false, err
	}
	err = s.tx(ctx, func(c session) error {
		t, created, err = s.createTask(ctx, c, n)
		return err
	})
	if err != nil {
		return Task{}, false, forUser(ctx, "create the task", err)
	}
	return t, created, nil
}

func checkTask(n NewTask) error {
	if err := n.Params.Validate(); err != nil {
		return err
	}
	p := n.Params
	if math.IsNaN(p.ChunkSeconds) || math.IsInf(p.ChunkSeconds, 0) {
		return bad("BAD_PARAMETER", "a chunk of %g seconds cannot be made: give a number", p.ChunkSeconds)
	}
	for _, text := range []string{p.Model, p.Prompt, p.Loudness, p.Silence, n.Webhook, n.IdempotencyKey, n.RequestHash} {
		if !validText(text) {
			return bad("BAD_PARAMETER", "%q is not text: use UTF-8 without NUL", text)
		}
	}
	if len(n.IdempotencyKey) > 255 {
		return bad("BAD_TASK", "an idempotency key has up to 255 bytes, this one %d", len(n.IdempotencyKey))
	}
	return nil
}

func (s *Store) createTask(ctx context.Context, c session, n NewTask) (Task, bool, error) {
	if there, err := exists(ctx, c, lockFile, n.File, n.User); err != nil {
		return Task{}, false, err
	} else if !there {
		// The file of a task that is repeated may have gone since.
		if t, err := c.repeated(ctx, n); !errors.Is(err, sql.ErrNoRows) {
			return t, false, err
		}
		return Task{}, false, notFound("FILE", n.File)
	}
	f, err := c.file(ctx, n.User, n.File)
	if err != nil {
		return Task{}, false, err
	}
	now := s.now()
	t := Task{
		ID: job.NewID(), User: n.User, File: f.ID, FileName: f.Name, SHA256: f.SHA256, Duration: f.Duration,
		Params: n.Params.WithDefaults(), Priority: n.Priority, Webhook: n.Webhook,
		Status: job.Queued, Stage: job.StageQueue, Created: now, Updated: now,
	}
	if added, err := c.addTask(ctx, t, n); err != nil {
		return Task{}, false, err
	} else if !added {
		t, err := c.repeated(ctx, n)
		return t, false, err
	}
	if n.Reuse {
		if reused, err := s.reuse(ctx, c, &t); err != nil || reused {
			return t, true, err
		}
	}
	return t, true, s.publish(ctx, c, t, f)
}

// publish leaves the command that puts a task, which is there already, on the queue.
func (s *Store) publish(ctx context.Context, c session, t Task, f File) error {
	j := t.job(f.Object, f.Size)
	var err error
	if j.Bulk, err = exists(ctx, c, hasManyOpen, t.User, job.BulkFrom); err != nil {
		return err
	}
	return s.enqueue(ctx, c, Command{Kind: Publish, Task: t.ID, Job: j})
}

// addTask returns false where the idempotency key is taken; on PostgreSQL it waits for whoever is just taking it.
func (c session) addTask(ctx context.Context, t Task, n NewTask) (bool, error) {
	params, hash := encodeParams(t.Params)
	var key any
	if n.IdempotencyKey != "" {
		key = n.IdempotencyKey
	}
	added, err := c.exec(ctx, addTask, t.ID, t.User, t.File, t.FileName, t.SHA256, t.Duration, t.Params.Model, t.Params.Language,
		params, hash, t.Priority, t.Webhook, t.Status, t.Stage, key, n.RequestHash, micros(t.Created))
	return added == 1, err
}

// repeated finds the task that was created with the same idempotency key before. The error is sql.ErrNoRows where there is none.
func (c session) repeated(ctx context.Context, n NewTask) (Task, error) {
	var id job.ID
	var hash string
	if err := c.row(ctx, getIdempotent, n.User, n.IdempotencyKey).Scan(&id, &hash); err != nil {
		return Task{}, err
	}
	if hash != n.RequestHash {
		return Task{}, conflict("IDEMPOTENCY_MISMATCH",
			"the idempotency key %q came with another request before: use a new key", n.IdempotencyKey)
	}
	return scanTask(c.row(ctx, getTask, id))
}

// reuse ends a new task with a copy of a finished transcript, if there is one.
func (s *Store) reuse(ctx context.Context, c session, t *Task) (bool, error) {
	copied, err := c.exec(ctx, copyResult, t.ID, t.SHA256, t.Params.Model, ParamsHash(t.Params), micros(t.Created))
	if err != nil || copied == 0 {
		return false, err
	}
	if _, err := c.exec(ctx, markReused, t.ID, micros(t.Created)); err != nil {
		return false, err
	}
	*t, err = scanTask(c.row(ctx, getTask, t.ID))
	if err != nil {
		return false, err
	}
	return true, s.announce(ctx, c, *t)
}

// job is what travels on the queue.
func (t Task) job(object string, size int64) job.Job {
	return job.Job{
		ID: t.ID, User: t.User, FileName: t.FileName, Source: job.Source{Object: object, SHA256: t.SHA256, Size: size},
		Params: t.Params, Priority: t.Priority, Webhook: t.Webhook, Created: t.Created,
	}
}

// Task returns one of the user's tasks.
func (s *Store) Task(ctx context.Context, user string, id job.ID) (Task, error) {
	t, err := s.AnyTask(ctx, id)
	if err == nil && t.User != user {
		return Task{}, notFound("TASK", string(id))
	}
	return t, err
}

// AnyTask returns a task of whichever user. It is for those who work for all of them: recorder, reconciler, administrators.
func (s *Store) AnyTask(ctx context.Context, id job.ID) (Task, error) {
	t, err := scanTask(s.reader().row(ctx, getTask, id))
	if errors.Is(err, sql.ErrNoRows) {
		return Task{}, notFound("TASK", string(id))
	}
	return t, forUser(ctx, "find the task", err)
}

// task is the user's task.
func (c session) task(ctx context.Context, user string, id job.ID) (Task, error) {
	return c.taskBy(ctx, getTask, user, id)
}

// lockedTask is the user's task, held until the transaction ends.
func (c session) lockedTask(ctx context.Context, user string, id job.ID) (Task, error) {
	return c.taskBy(ctx, lockTask, user, id)
}

func (c session) taskBy(ctx context.Context, q statement, user string, id job.ID) (Task, error) {
	t, err := scanTask(c.row(ctx, q, id))
	if errors.Is(err, sql.ErrNoRows) || err == nil && t.User != user {
		return Task{}, notFound("TASK", string(id))
	}
	return t, err
}

// CancelTask ends a task that was not published yet, and asks for the end of one that was: the command is in the outbox, and
// the state follows when the queue reports it, which may be done where the work was faster. To ask again changes nothing.
// Codes: TASK_NOT_FOUND; TASK_ENDED, which wraps ErrConflict.
func (s *Store) CancelTask(ctx context.Context, user string, id job.ID) (t Task, err error) {
	err = s.tx(ctx, func(c session) error {
		if t, err = c.lockedTask(ctx, user, id); err != nil {
			return err
		}
		if t.Status.Terminal() {
			return conflict("TASK_ENDED", "task %s is %s already: there is nothing to cancel", id, t.Status)
		}
		if t.Cancelling {
			return nil
		}
		if unpublished, err := takeBack(ctx, c, id); err != nil {
			return err
		} else if unpublished {
			return s.cancelNow(ctx, c, &t)
		}
		t.Cancelling, t.Updated = true, s.now()
		if _, err := c.exec(ctx, askCancel, id, micros(t.Updated)); err != nil {
			return err
		}
		return s.enqueue(ctx, c, Command{Kind: Cancel, Task: id})
	})
	if err != nil {
		return Task{}, forUser(ctx, "cancel the task", err)
	}
	return t, nil
}

// takeBack removes the command that publishes a task, if nobody has claimed it: the queue has then never heard of the task.
func takeBack(ctx context.Context, c session, id job.ID) (bool, error) {
	var command, tries int64
	err := c.row(ctx, lockPublish, id).Scan(&command, &tries)
	if errors.Is(err, sql.ErrNoRows) || err == nil && tries > 0 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", lockPublish.Name, err)
	}
	_, err = c.exec(ctx, deleteCommand, command)
	return true, err
}

func (s *Store) cancelNow(ctx context.Context, c session, t *Task) error {
	now := s.now()
	t.Status, t.Ended, t.Updated = job.Cancelled, now, now
	if _, err := c.exec(ctx, endCancelled, t.ID, micros(now)); err != nil {
		return err
	}
	return s.announce(ctx, c, *t)
}

// DeleteTask removes one of the user's ended tasks with its transcript, and leaves a command in the outbox to delete what the
// queue keeps of it. The file stays. Codes: TASK_NOT_FOUND; TASK_OPEN for a task that has not ended, which wraps ErrConflict.
func (s *Store) DeleteTask(ctx context.Context, user string, id job.ID) error {
	err := s.tx(ctx, func(c session) error {
		t, err := c.lockedTask(ctx, user, id)
		if err != nil {
			return err
		}
		if !t.Status.Terminal() {
			return conflict("TASK_OPEN", "task %s is %s: cancel it first", id, t.Status)
		}
		// Commands about it have lost their sense, but those that somebody is at come to their own end.
		if _, err := c.exec(ctx, deleteCommandsOf, id); err != nil {
			return err
		}
		if _, err := c.exec(ctx, deleteTask, id); err != nil {
			return err
		}
		if t.Reused {
			return nil // the queue has never heard of it
		}
		return s.enqueue(ctx, c, Command{Kind: Delete, Task: id})
	})
	return forUser(ctx, "delete the task", err)
}

func scanTask(row scanner) (Task, error) {
	var t Task
	var params string
	var e job.Error
	var created, started, ended, updated int64
	err := row.Scan(&t.ID, &t.User, &t.File, &t.FileName, &t.SHA256, &t.Duration, &params, &t.Priority, &t.Webhook,
		&t.Status, &t.Stage, &t.Progress, &t.Attempt, &e.Class, &e.Code, &e.Message, &t.Reused, &t.Cancelling,
		&created, &started, &ended, &updated)
	if err != nil {
		return Task{}, err
	}
	if err := json.Unmarshal([]byte(params), &t.Params); err != nil {
		return Task{}, fmt.Errorf("decode parameters of task %s: %w", t.ID, err)
	}
	if e.Code != "" {
		t.Error = &e
	}
	t.Created, t.Started, t.Ended, t.Updated = fromMicros(created), fromMicros(started), fromMicros(ended), fromMicros(updated)
	return t, nil
}
