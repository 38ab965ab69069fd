package store

import (
	"database/sql"
	"strings"

	"steno/job"
)

// dialect is all in which the two databases differ. Statements are written for PostgreSQL, in what SQLite understands too.
type dialect struct {
	name     string
	snapshot sql.IsolationLevel // under which all reads of a transaction see the same moment
	adapt    func(sql string) string
	explain  string // goes in front of a statement
	versions string // finds the table of schema versions
	planLine func(scanner) (string, error)
	lock     string // keeps the migrations of other processes out until the transaction ends; empty where a transaction does
}

var postgres = dialect{
	name: "postgres", snapshot: sql.LevelRepeatableRead,
	adapt:    func(sql string) string { return sql },
	explain:  "EXPLAIN ",
	planLine: func(row scanner) (line string, err error) { return line, row.Scan(&line) },
	versions: "SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL",
	lock:     "SELECT pg_advisory_xact_lock(7365105)", // the number is ours, and the same in each version of steno
}

var sqlite = dialect{
	name:    "sqlite",
	adapt:   forSQLite.Replace,
	explain: "EXPLAIN QUERY PLAN ",
	planLine: func(row scanner) (line string, err error) {
		var id, parent, unused int
		return line, row.Scan(&id, &parent, &unused, &line)
	},
	versions: "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'",
}

// One writer needs no row locks, and SQLite has no words for them.
var forSQLite = strings.NewReplacer(" FOR UPDATE SKIP LOCKED", "", " FOR UPDATE", "", hide, "+")

func isPostgres(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

func badDatabase(format string, args ...any) error {
	return job.Errorf(job.Input, "BAD_DATABASE", format, args...)
}
