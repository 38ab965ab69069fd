-- Whether a user has many open tasks is asked for each new one.
CREATE INDEX tasks_user_open ON tasks (user_id) WHERE ended_at IS NULL;
