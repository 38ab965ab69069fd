package store

// statement is a named piece of SQL. All that the store runs stand here, but those of the history, which scope puts together.
// Placeholders are $1, $2, …, which both databases know. Row locks (FOR UPDATE) are left out for SQLite.
type statement struct {
	Name string
	SQL  string
}

// Schema versions.
var (
	makeVersions = statement{"migrate.table", `
		CREATE TABLE IF NOT EXISTS schema_migrations (
			version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)`}
	readVersion = statement{"migrate.version", `SELECT COALESCE(MAX(version), 0) FROM schema_migrations`}
	addVersion  = statement{"migrate.done", `INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)`}
)

const userColumns = `id, username, password_hash, role, disabled, token_generation, created_at, updated_at`

// Accounts.
var (
	addUser = statement{"user.add", `
		INSERT INTO users (id, username, password_hash, role, disabled, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $6)`}
	hasUser       = statement{"user.has", `SELECT 1 FROM users WHERE id = $1`}
	getUser       = statement{"user.get", `SELECT ` + userColumns + ` FROM users WHERE id = $1`}
	lockUser      = statement{"user.lock", `SELECT ` + userColumns + ` FROM users WHERE id = $1 FOR UPDATE`}
	getUserByName = statement{"user.by_name", `SELECT ` + userColumns + ` FROM users WHERE username = $1`}
	listUsers     = statement{"user.list", `SELECT ` + userColumns + ` FROM users ORDER BY username`}
	updateUser    = statement{"user.update", `
		UPDATE users SET password_hash = $2, role = $3, disabled = $4, token_generation = $5, updated_at = $6 WHERE id = $1`}
)

const apiKeyColumns = `id, user_id, name, prefix, hash, created_at, COALESCE(last_used_at, 0), COALESCE(revoked_at, 0)`

// API keys.
var (
	addAPIKey = statement{"api_key.add", `
		INSERT INTO api_keys (id, user_id, name, prefix, hash, created_at) VALUES ($1, $2, $3, $4, $5, $6)`}
	getAPIKey   = statement{"api_key.by_hash", `SELECT ` + apiKeyColumns + ` FROM api_keys WHERE hash = $1 AND revoked_at IS NULL`}
	listAPIKeys = statement{"api_key.list", `
		SELECT ` + apiKeyColumns + ` FROM api_keys WHERE user_id = $1 ORDER BY created_at DESC, id DESC`}
	useAPIKey    = statement{"api_key.use", `UPDATE api_keys SET last_used_at = $2 WHERE id = $1`}
	revokeAPIKey = statement{"api_key.revoke", `
		UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $3) WHERE id = $1 AND user_id = $2`}
)

// Files and the objects that they share.
var (
	addObject = statement{"object.add", `
		INSERT INTO objects (sha256, object, size, duration, media, created_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (sha256) DO UPDATE SET sha256 = excluded.sha256
		RETURNING object, size, duration, media`}
	lockObject   = statement{"object.lock", `SELECT 1 FROM objects WHERE sha256 = $1 FOR UPDATE`}
	objectInUse  = statement{"object.in_use", `SELECT 1 FROM files WHERE sha256 = $1 LIMIT 1`}
	deleteObject = statement{"object.delete", `DELETE FROM objects WHERE sha256 = $1`}
	addFile      = statement{"file.add", `INSERT INTO files (id, user_id, sha256, name, created_at) VALUES ($1, $2, $3, $4, $5)`}
	lockFile     = statement{"file.lock", `SELECT 1 FROM files WHERE id = $1 AND user_id = $2 FOR UPDATE`}
	getFile      = statement{"file.get", `
		SELECT f.id, f.user_id, f.name, f.sha256, o.object, o.size, o.duration, o.media, f.created_at
		FROM files f JOIN objects o ON o.sha256 = f.sha256 WHERE f.id = $1 AND f.user_id = $2`}
	fileInUse   = statement{"file.in_use", `SELECT 1 FROM tasks WHERE file_id = $1 AND ended_at IS NULL LIMIT 1`}
	tasksOfFile = statement{"file.tasks", `SELECT id FROM tasks WHERE file_id = $1`}
	deleteFile  = statement{"file.delete", `DELETE FROM files WHERE id = $1`}
)

