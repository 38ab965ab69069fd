-- Times are microseconds since 1970, UTC. Ids are ULIDs.

CREATE TABLE users (
    id               TEXT    NOT NULL PRIMARY KEY,
    username         TEXT    NOT NULL UNIQUE CHECK (username <> ''),
    password_hash    TEXT    NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    role             TEXT    NOT NULL CHECK (role IN ('user', 'admin')),
    disabled         INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    token_generation INTEGER NOT NULL DEFAULT 1, -- tokens of an older generation are revoked
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES users (id),
    name         TEXT    NOT NULL,
    prefix       TEXT    NOT NULL,        -- the first characters of the key, to recognise it by
    hash         TEXT    NOT NULL UNIQUE, -- SHA-256 of the key in hex; the key itself is nowhere
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;

CREATE INDEX api_keys_user ON api_keys (user_id, created_at);
