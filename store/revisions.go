package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"steno/job"
	"steno/transcript"
)

// A transcript has revisions: number 0 is what the engine heard, and stays as it is; each edit adds the next.
const (
	Original = 0
	Newest   = -1
)

// MaxRevisions bounds the edits of one transcript.
const MaxRevisions = 1000

// Revision is an edit of a transcript, without its text.
type Revision struct {
	Number  int
	Bytes   int64 // of its JSON
	Created time.Time
}

// Result returns the transcript of one of the user's tasks as it was heard: revision 0.
// Codes: TASK_NOT_FOUND; NOT_DONE for a task that has no result, which wraps ErrConflict.
func (s *Store) Result(ctx context.Context, user string, id job.ID) (Result, error) {
	r, _, err := s.Revised(ctx, user, id, Original)
	return r, err
}

// Revised returns a transcript in one of its revisions, of which Newest is the last, and the number of that.
// Codes: those of Result; REVISION_NOT_FOUND.
func (s *Store) Revised(ctx context.Context, user string, id job.ID, number int) (Result, int, error) {
	var r result
	err := s.snapshot(ctx, func(c session) error {
		if err := withTranscript(c.task(ctx, user, id)); err != nil {
			return err
		}
		if number == Newest {
			if err := c.row(ctx, newestRevision, id).Scan(&number); err != nil {
				return fmt.Errorf("%s: %w", newestRevision.Name, err)
			}
		}
		query, args := getResult, []any{id}
		if number != Original {
			query, args = getRevision, []any{id, number}
		}
		err := c.row(ctx, query, args...).Scan(&r.data, &r.sha256, &r.bytes)
		if errors.Is(err, sql.ErrNoRows) {
			return noRevision(number)
		}
		return err
	})
	if err != nil {
		return Result{}, 0, forUser(ctx, "read the transcript", err)
	}
	full, err := r.unpack()
	return full, number, forUser(ctx, "read the transcript", err)
}

func noRevision(number int) error {
	return &job.Error{
		Class: job.Input, Code: "REVISION_NOT_FOUND", Err: ErrNotFound,
		Message: fmt.Sprintf("there is no revision %d of this transcript: list them", number),
	}
}

// withTranscript refuses tasks that have none.
func withTranscript(t Task, err error) error {
	if err == nil && t.Status != job.Done {
		err = conflict("NOT_DONE", "task %s is %s: it has no transcript", t.ID, t.Status)
	}
	return err
}

// Revisions lists the edits of a transcript, the newest first; the original is not among them. Codes: those of Result.
func (s *Store) Revisions(ctx context.Context, user string, id job.ID) (list []Revision, err error) {
	err = s.snapshot(ctx, func(c session) error {
		if err := withTranscript(c.task(ctx, user, id)); err != nil {
			return err
		}
		list, err = all(ctx, c, scanRevision, listRevisions, id)
		return err
	})
	return list, forUser(ctx, "list the revisions", err)
}

func scanRevision(row scanner) (Revision, error) {
	var r Revision
	var created int64
	err := row.Scan(&r.Number, &r.Bytes, &created)
	r.Created = fromMicros(created)
	return r, err
}

// Revise adds a revision to a transcript. It is made from revision base, which must be the newest, so that of two people who edit
// at the same time the second is told. Codes: those of Result; EDITED_MEANWHILE and TOO_MANY_REVISIONS, which wrap ErrConflict.
func (s *Store) Revise(ctx context.Context, user string, id job.ID, base int, t transcript.Transcript) (r Revision, err error) {
	body, err := packResult(t)
	if err != nil {
		return Revision{}, forUser(ctx, "save the edit", err)
	}
	err = s.tx(ctx, func(c session) error {
		if err := withTranscript(c.lockedTask(ctx, user, id)); err != nil {
			return err
		}
		var newest int
		if err := c.row(ctx, newestRevision, id).Scan(&newest); err != nil {
			return fmt.Errorf("%s: %w", newestRevision.Name, err)
		}
		switch {
		case base != newest:
			return conflict("EDITED_MEANWHILE",
				"the edit was made from revision %d and the newest is %d: load that, and make the edit again", base, newest)
		case newest >= MaxRevisions:
			return conflict("TOO_MANY_REVISIONS", "the transcript has %d revisions, and no more are kept: download it", newest)
		}
		r = Revision{newest + 1, body.bytes, s.now()}
		_, err := c.exec(ctx, addRevision, id, r.Number, body.data, body.sha256, body.bytes, micros(r.Created))
		return err
	})
	return r, forUser(ctx, "save the edit", err)
}