const taskColumns = `id, user_id, COALESCE(file_id, ''), file_name, sha256, duration, params, priority, webhook,
	status, stage, progress, attempt, error_class, error_code, error_message, reused, cancel_asked,
	created_at, COALESCE(started_at, 0), COALESCE(ended_at, 0), updated_at`

// Tasks.
var (
	addTask = statement{"task.add", `
		INSERT INTO tasks (id, user_id, file_id, file_name, sha256, duration, model, language, params, params_hash,
			priority, webhook, status, stage, idempotency_key, idempotency_hash, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)
		ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING`}
	hasManyOpen = statement{"task.many_open", `
		SELECT 1 FROM tasks WHERE user_id = $1 AND ended_at IS NULL LIMIT 1 OFFSET $2`}
	getIdempotent = statement{"task.by_idempotency_key", `
		SELECT id, idempotency_hash FROM tasks WHERE user_id = $1 AND idempotency_key = $2`}
	getTask   = statement{"task.get", `SELECT ` + taskColumns + ` FROM tasks WHERE id = $1`}
	lockTask  = statement{"task.lock", `SELECT ` + taskColumns + ` FROM tasks WHERE id = $1 FOR UPDATE`}
	askCancel = statement{"task.ask_cancel", `UPDATE tasks SET cancel_asked = TRUE, updated_at = $2 WHERE id = $1`}

	endCancelled = statement{"task.cancel", `
		UPDATE tasks SET status = 'cancelled', ended_at = $2, updated_at = $2 WHERE id = $1`}
	deleteTask = statement{"task.delete", `DELETE FROM tasks WHERE id = $1`}
	copyResult = statement{"task.reuse", `
		INSERT INTO results (task_id, body, sha256, bytes, created_at)
		SELECT $1, r.body, r.sha256, r.bytes, $5 FROM tasks t JOIN results r ON r.task_id = t.id
		WHERE t.sha256 = $2 AND t.model = $3 AND t.params_hash = $4 AND t.status = 'done'
		ORDER BY t.created_at DESC LIMIT 1`}
	markReused = statement{"task.mark_reused", `
		UPDATE tasks SET status = 'done', stage = 'store', progress = 1, reused = TRUE, started_at = $2, ended_at = $2
		WHERE id = $1`}
)

// For the history; see scope for the rest.
var hasManyNames = statement{"history.many_names", `
	SELECT 1 FROM tasks WHERE user_id = $1 AND file_name >= $2 AND file_name < $3 LIMIT 1 OFFSET $4`}

// For administrators. No GROUP BY: for its sake SQLite would go through an index of states.
var sumEnded = statement{"task.sum_ended", `
	SELECT COALESCE(SUM(CASE WHEN status = 'done' THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN status = 'cancelled' THEN 1 ELSE 0 END), 0),
		CAST(COALESCE(SUM(CASE WHEN status = 'done' THEN duration END), 0) AS DOUBLE PRECISION),
		CAST(COALESCE(SUM(CASE WHEN status = 'done' THEN ended_at - started_at END), 0) AS DOUBLE PRECISION)
	FROM tasks WHERE created_at >= $1 AND ended_at >= $2 AND NOT reused`}

