package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"steno/internal/testpg"
	"steno/job"
	"steno/queue"
	"steno/relay"
	"steno/store"
	"steno/transcript"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("steno/internal/proc.spawn"), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(nodeDir) // empty where no node was built
		os.Exit(code)
	}))
}

// jobs makes a queue into what a relay takes, as cmd/steno does.
type jobs struct{ *queue.Queue }

func (j jobs) Submit(ctx context.Context, jb job.Job) error { return j.Queue.Submit(ctx, jb) }

func (j jobs) Status(ctx context.Context, id job.ID) (relay.Status, error) {
	s, err := j.Queue.Status(ctx, id)
	return convert(s), err
}

func (j jobs) WatchAll(ctx context.Context) (<-chan relay.Status, error) {
	in, err := j.Queue.WatchAll(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan relay.Status)
	go func() {
		defer close(out)
		for s := range in {
			select {
			case out <- convert(s):
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

func convert(s queue.Status) relay.Status {
	return relay.Status{
		Job: s.Job, State: s.State, Claims: s.Claims, Version: s.Version, Progress: s.Progress, Error: s.Error,
		Started: s.Started, Finished: s.Finished, Recorded: s.Recorded, Retried: s.Retries > 0,
	}
}

// onBoth runs a test on SQLite and on PostgreSQL.
func onBoth(t *testing.T, f func(t *testing.T, dsn string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, filepath.Join(t.TempDir(), "steno.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, testpg.Start(t, "fsync=off").Database(t))
	})
}

// rig is a record and a queue, with a user who has a file.
type rig struct {
	*testing.T
	server *queue.Server
	q      *queue.Queue
	s      *store.Store
	user   store.User
	file   store.File
	dsn    string
	log    *slog.Logger
}

func newRig(t *testing.T, dsn string, limits ...queue.Limits) *rig {
	t.Helper()
	r := &rig{T: t, dsn: dsn, log: slog.New(slog.DiscardHandler)}
	if testing.Verbose() {
		r.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	r.server = must(queue.Embedded(t.Context(), queue.EmbeddedConfig{Dir: t.TempDir(), MaxBytes: 256 << 20}))(t)
	t.Cleanup(r.server.Shutdown)
	r.q = r.connect(limits...)
	r.s = must(store.Open(t.Context(), dsn, store.Config{}))(t)
	t.Cleanup(func() { _ = r.s.Close() })
	r.user = must(r.s.CreateUser(t.Context(), store.User{Username: "ada", PasswordHash: "$argon2id$x", Role: store.RoleUser}))(t)
	r.file = r.upload("audio")
	return r
}

func (r *rig) connect(limits ...queue.Limits) *queue.Queue {
	r.Helper()
	cfg := queue.Config{Server: r.server, Log: r.log, Grace: 200 * time.Millisecond}
	if len(limits) > 0 {
		cfg.Limits = limits[0]
	}
	q := must(queue.Connect(r.Context(), cfg))(r.T)
	r.Cleanup(q.Close)
	return q
}

func (r *rig) upload(content string) store.File {
	r.Helper()
	src := must(r.q.PutAudio(r.Context(), strings.NewReader(content)))(r.T)
	f := must(r.s.AddFile(r.Context(), store.File{
		User: r.user.ID, Name: "talk.mp3", SHA256: src.SHA256, Object: src.Object, Size: src.Size, Duration: 1,
	}))(r.T)
	if err := r.q.KeepAudio(r.Context(), src.Object); err != nil {
		r.Fatal(err)
	}
	return f
}

func (r *rig) create(change ...func(*store.NewTask)) store.Task {
	r.Helper()
	n := store.NewTask{User: r.user.ID, File: r.file.ID}
	for _, f := range change {
		f(&n)
	}
	task, _, err := r.s.CreateTask(r.Context(), n)
	if err != nil {
		r.Fatal(err)
	}
	return task
}

// config is a relay that waits for little.
func (r *rig) config() relay.Config {
	return relay.Config{
		Store: r.s, Queue: jobs{r.q}, Tick: 50 * time.Millisecond, Lease: 3 * time.Second, RetryCap: time.Second,
		ReconcileEvery: 100 * time.Millisecond, Grace: time.Nanosecond, Log: r.log, Metrics: prometheus.NewRegistry(),
	}
}

// relay runs a relay until the test ends, or the function is called.
func (r *rig) relay(cfg relay.Config) (*relay.Relay, func()) {
	r.Helper()
	rel := relay.New(cfg)
	return rel, r.background(func(ctx context.Context) { _ = rel.Run(ctx) })
}

func (r *rig) background(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			r.Error("it does not stop")
		}
	})
	r.Cleanup(stop)
	return stop
}

// work runs a worker.
func (r *rig) work(q *queue.Queue, h queue.Handler) (stop func()) {
	return r.background(func(ctx context.Context) {
		for ctx.Err() == nil { // a worker that cannot begin, for the broker is away, gives up
			_ = q.Work(ctx, queue.WorkerConfig{
				Name: "w", Slots: 4, AckWait: 2 * time.Second, RetryBase: 20 * time.Millisecond, RetryCap: 100 * time.Millisecond,
				PollEvery: 50 * time.Millisecond, DrainTimeout: 2 * time.Second, NoMaintenance: true,
			}, h)
		}
	})
}

// echo says whose job it was.
func echo(_ context.Context, d *queue.Delivery) (transcript.Transcript, error) {
	d.Progress(job.Progress{Stage: job.StageTranscribe, Done: 1, Total: 2})
	return transcript.Transcript{Text: string(d.Job.ID), Language: "en"}, nil
}

// await waits for the state of a task in the record.
func (r *rig) await(id job.ID, want job.State) store.Task {
	r.Helper()
	var t store.Task
	r.eventually(fmt.Sprintf("task %s is %s", id, want), func() bool {
		t = must(r.s.AnyTask(r.Context(), id))(r.T)
		if t.Status.Terminal() && t.Status != want {
			r.Fatalf("task %s is %s (%v), want %s", id, t.Status, t.Error, want)
		}
		return t.Status == want
	})
	return t
}

// done checks that a task has ended well, with its own result.
func (r *rig) done(id job.ID) {
	r.Helper()
	r.await(id, job.Done)
	if res := must(r.s.Result(r.Context(), r.user.ID, id))(r.T); res.Transcript.Text != string(id) {
		r.Errorf("task %s has the result %q", id, res.Transcript.Text)
	}
}

// settled waits until the outbox is empty.
func (r *rig) settled() {
	r.Helper()
	r.eventually("the outbox is empty", func() bool {
		for _, lane := range []store.Lane{store.LaneQueue, store.LaneWebhook} {
			if n, _, err := r.s.Backlog(r.Context(), lane); err != nil || n > 0 {
				return false
			}
		}
		return true
	})
}

func (r *rig) eventually(what string, ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("waited in vain: %s", what)
		}
	}
}

