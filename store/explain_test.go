package store

import (
	"strings"
	"testing"
)

// fillMany adds n tasks by statements of the database, with files, results and commands. The owner of task number i is U1 where
// mine holds, and one of 20 users else.
func fillMany(t testing.TB, s *Store, n int, mine string) {
	t.Helper()
	series := "(WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < $1) SELECT i FROM s)"
	blob := "BLOB"
	if s.Engine() == "postgres" {
		blob = "BYTEA"
		series = "(SELECT generate_series AS i FROM generate_series(1, CAST($1 AS BIGINT)))"
	}
	const id = "'0000000000000000' || CAST(1000000000 + i AS TEXT)" // a ULID; they sort as they count
	for _, sql := range []string{
		`INSERT INTO users (id, username, password_hash, role, created_at, updated_at)
			SELECT 'U' || i, 'user' || i, '$argon2id$x', 'user', i, i FROM SERIES s WHERE i <= 20`,
		`INSERT INTO api_keys (id, user_id, name, prefix, hash, created_at)
			SELECT 'K' || i, 'U' || (1 + i % 20), 'k', 'p', 'hash' || i, i FROM SERIES s WHERE i <= 2000`,
		`INSERT INTO objects (sha256, object, size, duration, media, created_at)
			SELECT 'S' || i, 'O' || i, 1000, 60, '{}', i FROM SERIES s WHERE i <= 5000`,
		`INSERT INTO files (id, user_id, sha256, name, created_at)
			SELECT 'F' || i, 'U' || (1 + i % 20), 'S' || i, 'recording-' || i || '.mp3', i FROM SERIES s WHERE i <= 5000`,
		`INSERT INTO tasks (id, user_id, file_id, file_name, sha256, duration, model, language, params, params_hash, status, stage,
				error_code, created_at, ended_at, updated_at)
			SELECT ID, 'U' || CASE WHEN MINE THEN 1 ELSE 1 + i % 20 END, 'F' || (1 + i % 5000),
				'recording-' || (i * 7919 % 100003) || '.mp3', 'S' || (1 + i % 5000), 60, 'base', 'auto',
				'{"model":"base","language":"auto","task":"transcribe"}', 'H',
				CASE WHEN i % 1000 = 0 THEN 'queued' WHEN i % 17 = 0 THEN 'failed' ELSE 'done' END, 'store', 'X',
				1700000000000000 + i / 2, -- two share each time
				 CASE WHEN i % 1000 = 0 THEN NULL ELSE 1 END, 1 FROM SERIES s`,
		`INSERT INTO results (task_id, body, sha256, bytes, created_at)
			SELECT id, params_hash, 'x', 1, 1 FROM (SELECT id, CAST(params_hash AS BYTES) AS params_hash FROM tasks WHERE status = 'done' LIMIT 20000) t
			WHERE $1 > 0`,
		`INSERT INTO outbox (lane, kind, subject, payload, next_try_at, created_at)
			SELECT 'queue', 'cancel', ID, '{}', 1800000000000000 + i, 1 FROM SERIES s WHERE i <= 5000`,
	} {
		sql = strings.NewReplacer("SERIES", series, "BYTES", blob, "MINE", mine, "ID", id).Replace(sql)
		if _, err := s.write.Exec(sql, n); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
	}
}

// Every statement that matters uses its index, with statistics and, on SQLite, which gathers none by itself, without.
func testExplain(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	if plans := must(f.Explain(ctx))(t); len(plans) < 20 {
		t.Errorf("%d plans of an empty database", len(plans))
	}
	fillMany(t, f.Store, 40000, "i % 5 = 0")
	check := func(when string) {
		t.Helper()
		for _, p := range must(f.Explain(ctx))(t) {
			if !p.Used {
				t.Errorf("%s: %s uses none of %v:\n%s\n%s", when, p.Name, p.Indexes, strings.Join(p.Lines, "\n"), p.SQL)
			}
			broad := strings.HasSuffix(p.Name, ".prefix")
			if broad && f.Engine() == "sqlite" && strings.Contains(strings.Join(p.Lines, "\n"), "tasks_user_file_name") {
				t.Errorf("%s: %s does not read in the order of time:\n%s", when, p.Name, strings.Join(p.Lines, "\n"))
			}
			if strings.HasPrefix(p.Name, "history.after") && !strings.Contains(p.Name, "prefix") {
				for _, line := range p.Lines {
					if strings.Contains(line, "TEMP B-TREE") || strings.Contains(line, "Sort") {
						t.Errorf("%s: %s sorts:\n%s", when, p.Name, strings.Join(p.Lines, "\n"))
					}
				}
			}
		}
	}
	gather := "VACUUM ANALYZE"
	if f.Engine() == "sqlite" {
		check("before ANALYZE")
		gather = "ANALYZE"
	}
	if _, err := f.write.Exec(gather); err != nil {
		t.Fatal(err)
	}
	check("after ANALYZE")

	// And the test notices when an index is gone.
	if _, err := f.write.Exec("DROP INDEX tasks_user_status"); err != nil {
		t.Fatal(err)
	}
	missed := false
	for _, p := range must(f.Explain(ctx))(t) {
		missed = missed || p.Name == "history.after.status" && !p.Used
	}
	if !missed {
		t.Error("history.after.status is said to use an index that is not there")
	}
}
