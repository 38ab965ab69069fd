package relay

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"steno/job"
	"steno/store"
	"steno/transcript"
)

// Status is what the queue says of a job.
type Status struct {
	Job   job.Job
	State job.State
	// Claims counts how often a worker took the job, and never falls; Version grows with each change.
	Claims   int
	Version  uint64
	Progress job.Progress
	Error    *job.Error
	Started  time.Time // of the last attempt
	Finished time.Time // of a terminal state
	Recorded time.Time // when Jobs.Recorded was called for it; zero before
	Retried  bool      // it had failed, and an operator has had it tried again
}

// Commands is what the queue carries out. Each call may come again, and must then do no harm. Errors of class INPUT say that it
// will never be possible; all others are taken as passing.
type Commands interface {
	// Submit puts a job on the queue. To submit its id again is no error, whatever has become of the job.
	Submit(ctx context.Context, j job.Job) error
	// Cancel ends a job. The code of its error is JOB_ENDED for one that has ended, JOB_NOT_FOUND for one that is not there and so
	// will not run.
	Cancel(ctx context.Context, id job.ID) error
	// Forget erases all of a job. That it is not there is no error.
	Forget(ctx context.Context, id job.ID) error
	// DeleteAudio removes an object that no file names any more. That it is not there is no error.
	DeleteAudio(ctx context.Context, object string) error
}

// Jobs is what the queue reports.
type Jobs interface {
	// WatchAll sends the status of each job now, after each change, and again after each reconnect, until ctx ends; it closes the
	// channel then. It may skip states, but not the last.
	WatchAll(ctx context.Context) (<-chan Status, error)
	// Status returns one job. The code of the error is JOB_NOT_FOUND where the queue has no such job.
	Status(ctx context.Context, id job.ID) (Status, error)
	// Result returns the transcript of a job that is done. The code of the error is JOB_NOT_FOUND or RESULT_GONE where there is none
	// any more.
	Result(ctx context.Context, id job.ID) (transcript.Transcript, error)
	// Recorded says that the end of the job, which came at the time finished, is in the record, so that the queue need not keep it.
	// Of another end it must not be taken.
	Recorded(ctx context.Context, id job.ID, finished time.Time) error
}

// Queue is both sides of the queue.
type Queue interface {
	Commands
	Jobs
}

// Outbox is the part of store.Store that holds commands.
type Outbox interface {
	Claim(ctx context.Context, lane store.Lane, n int, lease time.Duration) ([]store.Command, error)
	Complete(ctx context.Context, id int64) error
	RetryAfter(ctx context.Context, cmd store.Command, pause time.Duration, cause error) error
	Backlog(ctx context.Context, lane store.Lane) (n int, age time.Duration, err error)
}

// Record is the part of store.Store that holds tasks.
type Record interface {
	Apply(ctx context.Context, u store.Update) (store.Effect, error)
	AnyTask(ctx context.Context, id job.ID) (store.Task, error)
	OpenTasks(ctx context.Context, before time.Time, after *store.Task, limit int) ([]store.OpenTask, error)
	Republish(ctx context.Context, id job.ID) (bool, error)
}

// Store is both sides of the record; *store.Store is one.
type Store interface {
	Outbox
	Record
}

// Config says what a Relay connects. Store and Queue are required; the zero value of another field means its default.
type Config struct {
	Store Store
	Queue Queue
	// OnChange is called after each change of a task that this relay has seen, its own or that of another gateway; twice for one
	// change now and then. It is called by several goroutines at once and must return soon.
	OnChange func(user string, task job.ID)
	// Webhooks says how users' servers are called.
	Webhooks WebhookConfig
	// Tick is how often the outbox is looked at without a Notify, for what other gateways and dead ones have left. Default 1 s.
	Tick time.Duration
	// Slots is the most commands that are carried out at the same time, and as many webhooks. Default 16.
	Slots int
	// Lease is how long a claimed command is held. One whose holder has died is carried out by another after it. Default 15 s.
	Lease time.Duration
	// RetryCap is the longest pause before a command that has failed is tried again; the first is a second, and each twice the one
	// before. Default 30 s.
	RetryCap time.Duration
	// Recorders is the number of tasks that are recorded at the same time; each may hold a transcript in memory. Default 4.
	Recorders int
	// ReconcileEvery is the time between two comparisons. Default 30 s.
	ReconcileEvery time.Duration
	// Grace is the age below which the reconciler leaves tasks alone. Default 30 s.
	Grace time.Duration
	// Log receives what went wrong and what was put right. Default: nothing.
	Log *slog.Logger
	// Metrics gets the relay's series. Default: counted but not shown.
	Metrics prometheus.Registerer
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// WithDefaults returns c with every empty field set to its documented default.
func (c Config) WithDefaults() Config {
	c.Tick = or(c.Tick, time.Second)
	c.Slots = or(c.Slots, 16)
	c.Lease = or(c.Lease, 15*time.Second)
	c.RetryCap = or(c.RetryCap, 30*time.Second)
	c.Recorders = or(c.Recorders, 4)
	c.ReconcileEvery = or(c.ReconcileEvery, 30*time.Second)
	c.Grace = or(c.Grace, 30*time.Second)
	c.Log = or(c.Log, slog.New(slog.DiscardHandler))
	if c.OnChange == nil {
		c.OnChange = func(string, job.ID) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Webhooks = c.Webhooks.withDefaults()
	return c
}

// or returns v, or d where v is the zero value.
func or[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// Relay connects a record with a queue. It is safe for concurrent use, and any number of relays may work on the same two at once.
type Relay struct {
	publisher, webhooks *lane
	recorder            *recorder
	reconciler          *reconciler
}

// New makes a relay; Run starts it.
func New(cfg Config) *Relay {
	cfg = cfg.WithDefaults()
	m := newMetrics(cfg)
	webhooks := newWebhooks(cfg, m)
	rec := newRecorder(cfg, m, webhooks.notify)
	pub := newPublisher(cfg, m, rec)
	return &Relay{
		publisher: pub, webhooks: webhooks, recorder: rec,
		reconciler: &reconciler{cfg: cfg, metrics: m, recorder: rec, published: pub.notify},
	}
}

// Run works until ctx ends, and returns nil when all has stopped, within seconds. While the database or the queue is away it
// tries again, ever more slowly. Call it once.
func (r *Relay) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, loop := range []func(context.Context){r.publisher.run, r.webhooks.run, r.recorder.run, r.reconciler.run} {
		all.Go(func() { loop(ctx) })
	}
	all.Wait()
	return nil
}

// Notify says that commands were committed to the outbox; they are carried out at once. It does not block.
func (r *Relay) Notify() {
	r.publisher.notify()
	r.webhooks.notify()
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