// What the recorder and the reconciler do.
var (
	applyUpdate = statement{"task.apply", `
		UPDATE tasks SET status = $2, stage = $3, progress = $4, attempt = $5, version = $6,
			error_class = $7, error_code = $8, error_message = $9,
			started_at = COALESCE($10, started_at), cancel_asked = cancel_asked AND ended_at IS NULL, ended_at = $11, updated_at = $12
		WHERE id = $1 AND (ended_at IS NULL OR status = 'failed' AND $13) AND (attempt < $5 OR attempt = $5 AND version < $6)
		RETURNING webhook`}
	getVersion = statement{"task.version", `SELECT status, attempt, version FROM tasks WHERE id = $1`}
	addResult  = statement{"result.add", `
		INSERT INTO results (task_id, body, sha256, bytes, created_at) VALUES ($1, $2, $3, $4, $5)`}
	getResult = statement{"result.get", `SELECT body, sha256, bytes FROM results WHERE task_id = $1`}
	// withhold keeps a result from being taken over by other tasks: no parameters have this hash.
	withhold    = statement{"task.withhold", `UPDATE tasks SET params_hash = '' WHERE id = $1`}
	addRevision = statement{"revision.add", `
		INSERT INTO revisions (task_id, number, body, sha256, bytes, created_at) VALUES ($1, $2, $3, $4, $5, $6)`}
	newestRevision = statement{"revision.newest", `SELECT COALESCE(MAX(number), 0) FROM revisions WHERE task_id = $1`}
	getRevision    = statement{"revision.get", `SELECT body, sha256, bytes FROM revisions WHERE task_id = $1 AND number = $2`}
	listRevisions  = statement{"revision.list", `
		SELECT number, bytes, created_at FROM revisions WHERE task_id = $1 ORDER BY number DESC`}
	listOpen = statement{"task.open", `
		SELECT ` + taskColumns + `, EXISTS (SELECT 1 FROM outbox WHERE subject = tasks.id)
		FROM tasks WHERE ended_at IS NULL AND created_at < $1 AND (created_at, id) > ($2, $3)
		ORDER BY created_at, id LIMIT $4`}
	restartTask = statement{"task.restart", `
		UPDATE tasks SET status = 'queued', stage = 'queue', progress = 0, attempt = 0, version = 0,
			error_class = '', error_code = '', error_message = '', started_at = NULL, updated_at = $2
		WHERE id = $1`}
)

// The outbox.
var (
	addCommand = statement{"outbox.add", `
		INSERT INTO outbox (lane, kind, subject, payload, next_try_at, created_at) VALUES ($1, $2, $3, $4, $5, $5)`}
	claimCommands = statement{"outbox.claim", `
		UPDATE outbox SET tries = tries + 1, next_try_at = $4 WHERE id IN (
			SELECT id FROM outbox o WHERE lane = $1 AND next_try_at <= $2 AND NOT EXISTS (
				SELECT 1 FROM outbox earlier WHERE earlier.subject = o.subject AND earlier.lane = o.lane AND earlier.id < o.id)
			ORDER BY next_try_at, id LIMIT $3 FOR UPDATE SKIP LOCKED)
		RETURNING id, kind, subject, payload, tries, created_at`}
	retryCommand = statement{"outbox.retry", `
		UPDATE outbox SET next_try_at = $3, last_error = $4 WHERE id = $1 AND tries = $2`}
	deleteCommand    = statement{"outbox.complete", `DELETE FROM outbox WHERE id = $1`}
	deleteCommandsOf = statement{"outbox.forget", `DELETE FROM outbox WHERE subject = $1 AND tries = 0`}
	countCommands    = statement{"outbox.count", `SELECT count(*), COALESCE(MIN(created_at), 0) FROM outbox WHERE lane = $1`}

	hasPublish  = statement{"outbox.has_publish", `SELECT 1 FROM outbox WHERE subject = $1 AND kind = 'publish' LIMIT 1`}
	lockPublish = statement{"outbox.lock_publish", `
		SELECT id, tries FROM outbox WHERE subject = $1 AND kind = 'publish' ORDER BY id LIMIT 1 FOR UPDATE`}
	lockPurge = statement{"outbox.lock_purge", `
		SELECT id, tries FROM outbox WHERE subject = $1 AND kind = 'purge' ORDER BY id LIMIT 1 FOR UPDATE`}
)
