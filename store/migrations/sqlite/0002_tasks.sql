-- One row per stored content; files of several users may name it.
CREATE TABLE objects (
    sha256     TEXT    NOT NULL PRIMARY KEY,
    object     TEXT    NOT NULL UNIQUE,           -- key in the object store
    size       INTEGER NOT NULL CHECK (size > 0), -- bytes
    duration   REAL    NOT NULL,                  -- seconds
    media      TEXT    NOT NULL,                  -- JSON: what the probe said
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE files (
    id         TEXT    NOT NULL PRIMARY KEY,
    user_id    TEXT    NOT NULL REFERENCES users (id),
    sha256     TEXT    NOT NULL REFERENCES objects (sha256),
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX files_user ON files (user_id, created_at);
CREATE INDEX files_sha256 ON files (sha256);

-- The history of transcriptions. A task outlives its file.
CREATE TABLE tasks (
    id               TEXT    NOT NULL PRIMARY KEY,
    user_id          TEXT    NOT NULL REFERENCES users (id),
    file_id          TEXT    REFERENCES files (id) ON DELETE SET NULL,
    file_name        TEXT    NOT NULL,
    sha256           TEXT    NOT NULL, -- of the audio
    duration         REAL    NOT NULL, -- of the audio, seconds
    model            TEXT    NOT NULL,
    language         TEXT    NOT NULL, -- as asked for
    params           TEXT    NOT NULL, -- JSON of job.Params, with defaults filled in
    params_hash      TEXT    NOT NULL, -- SHA-256 of params, hex
    priority         INTEGER NOT NULL DEFAULT 0,
    webhook          TEXT    NOT NULL DEFAULT '',
    status           TEXT    NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    stage            TEXT    NOT NULL,
    progress         REAL    NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    attempt          INTEGER NOT NULL DEFAULT 0, -- with version: the newest update that was applied
    version          INTEGER NOT NULL DEFAULT 0,
    error_class      TEXT    NOT NULL DEFAULT '',
    error_code       TEXT    NOT NULL DEFAULT '',
    error_message    TEXT    NOT NULL DEFAULT '',
    reused           INTEGER NOT NULL DEFAULT 0 CHECK (reused IN (0, 1)),
    cancel_asked     INTEGER NOT NULL DEFAULT 0 CHECK (cancel_asked IN (0, 1)),
    idempotency_key  TEXT,
    idempotency_hash TEXT    NOT NULL DEFAULT '', -- of the request's body
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    ended_at         INTEGER,
    updated_at       INTEGER NOT NULL,
    CHECK ((status IN ('done', 'failed', 'cancelled')) = (ended_at IS NOT NULL)),
    CHECK (status <> 'failed' OR error_code <> '')
) STRICT;

CREATE UNIQUE INDEX tasks_idempotency ON tasks (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_file ON tasks (file_id);
CREATE INDEX tasks_open ON tasks (created_at, id) WHERE ended_at IS NULL;
CREATE INDEX tasks_reuse ON tasks (sha256, model, params_hash, created_at DESC) WHERE status = 'done';

CREATE TABLE results (
    task_id    TEXT    NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    body       BLOB    NOT NULL, -- gzip of the transcript's JSON
    sha256     TEXT    NOT NULL, -- of the JSON
    bytes      INTEGER NOT NULL, -- of the JSON
    created_at INTEGER NOT NULL
) STRICT;

-- What has to be told to others once the transaction that wrote it has committed.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    lane        TEXT    NOT NULL CHECK (lane IN ('queue', 'webhook')),
    kind        TEXT    NOT NULL CHECK (kind IN ('publish', 'cancel', 'delete', 'purge', 'webhook')),
    subject     TEXT    NOT NULL,           -- the task's id; for purge the object's key
    payload     TEXT    NOT NULL,           -- JSON
    tries       INTEGER NOT NULL DEFAULT 0, -- claims so far
    next_try_at INTEGER NOT NULL,           -- a claim moves it on, and so is a lease
    last_error  TEXT    NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_due ON outbox (lane, next_try_at, id);
CREATE INDEX outbox_subject ON outbox (subject, id);
