-- Transcripts as people have edited them, beside what the engine heard, which stays in results and is number 0.
CREATE TABLE revisions (
    task_id    TEXT COLLATE "C" NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    number     BIGINT           NOT NULL CHECK (number > 0),
    body       BYTEA            NOT NULL, -- gzip of the transcript's JSON
    sha256     TEXT COLLATE "C" NOT NULL, -- of the JSON
    bytes      BIGINT           NOT NULL, -- of the JSON
    created_at BIGINT           NOT NULL,
    PRIMARY KEY (task_id, number)
);
