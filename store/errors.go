package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	sqlite3 "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"steno/job"
)

// ErrNotFound is the cause of the error for a user, key, file, task or result that is not there, or is somebody else's: which
// of the two is nobody's business.
var ErrNotFound = errors.New("not found")

// ErrConflict is the cause of the error for a name that is taken, or a state in which what was asked cannot be done.
var ErrConflict = errors.New("conflict")

func notFound(what, id string) error {
	return &job.Error{
		Class: job.Input, Code: strings.ToUpper(what) + "_NOT_FOUND", Err: ErrNotFound,
		Message: fmt.Sprintf("there is no %s %q: check its id", strings.ToLower(what), id),
	}
}

func conflict(code, format string, args ...any) error {
	return &job.Error{Class: job.Input, Code: code, Err: ErrConflict, Message: fmt.Sprintf(format, args...)}
}

func bad(code, format string, args ...any) error { return job.Errorf(job.Input, code, format, args...) }

// forUser turns an error of the database into one for users. Errors that already are for users pass. Where ctx has ended, that
// is the error, for the drivers word it in many ways.
func forUser(ctx context.Context, doing string, err error) error {
	var e *job.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	e = &job.Error{Class: job.Internal, Code: "DATABASE", Err: err, Message: doing + ": " + err.Error()}
	switch kindOf(err) {
	case away:
		e.Class, e.Code = job.Transient, "DATABASE_UNAVAILABLE"
		e.Message += ": check that the database runs, then try again"
	case busy:
		e.Class, e.Code = job.Transient, "DATABASE_BUSY"
		e.Message += ": another process has held the database for long; try again"
	case full:
		e.Class, e.Code = job.Resource, "DATABASE_FULL"
		e.Message += ": free space on the database's disk, then try again"
	case refused:
		e.Class, e.Code = job.Input, "BAD_DATABASE"
		e.Message += ": check the database's address, user and rights"
	}
	return e
}

// kind is what went wrong with a database, for those who have to act on it.
type kind int

const (
	unknown kind = iota
	away
	busy
	full
	refused
	duplicate // a unique value is there already
)

func kindOf(err error) kind {
	if errors.Is(err, errQueue) {
		return busy
	}
	var lite *sqlite3.Error
	if errors.As(err, &lite) {
		return kindOfSQLite(lite.Code())
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return kindOfPostgres(pg.Code)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) {
		return away
	}
	return unknown
}

func kindOfSQLite(code int) kind {
	if code == codes.SQLITE_CONSTRAINT_UNIQUE {
		return duplicate
	}
	switch code & 0xff { // without the extension
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED:
		return busy
	case codes.SQLITE_FULL:
		return full
	case codes.SQLITE_CANTOPEN, codes.SQLITE_NOTADB, codes.SQLITE_PERM, codes.SQLITE_READONLY:
		return refused
	}
	return unknown
}

// kindOfPostgres reads an SQLSTATE; its first two characters are its class.
func kindOfPostgres(code string) kind {
	switch {
	case code == "23505":
		return duplicate
	case code == "53100":
		return full
	case code == "55P03", code == "40001", code == "40P01": // lock not available, serialization failure, deadlock
		return busy
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "57P"), strings.HasPrefix(code, "53"):
		return away
	case strings.HasPrefix(code, "28"), code == "3D000", code == "42501": // login, no such database, rights
		return refused
	}
	return unknown
}
