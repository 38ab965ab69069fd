package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Store is a database. It is safe for concurrent use, and several processes may use one database at once.
type Store struct {
	read, write *sql.DB // one and the same for PostgreSQL
	dialect     dialect
	cfg         Config
}

// Config tunes a Store. The zero value of a field means its default.
type Config struct {
	// Connections bounds the connections: all of them to PostgreSQL, those that read SQLite, which has one more that writes.
	// Default 8.
	Connections int
	// BusyTimeout is how long a write waits while another process writes to the same SQLite file, and before that for other writes
	// of this process. Default 5 s.
	BusyTimeout time.Duration
	// KeepSchema leaves the schema as it is; Open then refuses a database that is older than this program.
	KeepSchema bool
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.Connections <= 0 {
		c.Connections = 8
	}
	if c.BusyTimeout <= 0 {
		c.BusyTimeout = 5 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Open opens the database that dsn names and brings its schema up to date. A dsn that begins with postgres:// is PostgreSQL;
// anything else is the path of an SQLite file, which is made where there is none, readable by its owner only.
//
// The codes of its errors are BAD_DATABASE (the dsn), DATABASE_TOO_NEW, DATABASE_TOO_OLD (with Config.KeepSchema) and those of
// a database that does not answer.
func Open(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	s, err := connect(ctx, dsn, cfg.withDefaults())
	if err != nil {
		return nil, forUser(ctx, "open the database", err)
	}
	if cfg.KeepSchema {
		err = s.requireSchema(ctx)
	} else {
		_, _, err = s.migrate(ctx, 0)
	}
	if err != nil {
		return nil, errors.Join(forUser(ctx, "open the database", err), s.Close())
	}
	return s, nil
}

// Migrate brings the schema of the database that dsn names up to date, and returns its versions before and after.
func Migrate(ctx context.Context, dsn string) (from, to int, err error) {
	s, err := connect(ctx, dsn, Config{}.withDefaults())
	if err != nil {
		return 0, 0, forUser(ctx, "open the database", err)
	}
	from, to, err = s.migrate(ctx, 0)
	return from, to, errors.Join(forUser(ctx, "migrate the database", err), s.Close())
}

func connect(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	if isPostgres(dsn) {
		return connectPostgres(ctx, dsn, cfg)
	}
	return connectSQLite(ctx, dsn, cfg)
}

// Close waits for running statements and closes all connections.
func (s *Store) Close() error {
	err := s.read.Close()
	if s.write != s.read {
		err = errors.Join(err, s.write.Close())
	}
	if err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// Ping asks the database for an answer.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	err := s.reader().row(ctx, statement{Name: "ping", SQL: "SELECT 1"}).Scan(&one)
	return forUser(ctx, "reach the database", err)
}

// Engine is "sqlite" or "postgres".
func (s *Store) Engine() string { return s.dialect.name }

// session runs statements, within a transaction or without.
type session struct {
	conn interface {
		ExecContext(context.Context, string, ...any) (sql.Result, error)
		QueryContext(context.Context, string, ...any) (*sql.Rows, error)
		QueryRowContext(context.Context, string, ...any) *sql.Row
	}
	dialect dialect
}

func (s *Store) reader() session { return session{s.read, s.dialect} }

// tx runs fn in a transaction that writes, and commits it where fn returns nil. On SQLite it holds the only write lock from
// its first statement on; on PostgreSQL fn locks the rows that it decides by.
func (s *Store) tx(ctx context.Context, fn func(session) error) error {
	work := func(tx *sql.Tx) error { return fn(session{tx, s.dialect}) }
	if s.write == s.read {
		return inTx(ctx, s.write, nil, work)
	}
	conn, err := s.writer(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return inTx(ctx, conn, nil, work)
}

// errQueue is the error of a write that others of this process have kept from SQLite's one writing connection.
var errQueue = errors.New("other writes have waited for long")

// writer takes SQLite's one writing connection. While another process holds the database each write waits on it for BusyTimeout,
// one after the other, so that without a bound here the last would wait for all of them.
func (s *Store) writer(ctx context.Context) (*sql.Conn, error) {
	patient, cancel := context.WithTimeoutCause(ctx, s.cfg.BusyTimeout, errQueue)
	defer cancel()
	conn, err := s.write.Conn(patient)
	if err != nil && ctx.Err() == nil && patient.Err() != nil {
		err = context.Cause(patient)
	}
	if err != nil {
		return nil, fmt.Errorf("wait for the database: %w", err)
	}
	return conn, nil
}

// snapshot runs fn in a transaction in which all reads see the same moment.
func (s *Store) snapshot(ctx context.Context, fn func(session) error) error {
	opts := &sql.TxOptions{ReadOnly: true, Isolation: s.dialect.snapshot}
	return inTx(ctx, s.read, opts, func(tx *sql.Tx) error { return fn(session{tx, s.dialect}) })
}

// beginner is a pool or a connection of one.
type beginner interface {
	BeginTx(context.Context, *sql.TxOptions) (*sql.Tx, error)
}

func inTx(ctx context.Context, db beginner, opts *sql.TxOptions, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err := fn(tx); err != nil {
		_ = tx.Rollback() // the transaction is lost either way, and err says why
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// exec runs a statement and returns how many rows it changed.
func (c session) exec(ctx context.Context, q statement, args ...any) (int64, error) {
	res, err := c.conn.ExecContext(ctx, c.dialect.adapt(q.SQL), args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", q.Name, err)
	}
	return res.RowsAffected()
}

func (c session) row(ctx context.Context, q statement, args ...any) *sql.Row {
	return c.conn.QueryRowContext(ctx, c.dialect.adapt(q.SQL), args...)
}

// scanner is a row: *sql.Row or *sql.Rows.
type scanner interface{ Scan(...any) error }

// all runs a query and scans each of its rows.
func all[T any](ctx context.Context, c session, scan func(scanner) (T, error), q statement, args ...any) ([]T, error) {
	rows, err := c.conn.QueryContext(ctx, c.dialect.adapt(q.SQL), args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.Name, err)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.Name, err)
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", q.Name, err)
	}
	return list, nil
}

// exists reports whether a query has a row.
func exists(ctx context.Context, c session, q statement, args ...any) (bool, error) {
	var one int
	err := c.row(ctx, q, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", q.Name, err)
	}
	return true, nil
}

// now is the time to the precision that the database keeps.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// micros is how a time is kept; the zero time is NULL.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// fromMicros is the reverse; NULL was read as 0.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
