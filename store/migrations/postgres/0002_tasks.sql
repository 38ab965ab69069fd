-- One row per stored content; files of several users may name it.
CREATE TABLE objects (
    sha256     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    object     TEXT COLLATE "C" NOT NULL UNIQUE,           -- key in the object store
    size       BIGINT           NOT NULL CHECK (size > 0), -- bytes
    duration   DOUBLE PRECISION NOT NULL,                  -- seconds
    media      TEXT COLLATE "C" NOT NULL,                  -- JSON: what the probe said
    created_at BIGINT           NOT NULL
);

CREATE TABLE files (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    sha256     TEXT COLLATE "C" NOT NULL REFERENCES objects (sha256),
    name       TEXT COLLATE "C" NOT NULL,
    created_at BIGINT           NOT NULL
);

CREATE INDEX files_user ON files (user_id, created_at);
CREATE INDEX files_sha256 ON files (sha256);

-- The history of transcriptions. A task outlives its file.
CREATE TABLE tasks (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id          TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    file_id          TEXT COLLATE "C" REFERENCES files (id) ON DELETE SET NULL,
    file_name        TEXT COLLATE "C" NOT NULL,
    sha256           TEXT COLLATE "C" NOT NULL, -- of the audio
    duration         DOUBLE PRECISION NOT NULL, -- of the audio, seconds
    model            TEXT COLLATE "C" NOT NULL,
    language         TEXT COLLATE "C" NOT NULL, -- as asked for
    params           TEXT COLLATE "C" NOT NULL, -- JSON of job.Params, with defaults filled in
    params_hash      TEXT COLLATE "C" NOT NULL, -- SHA-256 of params, hex
    priority         BIGINT           NOT NULL DEFAULT 0,
    webhook          TEXT COLLATE "C" NOT NULL DEFAULT '',
    status           TEXT COLLATE "C" NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    stage            TEXT COLLATE "C" NOT NULL,
    progress         DOUBLE PRECISION NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    attempt          BIGINT           NOT NULL DEFAULT 0, -- with version: the newest update that was applied
    version          BIGINT           NOT NULL DEFAULT 0,
    error_class      TEXT COLLATE "C" NOT NULL DEFAULT '',
    error_code       TEXT COLLATE "C" NOT NULL DEFAULT '',
    error_message    TEXT COLLATE "C" NOT NULL DEFAULT '',
    reused           BOOLEAN          NOT NULL DEFAULT FALSE,
    cancel_asked     BOOLEAN          NOT NULL DEFAULT FALSE,
    idempotency_key  TEXT COLLATE "C",
    idempotency_hash TEXT COLLATE "C" NOT NULL DEFAULT '', -- of the request's body
    created_at       BIGINT           NOT NULL,
    started_at       BIGINT,
    ended_at         BIGINT,
    updated_at       BIGINT           NOT NULL,
    CHECK ((status IN ('done', 'failed', 'cancelled')) = (ended_at IS NOT NULL)),
    CHECK (status <> 'failed' OR error_code <> '')
);

CREATE UNIQUE INDEX tasks_idempotency ON tasks (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_file ON tasks (file_id);
CREATE INDEX tasks_open ON tasks (created_at, id) WHERE ended_at IS NULL;
CREATE INDEX tasks_reuse ON tasks (sha256, model, params_hash, created_at DESC) WHERE status = 'done';

CREATE TABLE results (
    task_id    TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    body       BYTEA            NOT NULL, -- gzip of the transcript's JSON
    sha256     TEXT COLLATE "C" NOT NULL, -- of the JSON
    bytes      BIGINT           NOT NULL, -- of the JSON
    created_at BIGINT           NOT NULL
);

-- What has to be told to others once the transaction that wrote it has committed.
CREATE TABLE outbox (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane        TEXT COLLATE "C" NOT NULL CHECK (lane IN ('queue', 'webhook')),
    kind        TEXT COLLATE "C" NOT NULL CHECK (kind IN ('publish', 'cancel', 'delete', 'purge', 'webhook')),
    subject     TEXT COLLATE "C" NOT NULL,           -- the task's id; for purge the object's key
    payload     TEXT COLLATE "C" NOT NULL,           -- JSON
    tries       BIGINT           NOT NULL DEFAULT 0, -- claims so far
    next_try_at BIGINT           NOT NULL,           -- a claim moves it on, and so is a lease
    last_error  TEXT COLLATE "C" NOT NULL DEFAULT '',
    created_at  BIGINT           NOT NULL
);

CREATE INDEX outbox_due ON outbox (lane, next_try_at, id);
CREATE INDEX outbox_subject ON outbox (subject, id);
