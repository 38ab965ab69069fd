package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
	"steno/transcript"
)

// Handler does the work of one attempt. It must return soon after ctx ends; context.Cause says why it did. The class of the
// error decides what follows: see docs/QUEUE.md. A panic counts as an error of class INTERNAL.
type Handler func(ctx context.Context, d *Delivery) (transcript.Transcript, error)

// WorkerConfig says how much a worker takes and how long it waits. All workers of one queue should agree on AckWait.
type WorkerConfig struct {
	// Slots is the number of jobs that run at the same time, which is also all that is taken from the queue. Default 1.
	Slots int
	// Pools to take jobs from, in this order. Default DefaultPool.
	Pools []string
	// Name is shown as the job's worker. Default host:process.
	Name string
	// AckWait is how long a worker may be silent before its jobs go to others. Default 30 s.
	AckWait time.Duration
	// HeartbeatEvery is how often leases are renewed. Default AckWait/3.
	HeartbeatEvery time.Duration
	// StallAfter is how long a handler may report no progress before it counts as hung. Default 5 min: a large model may take
	// minutes to load from a slow disk.
	StallAfter time.Duration
	// MaxAttempts is how often a job is tried that fails. Default 3.
	MaxAttempts int
	// MaxDeaths is how many workers in a row may die or hang while they have a job, and it gets no further than before, until it
	// counts as what kills them and fails. Default 5.
	MaxDeaths int
	// RetryBase is the pause after the first failure; it doubles up to RetryCap. Defaults 5 s and 60 s.
	RetryBase, RetryCap time.Duration
	// DrainTimeout is how long Work takes to return after its context ended: handlers may finish for three quarters of it, and
	// are cancelled then. Default 30 s.
	DrainTimeout time.Duration
	// PollEvery is how often an idle worker looks for jobs that came without a notice: retries, jobs of dead workers. Default 1 s.
	PollEvery time.Duration
	// Ready, if set, is asked before each job is taken; an error, such as a full disk, leaves jobs to others for now.
	Ready func(context.Context) error
	// Describe, if set, is asked with each heartbeat for what Nodes shows of this worker besides; it goes through encoding/json.
	Describe func() any
	// Manage, if set, carries out what Queue.Order asks of this worker. It begins what takes long, and returns within seconds. It is
	// called for one order at a time.
	Manage func(ctx context.Context, o Order) error
	// Warm, if set, tells whether a job for a model, named as in its parameters, need not wait for the model here. A job that would
	// have to is left to another worker that need not and has a slot to spare.
	Warm func(model string) bool
	// WarmWithin is how long such a worker has to answer. Default 50 ms.
	WarmWithin time.Duration
	// Helper, if set, decodes chunks of other workers' jobs while this one has nothing better to do.
	Helper *Helper
	// NoMaintenance leaves Reconcile and Sweep to others. By default all workers share them, and one at a time does them.
	NoMaintenance bool
}

