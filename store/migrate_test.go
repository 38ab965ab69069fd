package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"steno/internal/testpg"
	"steno/job"
)

// testMigrations brings a database from each older version to the newest, with rows of that version in it.
func testMigrations(t *testing.T, e engine) {
	ctx := t.Context()
	fresh := open(t, e)
	want := schema(t, fresh.Store)
	list := must(fresh.dialect.migrations())(t)
	for version := range len(list) {
		dsn := e(t)
		old := must(connect(ctx, dsn, Config{}.withDefaults()))(t)
		if version > 0 {
			if from, to, err := old.migrate(ctx, version); from != 0 || to != version || err != nil {
				t.Fatalf("to version %d: %d to %d, %v", version, from, to, err)
			}
			fill(t, old, version)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := Open(ctx, dsn, Config{KeepSchema: true})
		wantCode(t, err, job.Input, "DATABASE_TOO_OLD")
		if from, to, err := Migrate(ctx, dsn); from != version || to != len(list) || err != nil {
			t.Fatalf("from version %d: %d to %d, %v", version, from, to, err)
		}
		s := must(Open(ctx, dsn, Config{KeepSchema: true}))(t)
		if got := schema(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("from version %d the schema is\n%v\nwant\n%v", version, got, want)
		}
		if version >= 1 {
			if u, err := s.UserByName(ctx, "old"); err != nil || u.ID != "u" {
				t.Errorf("user of version %d: %+v, %v", version, u, err)
			}
		}
		if version >= 2 {
			if tasks, total, err := s.HistoryPage(ctx, "u", Filter{}, 1, 10); err != nil || total != 1 || tasks[0].FileName != "n" {
				t.Errorf("task of version %d: %+v, %v", version, tasks, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}

	// A database of the future is refused, and left as it is.
	if _, err := fresh.write.Exec("INSERT INTO schema_migrations (version, name, applied_at) VALUES (99, 'future', 0)"); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{{}, {KeepSchema: true}} {
		_, err := Open(ctx, fresh.dsn, cfg)
		wantCode(t, err, job.Input, "DATABASE_TOO_NEW")
		if !strings.Contains(err.Error(), fmt.Sprintf("version 99, and this steno knows %d", len(list))) {
			t.Error(err)
		}
	}
	_, _, err := Migrate(ctx, fresh.dsn)
	wantCode(t, err, job.Input, "DATABASE_TOO_NEW")
}

// fill adds rows as steno wrote them at a version. It never changes, but for new versions.
func fill(t *testing.T, s *Store, version int) {
	t.Helper()
	rows := []string{
		1: "INSERT INTO users (id, username, password_hash, role, created_at, updated_at) VALUES ('u', 'old', '$argon2id$x', 'user', 1, 1)",
		2: "INSERT INTO tasks (id, user_id, file_name, sha256, duration, model, language, params, params_hash, status, stage, " +
			"created_at, updated_at) VALUES ('t', 'u', 'n', 's', 1, 'base', 'auto', '{}', 'h', 'queued', 'queue', 1, 1)",
		3: "", // indexes only
		4: "",
	}
	for _, row := range rows[1 : version+1] {
		if _, err := s.write.Exec(row); row != "" && err != nil {
			t.Fatal(err)
		}
	}
}

// schema is what a database says of its tables and indexes, and, for PostgreSQL, of the order of its texts.
func schema(t *testing.T, s *Store) []string {
	t.Helper()
	sql := "SELECT COALESCE(sql, name) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
	if s.Engine() == "postgres" {
		sql = `SELECT * FROM (
			SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || COALESCE(' ' || collation_name, '')
				|| COALESCE(' ' || column_default, '') AS line FROM information_schema.columns WHERE table_schema = 'public'
			UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public') lines ORDER BY line`
	}
	rows, err := s.read.Query(sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, " text ") && !strings.HasPrefix(line, "schema_migrations") && !strings.Contains(line, " C") {
			t.Errorf("%s: its order depends on the server's language", line)
		}
		lines = append(lines, line)
	}
	return lines
}

// Gateways that start at once migrate once, and all of them open.
func testOpenConcurrently(t *testing.T, e engine) {
	dsn := e(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := Open(t.Context(), dsn, Config{})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := s.Users(t.Context()); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestSchemasMatch holds the two sets of migrations together: the same tables, columns and indexes.
func TestSchemasMatch(t *testing.T) {
	t.Parallel()
	pg := testpg.Start(t, "fsync=off")
	shape := func(dsn, columns, indexes string) map[string]bool {
		s := must(Open(t.Context(), dsn, Config{}))(t)
		defer s.Close()
		set := map[string]bool{}
		for _, sql := range []string{columns, indexes} {
			for _, line := range must(all(t.Context(), s.reader(), func(r scanner) (l string, err error) { return l, r.Scan(&l) },
				statement{"test", sql}))(t) {
				set[line] = true
			}
		}
		return set
	}
	sqlite := shape(filepath.Join(t.TempDir(), "steno.db"),
		"SELECT m.name || '.' || c.name || CASE WHEN c.\"notnull\" OR c.pk THEN ' NO' ELSE ' YES' END FROM sqlite_master m "+
			"JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
		"SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%'")
	postgres := shape(pg.Database(t),
		"SELECT table_name || '.' || column_name || ' ' || is_nullable FROM information_schema.columns WHERE table_schema = 'public'",
		"SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%_pkey' AND indexname NOT LIKE '%_key'")
	if !maps.Equal(sqlite, postgres) {
		t.Errorf("sqlite   %v\npostgres %v", slices.Sorted(maps.Keys(sqlite)), slices.Sorted(maps.Keys(postgres)))
	}
}

func testText(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "x", "x")
	for _, text := range []string{"a\x00b", "\xff"} {
		for _, n := range []NewTask{
			{Params: job.Params{Prompt: text}}, {Params: job.Params{Model: text}}, {Webhook: text}, {IdempotencyKey: text}, {RequestHash: text},
		} {
			n.User, n.File = f.user.ID, file.ID
			_, _, err := f.CreateTask(ctx, n)
			wantCode(t, err, job.Input, "BAD_PARAMETER")
		}
	}
	// Ids come from URLs: whatever they hold, they are not found, or no text.
	for _, id := range []string{"", "'; DROP TABLE tasks; --", strings.Repeat("x", 1<<16)} {
		_, err := f.Task(ctx, f.user.ID, job.ID(id))
		wantCode(t, err, job.Input, "TASK_NOT_FOUND")
		_, err = f.File(ctx, f.user.ID, id)
		wantCode(t, err, job.Input, "FILE_NOT_FOUND")
	}
}

// What was cancelled changes nothing, and the store goes on.
func testContext(t *testing.T, e engine) {
	f := open(t, e)
	file := f.addFile(f.user, "x", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.CreateTask(ctx, NewTask{User: f.user.ID, File: file.ID}); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	if _, _, err := f.History(ctx, f.user.ID, Filter{}, "", 10); !errors.Is(err, context.Canceled) {
		t.Errorf("history: %v", err)
	}
	for i := range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond)
		_, _, err := f.CreateTask(ctx, NewTask{User: f.user.ID, File: file.ID, IdempotencyKey: fmt.Sprint(i)})
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("create: %v", err)
		}
	}
	tasks, total, err := f.HistoryPage(t.Context(), f.user.ID, Filter{}, 1, 100)
	if err != nil || total != len(tasks) || len(f.outbox()) != total {
		t.Errorf("%d tasks, %v: not as many commands", total, err)
	}
	if err := f.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
