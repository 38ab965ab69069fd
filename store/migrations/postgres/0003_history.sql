CREATE INDEX tasks_user ON tasks (user_id, created_at DESC, id DESC);
CREATE INDEX tasks_user_status ON tasks (user_id, status, created_at DESC, id DESC);
-- NULLS LAST, though there are none: so these cannot stand in for the index of a user, whose rows may be far apart in them.
CREATE INDEX tasks_created ON tasks (created_at DESC NULLS LAST, id DESC NULLS LAST);
CREATE INDEX tasks_status ON tasks (status, created_at DESC NULLS LAST, id DESC NULLS LAST);
-- Bytes in their order, so that a prefix is a range.
CREATE INDEX tasks_user_file_name ON tasks (user_id, file_name);