// WithDefaults returns c with every empty field set to its documented default.
func (c WorkerConfig) WithDefaults() WorkerConfig {
	c.Slots = or(c.Slots, 1)
	if len(c.Pools) == 0 {
		c.Pools = []string{DefaultPool}
	}
	if c.Name == "" {
		host, _ := os.Hostname() // an empty name is as good as none
		c.Name = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	c.AckWait = or(c.AckWait, 30*time.Second)
	c.HeartbeatEvery = or(c.HeartbeatEvery, c.AckWait/3)
	c.StallAfter = or(c.StallAfter, 5*time.Minute)
	c.MaxAttempts = or(c.MaxAttempts, 3)
	c.MaxDeaths = or(c.MaxDeaths, 5)
	c.RetryBase = or(c.RetryBase, 5*time.Second)
	c.RetryCap = or(c.RetryCap, time.Minute)
	c.DrainTimeout = or(c.DrainTimeout, 30*time.Second)
	c.PollEvery = or(c.PollEvery, time.Second)
	c.WarmWithin = or(c.WarmWithin, 50*time.Millisecond)
	return c
}

func (c WorkerConfig) validate() error {
	switch {
	case c.Slots < 1:
		return fmt.Errorf("worker config: Slots is %d: at least 1 is needed", c.Slots)
	case c.MaxAttempts < 1 || c.MaxDeaths < 1:
		return fmt.Errorf("worker config: MaxAttempts is %d and MaxDeaths %d: at least 1 is needed", c.MaxAttempts, c.MaxDeaths)
	case c.HeartbeatEvery <= 0 || c.HeartbeatEvery > c.AckWait/2:
		return fmt.Errorf("worker config: HeartbeatEvery is %s: choose at most half of AckWait, %s", c.HeartbeatEvery, c.AckWait)
	case c.RetryBase <= 0 || c.RetryCap < c.RetryBase:
		return fmt.Errorf("worker config: RetryBase is %s and RetryCap %s: both must be positive, in this order",
			c.RetryBase, c.RetryCap)
	case c.StallAfter <= 0 || c.DrainTimeout <= 0 || c.PollEvery <= 0:
		return errors.New("worker config: a time is negative")
	}
	for _, p := range c.Pools {
		if !poolName.MatchString(p) {
			return fmt.Errorf("worker config: %q is no pool name: use lower-case letters, digits and dashes", p)
		}
	}
	return nil
}

// Work runs jobs with h until ctx ends or Drain names this worker, then drains: nothing new is taken, what runs may finish for
// three quarters of DrainTimeout, and the rest is cancelled and handed back without having spent an attempt. It returns nil after
// a drain, and an error when the worker could not begin or when handlers did not return in time (their jobs are handed back all
// the same).
func (q *Queue) Work(ctx context.Context, cfg WorkerConfig, h Handler) error {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx) // by Drain
	defer stop()
	w := &worker{
		q: q, cfg: cfg, handler: h, stop: ctx, drained: stop,
		slots: make(chan struct{}, cfg.Slots), wake: make(chan struct{}, 1), ordered: make(chan struct{}, 1),
		running: map[job.ID]*Delivery{},
	}
	defer w.close()
	if err := w.open(ctx); ctx.Err() != nil {
		return nil // stopped before it had begun: there is nothing to drain
	} else if err != nil {
		return unreachable("start the worker", err)
	}
	defer w.announce()()
	q.metrics.slots.Add(float64(cfg.Slots))
	defer q.metrics.slots.Sub(float64(cfg.Slots))
	if !cfg.NoMaintenance {
		maintained := make(chan struct{})
		go func() {
			defer close(maintained)
			q.Maintain(ctx)
		}()
		defer func() { <-maintained }()
	}
	// What the handlers see: it outlives ctx until the drain says otherwise.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	helped := make(chan struct{})
	go func() {
		defer close(helped)
		if w.helping != nil {
			w.helping.loop(ctx, work)
		}
	}()
	w.loop(ctx, work)
	<-helped
	return w.drain(cancel)
}

type worker struct {
	q       *Queue
	cfg     WorkerConfig
	handler Handler
	stop    context.Context // ends when the worker is to stop
	drained func()          // stops it

	helping *helping // nil where it helps nobody
	sources []line   // in the order in which they are asked
	taken   int      // messages so far; of next alone
	subs    []*nats.Subscription
	slots   chan struct{} // holds one token per job that runs
	wake    chan struct{}
	ordered chan struct{} // an order was begun
	jobs    sync.WaitGroup

	mu      sync.Mutex
	running map[job.ID]*Delivery
	suspect job.ID    // the one suspect that runs, or is claimed
	waits   bool      // takes no jobs, for it is not ready
	rest    time.Time // takes none before then, for it has left one to another
}

// line is where jobs of a pool and priority wait: those of users who have few, and those of users who have many.
type line [2]jetstream.Consumer

// bulkEvery is how often the second comes first, so that it is never without a share.
const bulkEvery = 4

// reserve gives the suspect's place to a job, if nobody has it.
func (w *worker) reserve(id job.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suspect != "" {
		return false
	}
	w.suspect = id
	return true
}

