-- Times are microseconds since 1970, UTC. Ids are ULIDs. Collation C orders bytes, as SQLite does.

CREATE TABLE users (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    username         TEXT COLLATE "C" NOT NULL UNIQUE CHECK (username <> ''),
    password_hash    TEXT COLLATE "C" NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    role             TEXT COLLATE "C" NOT NULL CHECK (role IN ('user', 'admin')),
    disabled         BOOLEAN          NOT NULL DEFAULT FALSE,
    token_generation BIGINT           NOT NULL DEFAULT 1, -- tokens of an older generation are revoked
    created_at       BIGINT           NOT NULL,
    updated_at       BIGINT           NOT NULL
);

CREATE TABLE api_keys (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id      TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    name         TEXT COLLATE "C" NOT NULL,
    prefix       TEXT COLLATE "C" NOT NULL,        -- the first characters of the key, to recognise it by
    hash         TEXT COLLATE "C" NOT NULL UNIQUE, -- SHA-256 of the key in hex; the key itself is nowhere
    created_at   BIGINT           NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);

CREATE INDEX api_keys_user ON api_keys (user_id, created_at);
