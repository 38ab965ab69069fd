package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"steno/job"
)

// Plan is how the database would run one statement now.
type Plan struct {
	Name string `json:"name"` // e.g. "history.after.status"
	SQL  string `json:"sql"`
	// Indexes are those of which the statement should use one; Used says whether it would. A database whose tables are nearly
	// empty, or were never analyzed, may rightly read them whole.
	Indexes []string `json:"indexes"`
	Used    bool     `json:"used"`
	Lines   []string `json:"lines"` // as the database prints the plan
}

// probe is a statement that matters, with values to plan it for and the indexes of which it should use one.
type probe struct {
	statement
	args    []any
	indexes []string
}

// Explain returns the plan of each statement whose speed depends on how many rows there are, planned for values of the newest
// task. It runs none of them.
func (s *Store) Explain(ctx context.Context) ([]Plan, error) {
	var plans []Plan
	err := s.snapshot(ctx, func(c session) error {
		sample, err := c.sample(ctx)
		if err != nil {
			return err
		}
		for _, p := range probes(sample) {
			plan, err := c.plan(ctx, p)
			if err != nil {
				return err
			}
			plans = append(plans, plan)
		}
		return nil
	})
	return plans, forUser(ctx, "explain the statements", err)
}

// sample is the newest task, or one that is made up.
func (c session) sample(ctx context.Context) (Task, error) {
	q, args := scope{everybody: true}.after(top, 1)
	t, err := scanTask(c.row(ctx, q, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return Task{ID: job.NewID(), User: "nobody", File: "none", FileName: "none", Created: time.Now()}, nil
	}
	return t, err
}

func (c session) plan(ctx context.Context, p probe) (Plan, error) {
	explain := statement{Name: "explain " + p.Name, SQL: c.dialect.explain + p.SQL}
	lines, err := all(ctx, c, c.dialect.planLine, explain, p.args...)
	plan := Plan{Name: p.Name, SQL: c.dialect.adapt(p.SQL), Indexes: p.indexes, Lines: lines}
	for _, line := range lines {
		for name := range strings.FieldsFuncSeq(line, notInName) {
			plan.Used = plan.Used || slices.Contains(p.indexes, name)
		}
	}
	return plan, err
}

func notInName(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }

// primaryKey is how the databases call the index of a table's primary key.
func primaryKey(table string) []string {
	return []string{table + "_pkey", "sqlite_autoindex_" + table + "_1"}
}

// probes lists the statements that matter.
func probes(t Task) []probe {
	id, now := string(t.ID), t.Created.UnixMicro()
	name := []rune(t.FileName)
	prefix := string(name[:(3*len(name)+3)/4])
	list := []probe{
		{getTask, []any{id}, primaryKey("tasks")},
		{getIdempotent, []any{t.User, "key"}, []string{"tasks_idempotency"}},
		{fileInUse, []any{t.File}, []string{"tasks_file"}},
		{copyResult, []any{id, t.SHA256, t.Params.Model, ParamsHash(t.Params), now}, []string{"tasks_reuse"}},
		{applyUpdate, []any{id, "running", "split", 0.5, 1, 1, "", "", "", now, nil, now, false}, primaryKey("tasks")},
		{listOpen, []any{now, int64(0), "", 100}, []string{"tasks_open"}},
		{sumEnded, []any{now, now}, []string{"tasks_created", "tasks_status"}}, // SQLite may skip from state to state
		{getFile, []any{t.File, t.User}, primaryKey("files")},
		{objectInUse, []any{t.SHA256}, []string{"files_sha256"}},
		{getResult, []any{id}, primaryKey("results")},
		{getAPIKey, []any{"hash"}, []string{"api_keys_hash_key", "sqlite_autoindex_api_keys_2"}},
		{claimCommands, []any{string(LaneQueue), now, 16, now}, []string{"outbox_due"}},
		{lockPublish, []any{id}, []string{"outbox_subject"}},
	}
	return append(list, historyProbes(t, position{now, t.ID}, prefix)...)
}

func historyProbes(t Task, at position, prefix string) []probe {
	byUser := []string{"tasks_user", "tasks_user_status", "tasks_user_file_name"}
	mine := func(f Filter, narrow bool) scope { return scope{user: t.User, Filter: f, narrow: narrow} }
	list := []probe{{hasManyNames, []any{t.User, prefix, afterPrefix(prefix), fewNames}, []string{"tasks_user_file_name"}}}
	for _, h := range []struct {
		scope
		indexes []string
	}{
		{mine(Filter{}, false), []string{"tasks_user"}},
		{mine(Filter{Status: job.Failed}, false), []string{"tasks_user_status"}},
		{mine(Filter{Prefix: prefix}, true), []string{"tasks_user_file_name"}},
		{mine(Filter{job.Failed, prefix}, true), []string{"tasks_user_file_name"}},
		{mine(Filter{Prefix: prefix}, false), byUser}, // whichever PostgreSQL finds best for this prefix
		{mine(Filter{job.Failed, prefix}, false), byUser},
		{scope{everybody: true}, []string{"tasks_created"}},
		{scope{everybody: true, Filter: Filter{Status: job.Failed}}, []string{"tasks_status"}},
	} {
		q, args := h.after(at, MaxLimit)
		list = append(list, probe{q, args, h.indexes})
		if h.everybody {
			continue
		}
		q, args = h.page(MaxLimit, MaxLimit)
		list = append(list, probe{q, args, h.indexes})
		if h.Prefix != "" && !h.narrow {
			continue // is counted as if it were narrow
		}
		q, args = h.count() // any index that begins with the user holds all it needs
		list = append(list, probe{q, args, byUser})
	}
	return list
}