// release frees the suspect's place, if the job has it.
func (w *worker) release(id job.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.suspect == id {
		w.suspect = ""
	}
}

func (w *worker) stopping() bool { return w.stop.Err() != nil }

// farBackstop is the number of deliveries after which JetStream gives a message up: far beyond what our own count of attempts,
// requeues and drains allows. Reconcile buries what gets there.
const farBackstop = 200

// consumer makes the one that all workers of a pool take jobs of a line from.
func (w *worker) consumer(ctx context.Context, pool, line string) (c jetstream.Consumer, err error) {
	cfg := jetstream.ConsumerConfig{
		Durable: pool + "-" + line, FilterSubject: fmt.Sprintf("%s.%s.%s.*", subjectJobs, pool, line),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: w.cfg.AckWait, MaxDeliver: farBackstop,
		// No limit here: workers only take what they have slots for, and jobs that wait for a retry would fill it.
		MaxAckPending: -1,
		Replicas:      w.q.cfg.Replicas,
	}
	err = w.q.patiently(ctx, "no jobs can be taken yet", func(ctx context.Context) (err error) {
		c, err = w.q.js.CreateOrUpdateConsumer(ctx, streamJobs, cfg)
		return err
	})
	return c, err
}

// open makes the consumers, two per pool and priority, and listens for news.
func (w *worker) open(ctx context.Context) error {
	for _, pool := range w.cfg.Pools {
		for _, p := range priorities {
			var both line
			for i, name := range []string{p, p + bulkLine} {
				c, err := w.consumer(ctx, pool, name)
				if err != nil {
					return fmt.Errorf("open consumer %s-%s: %w", pool, name, err)
				}
				both[i] = c
			}
			w.sources = append(w.sources, both)
		}
		if err := w.listen(subjectJobs+"."+pool+".>", func(*nats.Msg) { w.nudge() }); err != nil {
			return err
		}
		if w.cfg.Warm == nil {
			continue
		}
		if err := w.listen(subjectWarm+"."+pool, w.hearWarm); err != nil {
			return err
		}
	}
	if err := w.listen(subjectNudge+"."+nodeID(w.cfg.Name), w.hearNudge); err != nil {
		return err
	}
	if err := w.listen(subjectDrain+"."+nodeID(w.cfg.Name), w.hearDrain); err != nil {
		return err
	}
	if err := w.listen(subjectModel+"."+nodeID(w.cfg.Name), w.hearOrder); err != nil {
		return err
	}
	var err error
	if w.helping, err = w.offerHelp(); err != nil {
		return err
	}
	return w.listen(subjectCancel+".*", func(m *nats.Msg) { w.look(job.ID(m.Subject[len(subjectCancel)+1:])) })
}

func (w *worker) listen(subject string, fn nats.MsgHandler) error {
	s, err := w.q.nc.Subscribe(subject, fn)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", subject, err)
	}
	w.subs = append(w.subs, s)
	return nil
}

func (w *worker) close() {
	for _, s := range w.subs {
		_ = s.Unsubscribe() // an error means that the connection has ended
	}
}

// hearDrain stops the worker because an operator said so.
func (w *worker) hearDrain(m *nats.Msg) {
	w.q.cfg.Log.Info("told to drain", "worker", w.cfg.Name)
	w.drained()
	_ = m.Respond(nil) // who asked sees the node end
}

// nudge makes an idle worker look at the queue.
func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// look makes the keeper of a running job read its record. What is done for another worker's job ends, for that was cancelled.
func (w *worker) look(id job.ID) {
	w.mu.Lock()
	d := w.running[id]
	w.mu.Unlock()
	if d != nil {
		d.look()
	}
	if w.helping != nil {
		w.helping.cancel(id)
	}
}

