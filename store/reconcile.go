package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"steno/job"
)

// OpenTask is a task that has not ended, as far as this database knows.
type OpenTask struct {
	Task
	// Pending says that commands about it are in the outbox, so the queue need not know what is here.
	Pending bool
}

// OpenTasks returns up to limit tasks that are queued or running, oldest first, and were created before the given time. After
// is the last task of the page before, nil for the first page. The caller compares them with the queue: where the queue knows an
// end, Apply records it; what the queue does not know at all, Republish sends again, or, where it is Cancelling, Apply ends as
// cancelled with an Attempt of one more.
func (s *Store) OpenTasks(ctx context.Context, before time.Time, after *Task, limit int) ([]OpenTask, error) {
	var created int64
	var id job.ID
	if after != nil {
		created, id = after.Created.UnixMicro(), after.ID
	}
	list, err := all(ctx, s.reader(), scanOpenTask, listOpen, before.UnixMicro(), created, id, limit)
	return list, forUser(ctx, "list the open tasks", err)
}

func scanOpenTask(row scanner) (OpenTask, error) {
	var t OpenTask
	task, err := scanTask(scanFunc(func(dest ...any) error { return row.Scan(append(dest, &t.Pending)...) }))
	t.Task = task
	return t, err
}

type scanFunc func(...any) error

func (f scanFunc) Scan(dest ...any) error { return f(dest...) }

// Republish leaves a command to publish an open task again, for a queue that has lost it; the updates that follow count anew.
// It returns false, and changes nothing, where the task has ended, is being cancelled or is about to be published anyway.
func (s *Store) Republish(ctx context.Context, id job.ID) (bool, error) {
	did := false
	err := s.tx(ctx, func(c session) error {
		t, err := scanTask(c.row(ctx, lockTask, id))
		if errors.Is(err, sql.ErrNoRows) || err == nil && (t.Status.Terminal() || t.Cancelling) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", lockTask.Name, err)
		}
		if pending, err := exists(ctx, c, hasPublish, id); err != nil || pending {
			return err
		}
		f, err := c.file(ctx, t.User, t.File)
		if err != nil {
			return err
		}
		if _, err := c.exec(ctx, restartTask, id, micros(s.now())); err != nil {
			return err
		}
		did = true
		return s.publish(ctx, c, t, f)
	})
	return did && err == nil, forUser(ctx, "publish the task again", err)
}
