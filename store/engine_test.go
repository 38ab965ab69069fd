package store

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"steno/internal/proc"
	"steno/internal/testpg"
	"steno/job"
)

func TestSQLiteSettings(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "odd name#%41&ü.db")
	f := open(t, func(*testing.T) string { return path })
	for _, file := range []string{path, path + "-wal", path + "-shm"} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", file, info, err)
		}
	}
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		for _, db := range []*sql.DB{f.read, f.write} {
			var got string
			if err := db.QueryRow("PRAGMA " + name).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %s, %v; want %s", name, got, err, want)
			}
		}
	}
	if _, err := f.read.Exec("DELETE FROM users"); err == nil {
		t.Error("a connection for reading writes")
	}
	if n := f.write.Stats().MaxOpenConnections; n != 1 {
		t.Errorf("%d connections write", n)
	}
	for _, dsn := range []string{"sqlite:" + path, "sqlite://" + path} {
		s := must(Open(t.Context(), dsn, Config{KeepSchema: true}))(t)
		if users := must(s.Users(t.Context()))(t); len(users) != 1 || s.Engine() != "sqlite" {
			t.Errorf("%s is another database: %v", dsn, users)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBadDatabases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	noDatabase := filepath.Join(dir, "text")
	if err := os.WriteFile(noDatabase, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dsn := range []string{"", ":memory:", "file:x?mode=memory", "mysql://localhost/steno", "postgres://host:port/x", dir, noDatabase} {
		s, err := Open(t.Context(), dsn, Config{})
		if err == nil {
			_ = s.Close()
		}
		wantCode(t, err, job.Input, "BAD_DATABASE")
	}
	missing := filepath.Join(dir, "missing.db")
	_, err := Open(t.Context(), missing, Config{KeepSchema: true})
	wantCode(t, err, job.Input, "BAD_DATABASE")
	if _, err := os.Stat(missing); !errors.Is(err, os.ErrNotExist) {
		t.Error("it was made, though only a database that is there was wanted")
	}
	_, err = Open(t.Context(), "postgres://steno:secret@/x?host=/no/such/folder", Config{})
	wantCode(t, err, job.Transient, "DATABASE_UNAVAILABLE")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is in the message: %v", err)
	}
}

// Another process that holds the write lock is waited for, but not for ever; readers do not notice.
func TestSQLiteBusy(t *testing.T) {
	t.Parallel()
	f := open(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "steno.db") })
	ctx := t.Context()
	hasty := f.reopen(Config{BusyTimeout: 50 * time.Millisecond})
	many := f.reopen(Config{BusyTimeout: 300 * time.Millisecond})
	other := f.reopen(Config{})
	hold := must(other.write.BeginTx(ctx, nil))(t)
	_, err := hasty.CreateUser(ctx, User{Username: "hasty", PasswordHash: someHash, Role: RoleUser})
	wantCode(t, err, job.Transient, "DATABASE_BUSY")
	// Those who wait in one process do not wait for each other's patience.
	began, all := time.Now(), make(chan error)
	for i := range 20 {
		go func() {
			_, err := many.CreateUser(ctx, User{Username: fmt.Sprint("many", i), PasswordHash: someHash, Role: RoleUser})
			all <- err
		}()
	}
	for range 20 {
		wantCode(t, <-all, job.Transient, "DATABASE_BUSY")
	}
	if took := time.Since(began); took > 3*time.Second { // 6 s, one after the other
		t.Errorf("they waited %s", took)
	}
	if users := must(hasty.Users(ctx))(t); len(users) != 1 {
		t.Errorf("users %v", users)
	}
	released := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() { released <- hold.Rollback() })
	f.addUser("patient")
	if err := <-released; err != nil {
		t.Error(err)
	}
}

