-- Transcripts as people have edited them, beside what the engine heard, which stays in results and is number 0.
CREATE TABLE revisions (
    task_id    TEXT    NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    number     INTEGER NOT NULL CHECK (number > 0),
    body       BLOB    NOT NULL, -- gzip of the transcript's JSON
    sha256     TEXT    NOT NULL, -- of the JSON
    bytes      INTEGER NOT NULL, -- of the JSON
    created_at INTEGER NOT NULL,
    PRIMARY KEY (task_id, number)
) STRICT;