// counted waits until a series of a relay has reached n, and wants it to be no more. What a relay does can be seen before it is counted.
func counted(t *testing.T, cfg relay.Config, name, label, value string, n float64) {
	t.Helper()
	var got float64
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got = counter(t, cfg, name, label, value); got >= n {
			break
		}
	}
	if got != n {
		t.Errorf("%s{%s=%q} is %v, want %v", name, label, value, got, n)
	}
}

// counter reads a series of a relay.
func counter(t *testing.T, cfg relay.Config, name, label, value string) float64 {
	t.Helper()
	families := must(cfg.Metrics.(*prometheus.Registry).Gather())(t)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	t.Fatalf("there is no series %s{%s=%q}", name, label, value)
	return 0
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func codeOf(err error) string {
	var e *job.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// changes collects what OnChange was told.
type changes struct {
	mu    sync.Mutex
	users map[job.ID]string
	count map[job.ID]int
}

func (c *changes) note(user string, id job.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == nil {
		c.users, c.count = map[job.ID]string{}, map[job.ID]int{}
	}
	c.users[id] = user
	c.count[id]++
}

func (c *changes) of(id job.ID) (user string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.users[id], c.count[id]
}

func TestMetricsAreWellNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.config()
	relay.New(cfg)
	problems := must(testutil.GatherAndLint(cfg.Metrics.(*prometheus.Registry)))(t)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	r.create()
	if n := counter(t, cfg, "steno_outbox_commands", "lane", "queue"); n != 1 {
		t.Errorf("backlog %v", n)
	}
	if n := counter(t, cfg, "steno_outbox_oldest_command_age_seconds", "lane", "queue"); n <= 0 {
		t.Errorf("age %v", n)
	}
}
