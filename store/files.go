package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"steno/job"
)

// File is one upload of one user. Its content is an object that files of other users may share.
type File struct {
	ID       string
	User     string
	Name     string  // as the user called it: text for people, never a path
	SHA256   string  // of the content, 64 hex digits in lower case
	Object   string  // the content's key in the object store
	Size     int64   // bytes
	Duration float64 // seconds
	// Media is what the probe said, as JSON; empty means {}.
	Media   json.RawMessage
	Created time.Time
}

// AddFile adds a row for f's user and content. Where the content is known, the object key, size, duration and media of the
// first upload hold, and are returned.
//
// Between the upload of the content and AddFile the last other row may have gone, and the content with it. Once AddFile has
// returned, the content stays; so make sure then that it is there, and put it again if not. While the same content is just
// being deleted, the error is TRANSIENT and its code OBJECT_BUSY. Other codes: BAD_FILE, USER_NOT_FOUND.
func (s *Store) AddFile(ctx context.Context, f File) (File, error) {
	if len(f.Media) == 0 {
		f.Media = json.RawMessage("{}")
	}
	if err := checkFile(f); err != nil {
		return File{}, err
	}
	f.ID, f.Created = string(job.NewID()), s.now()
	err := s.tx(ctx, func(c session) error {
		if there, err := exists(ctx, c, hasUser, f.User); err != nil {
			return err
		} else if !there {
			return notFound("USER", f.User)
		}
		// Locks the object's row, new or old, so that DeleteFile waits, or has ended.
		row := c.row(ctx, addObject, f.SHA256, f.Object, f.Size, f.Duration, string(f.Media), micros(f.Created))
		var media string
		if err := row.Scan(&f.Object, &f.Size, &f.Duration, &media); err != nil {
			return fmt.Errorf("%s: %w", addObject.Name, err)
		}
		f.Media = json.RawMessage(media)
		if err := keepObject(ctx, c, f.Object); err != nil {
			return err
		}
		_, err := c.exec(ctx, addFile, f.ID, f.User, f.SHA256, f.Name, micros(f.Created))
		return err
	})
	if err != nil {
		return File{}, forUser(ctx, "add the file", err)
	}
	return f, nil
}

func checkFile(f File) error {
	switch {
	case !validName(f.Name) || len(f.Name) > 1024:
		return bad("BAD_FILE", "%q is no file name: use up to 1,024 bytes of text", f.Name)
	case !isSHA256(f.SHA256) || f.Object == "" || f.Size <= 0 || f.Duration < 0 || !json.Valid(f.Media):
		return job.Errorf(job.Internal, "BAD_FILE", "file %q has no SHA-256, object, size, duration or media: report this as a fault",
			f.Name)
	}
	return nil
}

// keepObject calls off the deletion of an object that is wanted again, unless somebody is at it.
func keepObject(ctx context.Context, c session, object string) error {
	var id, tries int64
	err := c.row(ctx, lockPurge, object).Scan(&id, &tries)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", lockPurge.Name, err)
	case tries > 0:
		return job.Errorf(job.Transient, "OBJECT_BUSY", "the same content is just being deleted: upload it again in a moment")
	}
	_, err = c.exec(ctx, deleteCommand, id)
	return err
}

// File returns one of the user's files.
func (s *Store) File(ctx context.Context, user, id string) (File, error) {
	f, err := s.reader().file(ctx, user, id)
	return f, forUser(ctx, "find the file", err)
}

func (c session) file(ctx context.Context, user, id string) (File, error) {
	var f File
	var created int64
	var media string
	err := c.row(ctx, getFile, id, user).Scan(&f.ID, &f.User, &f.Name, &f.SHA256, &f.Object, &f.Size, &f.Duration, &media, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return File{}, notFound("FILE", id)
	}
	f.Created, f.Media = fromMicros(created), json.RawMessage(media)
	return f, err
}

// DeleteFile removes one of the user's files; its ended tasks stay in the history, name it no more, and are returned. Where it
// was the last that named its object, the object is freed: its key is returned, and the command to purge it is in the outbox, so
// the caller needs to do nothing. Codes: FILE_NOT_FOUND; FILE_IN_USE for a file with open tasks, which wraps ErrConflict.
func (s *Store) DeleteFile(ctx context.Context, user, id string) (freed string, tasks []job.ID, err error) {
	err = s.tx(ctx, func(c session) error {
		if there, err := exists(ctx, c, lockFile, id, user); err != nil {
			return err
		} else if !there {
			return notFound("FILE", id)
		}
		f, err := c.file(ctx, user, id)
		if err != nil {
			return err
		}
		if used, err := exists(ctx, c, fileInUse, id); err != nil {
			return err
		} else if used {
			return conflict("FILE_IN_USE", "file %s has tasks that have not ended: cancel them first, or wait", id)
		}
		if tasks, err = all(ctx, c, scanID, tasksOfFile, id); err != nil {
			return err
		}
		if _, err := c.exec(ctx, deleteFile, id); err != nil {
			return err
		}
		freed, err = s.freeObject(ctx, c, f)
		return err
	})
	if err != nil {
		return "", nil, forUser(ctx, "delete the file", err)
	}
	return freed, tasks, nil
}

func scanID(row scanner) (job.ID, error) {
	var id job.ID
	err := row.Scan(&id)
	return id, err
}

// freeObject forgets the content of a file that was deleted, if no other file names it.
func (s *Store) freeObject(ctx context.Context, c session, f File) (string, error) {
	if _, err := exists(ctx, c, lockObject, f.SHA256); err != nil {
		return "", err
	}
	// A statement of its own, after the lock: on PostgreSQL it then sees what AddFile has committed.
	if used, err := exists(ctx, c, objectInUse, f.SHA256); err != nil || used {
		return "", err
	}
	if _, err := c.exec(ctx, deleteObject, f.SHA256); err != nil {
		return "", err
	}
	return f.Object, s.enqueue(ctx, c, Command{Kind: Purge, Object: f.Object})
}

// validText reports whether s is text that both databases keep.
func validText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// validName reports whether s is a text for which afterPrefix holds too.
func validName(s string) bool { return s != "" && validText(s) && !strings.Contains(s, "\U0010FFFF") }

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
