// Package testhistory fills a record with a long history, by statements of its database: a million tasks in half a minute, which
// one by one would take hours.
package testhistory

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// Fill adds n tasks to the empty database of a store, with files, results and commands; engine is the store's. The owner of task
// number i is the user U1 where mine, a condition on i, holds, and else one of U1 to U20. Their names are user1 to user20.
func Fill(ctx context.Context, db *sql.DB, engine string, n int, mine string) error {
	series := "(WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < $1) SELECT i FROM s)"
	blob := "BLOB"
	if engine == "postgres" {
		blob = "BYTEA"
		series = "(SELECT generate_series AS i FROM generate_series(1, CAST($1 AS BIGINT)))"
	}
	const id = "'0000000000000000' || CAST(1000000000 + i AS TEXT)" // a ULID; they sort as they count
	for _, text := range []string{
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
			SELECT id, body, 'x', 1, 1
			FROM (SELECT id, CAST(params_hash AS BYTES) AS body FROM tasks WHERE status = 'done' LIMIT 20000) t WHERE $1 > 0`,
		`INSERT INTO outbox (lane, kind, subject, payload, next_try_at, created_at)
			SELECT 'queue', 'cancel', ID, '{}', 1800000000000000 + i, 1 FROM SERIES s WHERE i <= 5000`,
	} {
		text = strings.NewReplacer("SERIES", series, "BYTES", blob, "MINE", mine, "ID", id).Replace(text)
		if _, err := db.ExecContext(ctx, text, n); err != nil {
			return fmt.Errorf("fill the history: %w: %s", err, text)
		}
	}
	return nil
}