// createForEver creates tasks and says so, until it is killed.
func createForEver(dsn string) {
	ctx := context.Background()
	s, err := Open(ctx, dsn, Config{})
	if err != nil {
		panic(err)
	}
	u, err := s.UserByName(ctx, "ada")
	if err != nil {
		panic(err)
	}
	file, err := s.AddFile(ctx, fileOf(u, "x", fmt.Sprint(os.Getpid())))
	if err != nil {
		panic(err)
	}
	for {
		task, _, err := s.CreateTask(ctx, NewTask{User: u.ID, File: file.ID})
		if err != nil {
			panic(err)
		}
		fmt.Println(task.ID)
	}
}

// TestKill kills processes in the middle of their writes. Whatever they said they had created is there, with its command.
func TestKill(t *testing.T) {
	t.Parallel()
	f := open(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "steno.db") })
	said := map[job.ID]bool{}
	for round := range 10 {
		cmd := proc.Command(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "STENO_STORE_TEST="+f.dsn)
		cmd.Stderr = os.Stderr
		out := must(cmd.StdoutPipe())(t)
		if err := proc.Start(cmd); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			said[job.ID(lines.Text())] = true
			if n == 20 {
				time.Sleep(time.Duration(round) * 300 * time.Microsecond)
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || proc.Signal(err) != syscall.SIGKILL {
			t.Fatalf("the child ended by itself: %v", err)
		}
	}
	f.pass(time.Since(f.now) + time.Hour) // the children live in the present, and so what they wrote is due
	commands := map[job.ID]int{}
	for _, c := range f.outbox() {
		commands[c.Task]++
	}
	for id := range said {
		if _, err := f.AnyTask(t.Context(), id); err != nil || commands[id] != 1 {
			t.Errorf("task %s, which was said to be created: %v, %d commands", id, err, commands[id])
		}
	}
	var tasks int
	if err := f.read.QueryRow("SELECT count(*) FROM tasks").Scan(&tasks); err != nil || tasks != len(commands) || tasks < 200 {
		t.Errorf("%d tasks, %d commands, %v", tasks, len(commands), err)
	}
}

// A server that goes away and comes back: errors that say so, and then none.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	pg := testpg.Start(t, "fsync=off")
	f := open(t, func(t *testing.T) string { return pg.Database(t) })
	pg.Stop()
	_, err := f.Users(t.Context())
	wantCode(t, err, job.Transient, "DATABASE_UNAVAILABLE")
	pg.Resume(t)
	if users, err := f.Users(t.Context()); err != nil || len(users) != 1 {
		t.Errorf("after its return: %v, %v", users, err)
	}
	_, err = Open(t.Context(), strings.Replace(f.dsn, "/test1", "/missing", 1), Config{})
	wantCode(t, err, job.Input, "BAD_DATABASE")
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]struct {
		class job.Class
		code  string
	}{
		"53100": {job.Resource, "DATABASE_FULL"}, "53300": {job.Transient, "DATABASE_UNAVAILABLE"},
		"57P01": {job.Transient, "DATABASE_UNAVAILABLE"}, "40P01": {job.Transient, "DATABASE_BUSY"},
		"28P01": {job.Input, "BAD_DATABASE"}, "42601": {job.Internal, "DATABASE"},
	} {
		wantCode(t, forUser(t.Context(), "try", fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})), want.class, want.code)
	}
	for code, want := range map[int]kind{13: full, 5: busy, 517: busy, 14: refused, 26: refused, 2067: duplicate, 11: unknown} {
		if got := kindOfSQLite(code); got != want {
			t.Errorf("SQLite %d: %d, want %d", code, got, want)
		}
	}
	if got := forUser(t.Context(), "try", nil); got != nil {
		t.Errorf("nil became %v", got)
	}
	wantCode(t, forUser(t.Context(), "try", notFound("TASK", "x")), job.Input, "TASK_NOT_FOUND")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := forUser(ended, "try", sql.ErrTxDone); !errors.Is(got, context.Canceled) {
		t.Errorf("the end of a context became %v", got)
	}
}