// loop takes one message for each free slot, until ctx ends.
func (w *worker) loop(ctx, work context.Context) {
	for {
		select {
		case w.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		msg := w.next(ctx)
		if msg == nil {
			<-w.slots
			return
		}
		w.jobs.Go(func() {
			defer func() { <-w.slots }()
			w.serve(work, msg)
		})
	}
}

// next waits for a message. It returns nil when ctx has ended.
func (w *worker) next(ctx context.Context) jetstream.Msg {
	poll := time.NewTicker(w.cfg.PollEvery)
	defer poll.Stop()
	for ctx.Err() == nil {
		if !w.rests() && w.ready(ctx) {
			if msg := w.sweep(ctx); msg != nil {
				return msg
			}
		}
		select {
		case <-w.wake:
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	return nil
}

func (w *worker) ready(ctx context.Context) bool {
	if !w.q.nc.IsConnected() {
		return false // a request would be answered when nobody waits for it any more
	}
	if w.cfg.Ready == nil {
		return true
	}
	err := w.cfg.Ready(ctx)
	w.mu.Lock()
	w.waits = err != nil
	w.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		w.q.cfg.Log.Warn("worker takes no jobs for now", "error", err)
	}
	return err == nil
}

// sweep asks the consumers in their order and takes the first message there is. A long poll would have to stand at all of
// them at once, and could bring more than there are slots.
func (w *worker) sweep(ctx context.Context) jetstream.Msg {
	for _, line := range w.sources {
		if w.taken%bulkEvery == bulkEvery-1 {
			line[0], line[1] = line[1], line[0]
		}
		for _, c := range line {
			batch, err := c.FetchNoWait(1)
			if err != nil {
				w.q.cfg.Log.Warn("look for jobs", "error", err)
				return nil
			}
			for msg := range batch.Messages() {
				if ctx.Err() != nil {
					_ = msg.Nak() // otherwise it comes back after AckWait
					return nil
				}
				w.taken++
				return msg
			}
			if err := batch.Error(); err != nil && ctx.Err() == nil {
				w.q.cfg.Log.Warn("look for jobs", "error", err)
			}
		}
	}
	return nil
}

// serve runs one message from claim to acknowledgement.
func (w *worker) serve(work context.Context, msg jetstream.Msg) {
	if w.leave(work, msg) {
		return
	}
	d := w.claim(work, msg)
	if d == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(work)
	defer cancel(nil)
	d.cancel = cancel
	d.keep()
	w.add(d)
	defer w.remove(d)
	defer w.release(d.Job.ID)
	t, err := w.call(ctx, d)
	d.finish(ctx, t, err)
}

func (w *worker) add(d *Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[d.Job.ID] = d
	w.q.metrics.inFlight.Inc()
}

func (w *worker) remove(d *Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, d.Job.ID)
	w.q.metrics.inFlight.Dec()
}

func (w *worker) call(ctx context.Context, d *Delivery) (t transcript.Transcript, err error) {
	defer func() {
		if v := recover(); v != nil {
			d.log.Error("handler panicked", "panic", v, "stack", string(debug.Stack()))
			err = job.Errorf(job.Internal, "PANIC", "a fault in steno ended the job: %v; report it with the worker's log", v)
		}
	}()
	return w.handler(ctx, d)
}

// drain lets what runs finish, then cancels it, then hands it back whether or not its handler has returned.
func (w *worker) drain(cancel context.CancelCauseFunc) error {
	done := make(chan struct{})
	go func() {
		w.jobs.Wait()
		close(done)
	}()
	deadline := time.Now().Add(w.cfg.DrainTimeout)
	if within(done, w.cfg.DrainTimeout/4*3) {
		return nil
	}
	cancel(ErrDraining)
	if within(done, time.Until(deadline)) {
		return nil
	}
	w.mu.Lock()
	left := make([]*Delivery, 0, len(w.running))
	for _, d := range w.running {
		left = append(left, d)
	}
	w.mu.Unlock()
	var ids []string
	for _, d := range left {
		ids = append(ids, string(d.Job.ID))
		ctx, stop := context.WithCancelCause(context.Background())
		stop(ErrDraining)
		d.finish(ctx, transcript.Transcript{}, ErrDraining)
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return fmt.Errorf("stop the worker: the handlers of jobs %v did not return within %s; the jobs were handed back",
		ids, w.cfg.DrainTimeout)
}

func within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}
