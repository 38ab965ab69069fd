package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"steno/internal/testpg"
	"steno/job"
	"steno/transcript"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv("STENO_STORE_TEST"); dsn != "" {
		createForEver(dsn) // plays the gateway that TestKill kills
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("steno/internal/proc.spawn"))
}

// suite is the conformance suite: a database passes all of it or is none.
var suite = map[string]func(*testing.T, engine){
	"Users":               testUsers,
	"APIKeys":             testAPIKeys,
	"Files":               testFiles,
	"SharedObject":        testSharedObject,
	"ObjectUnderDeletion": testObjectUnderDeletion,
	"FilesConcurrently":   testFilesConcurrently,
	"CreateTask":          testCreateTask,
	"Idempotency":         testIdempotency,
	"IdempotentRace":      testIdempotentRace,
	"Reuse":               testReuse,
	"Cancel":              testCancel,
	"Delete":              testDelete,
	"Ownership":           testOwnership,
	"Claim":               testClaim,
	"ClaimConcurrently":   testClaimConcurrently,
	"Retry":               testRetry,
	"Order":               testOrder,
	"Apply":               testApply,
	"ApplyAnyOrder":       testApplyAnyOrder,
	"ApplyRetried":        testApplyRetried,
	"Throughput":          testThroughput,
	"Revisions":           testRevisions,
	"ApplyConcurrently":   testApplyConcurrently,
	"OpenTasks":           testOpenTasks,
	"Republish":           testRepublish,
	"History":             testHistory,
	"HistoryErrors":       testHistoryErrors,
	"HistoryWalk":         testHistoryWalk,
	"Explain":             testExplain,
	"Migrations":          testMigrations,
	"OpenConcurrently":    testOpenConcurrently,
	"TextThatCannotBe":    testText,
	"ContextEnds":         testContext,
}

// engine makes empty databases.
type engine func(t *testing.T) (dsn string)

func TestConformance(t *testing.T) {
	t.Parallel()
	pg := testpg.Start(t, "fsync=off", "max_connections=400")
	engines := map[string]engine{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "steno.db") },
		"postgres": func(t *testing.T) string { return pg.Database(t) },
	}
	t.Run("databases", func(t *testing.T) { // ends when all have, so that the server outlives them
		for name, e := range engines {
			for test, f := range suite {
				t.Run(name+"/"+test, func(t *testing.T) {
					t.Parallel()
					f(t, e)
				})
			}
		}
	})
}

// fixture is a store with a user, and a clock that moves only when told to.
type fixture struct {
	*Store
	t    *testing.T
	dsn  string
	user User

	mu  sync.Mutex
	now time.Time
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, e engine) *fixture {
	t.Helper()
	f := &fixture{t: t, dsn: e(t), now: epoch}
	f.Store = f.reopen(Config{})
	f.user = f.addUser("ada")
	return f
}

// reopen is one more Store on the same database and clock.
func (f *fixture) reopen(cfg Config) *Store {
	f.t.Helper()
	cfg.Now = f.clock
	s, err := Open(f.t.Context(), f.dsn, cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return s
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

const someHash = "$argon2id$v=19$m=65536,t=1,p=4$c2FsdHNhbHQ$aGFzaGhhc2g"

func (f *fixture) addUser(name string) User {
	f.t.Helper()
	return must(f.CreateUser(f.t.Context(), User{Username: name, PasswordHash: someHash, Role: RoleUser}))(f.t)
}

// sum is the SHA-256 that stands for a content in these tests.
func sum(content string) string {
	_, hash := encodeParams(job.Params{Prompt: content})
	return hash
}

func (f *fixture) addFile(u User, name, content string) File {
	f.t.Helper()
	return must(f.AddFile(f.t.Context(), fileOf(u, name, content)))(f.t)
}

func fileOf(u User, name, content string) File {
	return File{User: u.ID, Name: name, SHA256: sum(content), Object: "object-" + content, Size: 1000, Duration: 12.5,
		Media: []byte(`{"codec":"mp3"}`)}
}

func (f *fixture) addTask(u User, file File) Task {
	f.t.Helper()
	task, created, err := f.CreateTask(f.t.Context(), NewTask{User: u.ID, File: file.ID})
	if err != nil || !created {
		f.t.Fatalf("created %v, %v", created, err)
	}
	return task
}

// finish records that a task is done.
func (f *fixture) finish(task Task, text string) {
	f.t.Helper()
	u := Update{Task: task.ID, State: job.Done, Attempt: 1, Version: 9, Result: say(text)}
	if effect := must(f.Apply(f.t.Context(), u))(f.t); effect != Applied {
		f.t.Fatalf("end of task %s: %s", task.ID, effect)
	}
}

func say(text string) *transcript.Transcript {
	return &transcript.Transcript{Text: text, Language: "en", Model: "base", Segments: []transcript.Segment{{Text: text, End: 1}}}
}

// outbox takes all commands that are due.
func (f *fixture) outbox() []Command {
	f.t.Helper()
	return must(f.Claim(f.t.Context(), LaneQueue, 1000, time.Minute))(f.t)
}

// drain carries out all commands of the queue's lane that are due.
func (f *fixture) drain() {
	f.t.Helper()
	for _, c := range f.outbox() {
		if err := f.Complete(f.t.Context(), c.ID); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) get(task Task) Task {
	f.t.Helper()
	return must(f.AnyTask(f.t.Context(), task.ID))(f.t)
}

// must(f())(t) is the value of f, or the end of the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantCode(t *testing.T, err error, class job.Class, code string) {
	t.Helper()
	var e *job.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a *job.Error of code %s", err, code)
	}
	if e.Class != class || e.Code != code {
		t.Fatalf("error %s %s (%v), want %s %s", e.Class, e.Code, err, class, code)
	}
	if code != "DATABASE" && strings.HasSuffix(code, "_NOT_FOUND") != errors.Is(err, ErrNotFound) {
		t.Fatalf("error %v: is it ErrNotFound?", err)
	}
}

func wantKinds(t *testing.T, commands []Command, want ...Kind) {
	t.Helper()
	var got []Kind
	for _, c := range commands {
		got = append(got, c.Kind)
	}
	if len(got) != len(want) {
		t.Fatalf("commands %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("commands %v, want %v", got, want)
		}
	}
}
