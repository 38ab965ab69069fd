package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"; without cgo, as all of steno but the engine
)

// connectSQLite opens one connection that writes and a pool of those that read.
//
// Each transaction of the writer takes the write lock at once (immediate): one that reads first and wants to write later is
// refused without waiting when another process has written in between. Commits are on the disk when they return (synchronous
// FULL): in WAL mode NORMAL may lose the last ones when the power fails.
func connectSQLite(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	path, err := sqlitePath(dsn)
	if err != nil {
		return nil, err
	}
	if err := makePrivate(path, cfg.KeepSchema); err != nil {
		return nil, err
	}
	common := url.Values{
		"_busy_timeout": {strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10)},
		"_foreign_keys": {"on"}, "_journal_mode": {"WAL"}, "_synchronous": {"FULL"},
	}.Encode()
	file := (&url.URL{Scheme: "file", Path: path, RawQuery: common}).String()
	write, err := openPool(ctx, file+"&_txlock=immediate", 1)
	if err != nil {
		return nil, err
	}
	read, err := openPool(ctx, file+"&_query_only=on", cfg.Connections)
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return &Store{read: read, write: write, dialect: sqlite, cfg: cfg}, nil
}

func openPool(ctx context.Context, dsn string, size int) (*sql.DB, error) {
	db, err := sql.Open(sqliteDriver, dsn)
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open SQLite: %w", err), db.Close())
	}
	return db, nil
}

// sqlitePath is the absolute path of the file that dsn names: as it is, or behind sqlite: or sqlite://.
func sqlitePath(dsn string) (string, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(dsn, "sqlite:"), "//")
	if scheme, _, found := strings.Cut(path, "://"); found {
		return "", badDatabase("databases of kind %q are not supported: give a path for SQLite, or postgres://user@host/name", scheme)
	}
	if path == "" || strings.HasPrefix(path, ":memory:") || strings.ContainsAny(path, "\x00?") {
		return "", badDatabase("%q is no path of an SQLite file: give one such as /var/lib/steno/steno.db", dsn)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", badDatabase("find the database %q: %w", path, err)
	}
	return abs, nil
}

// makePrivate makes the file where it must not be there already, so that hashes of passwords are for its owner only; SQLite
// gives its other files the same mode.
func makePrivate(path string, mustExist bool) error {
	if mustExist {
		if _, err := os.Stat(path); err != nil {
			return badDatabase("find the database: %w: make it with `steno db migrate`", err)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return badDatabase("make the database's folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return badDatabase("make the database: %w", err)
	}
	return f.Close()
}
