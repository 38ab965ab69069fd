package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"steno/job"
	"steno/store"
	"steno/transcript"
)

// Bounds of what is held of a task's events.
const (
	linger    = 30 * time.Second // after the last who followed has gone: they may come back
	keptParts = 2000             // events with segments
	recordGap = 2 * time.Second  // between two looks at the record, for what other gateways have written
)

// event is one line of a task's story.
type event struct {
	n    uint64 // grows by one
	name string
	data []byte
}

const (
	eventStatus   = "status"
	eventSegments = "segments"
	eventDeleted  = "deleted"
)

// hubs has a hub for each task that somebody follows. It is safe for concurrent use.
type hubs struct {
	s       *Server
	running sync.WaitGroup

	mu      sync.Mutex
	open    map[job.ID]*hub
	streams int
	byUser  map[string]int
	closed  bool
}

func newHubs(s *Server) *hubs { return &hubs{s: s, open: map[job.ID]*hub{}, byUser: map[string]int{}} }

// hub turns the record's and the queue's news of one task into events, for all who follow it. The record decides: an end is told
// when the record has it, so that whoever asks then finds it. What the queue tells sooner is progress and parts of the text.
type hub struct {
	owner *hubs
	task  job.ID
	epoch string        // tells ids of this hub from those of an earlier one
	poke  chan struct{} // the record has changed
	stop  context.CancelFunc

	// Owned by run.
	now   store.Task
	shown taskBody

	mu    sync.Mutex
	log   []event // by n; of status events only the last
	parts int     // segment events in log
	next  uint64
	ended bool
	more  chan struct{} // closed at each change

	holders int         // guarded by owner.mu
	idle    *time.Timer // guarded by owner.mu; runs while there is no holder
}

// enter counts a stream of a user. Leave must be called once.
func (h *hubs) enter(user string) (leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.count(user); err != nil {
		return nil, err
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.uncount(user)
	}, nil
}

// count notes a stream of a user, if there may be one more; the caller holds the lock.
func (h *hubs) count(user string) error {
	switch {
	case h.closed:
		return newProblem(http.StatusServiceUnavailable, "STOPPING", "the service is stopping: try again in a moment").
			with("Retry-After", "2")
	case h.streams >= h.s.cfg.Subscribers:
		h.s.metrics.limited.WithLabelValues("subscribers").Inc()
		return newProblem(http.StatusServiceUnavailable, "BUSY", "too many streams are open: try again in a moment").
			with("Retry-After", "5")
	case h.byUser[user] >= h.s.cfg.UserSubscribers:
		return h.s.tooMany("user_subscribers", 5*time.Second)
	}
	h.streams++
	h.byUser[user]++
	h.s.metrics.subscribers.Inc()
	return nil
}

func (h *hubs) uncount(user string) {
	h.s.metrics.subscribers.Dec()
	h.streams--
	if h.byUser[user]--; h.byUser[user] == 0 {
		delete(h.byUser, user)
	}
}

// follow enters somebody who follows a task. Leave must be called once.
func (h *hubs) follow(t store.Task) (_ *hub, leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.count(t.User); err != nil {
		return nil, nil, err
	}
	one := h.open[t.ID]
	if one != nil && one.over() && !t.Status.Terminal() { // it had failed, and is tried again
		if one.idle != nil {
			one.idle.Stop()
		}
		one = nil
	}
	if one == nil {
		one = h.start(t)
	}
	if one.idle != nil {
		one.idle.Stop()
		one.idle = nil
	}
	one.holders++
	return one, sync.OnceFunc(func() { h.leave(one, t.User) }), nil
}

// start makes a hub and runs it; the caller holds the lock.
func (h *hubs) start(t store.Task) *hub {
	ctx, stop := context.WithCancel(context.Background())
	one := &hub{
		owner: h, task: t.ID, epoch: strconv.FormatUint(rand.Uint64(), 36),
		poke: make(chan struct{}, 1), stop: stop, more: make(chan struct{}), next: 1,
	}
	h.open[t.ID] = one
	h.running.Go(func() { one.run(ctx) })
	return one
}

func (h *hubs) leave(one *hub, user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uncount(user)
	if one.holders--; one.holders == 0 && !h.closed {
		one.idle = time.AfterFunc(linger, func() { h.drop(one) })
	}
}

// drop ends a hub that nobody came back to.
func (h *hubs) drop(one *hub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if one.holders == 0 && h.open[one.task] == one {
		delete(h.open, one.task)
		one.stop()
	}
}

// changed says that a task has changed in the record.
func (h *hubs) changed(id job.ID) {
	h.mu.Lock()
	one := h.open[id]
	h.mu.Unlock()
	if one != nil {
		select {
		case one.poke <- struct{}{}:
		default: // it has been told and has not looked yet
		}
	}
}

// close ends all hubs and waits for them.
func (h *hubs) close() {
	h.mu.Lock()
	h.closed = true
	for _, one := range h.open {
		one.stop()
		if one.idle != nil {
			one.idle.Stop()
		}
	}
	h.mu.Unlock()
	h.running.Wait()
}

// run follows the task until it ends.
func (h *hub) run(ctx context.Context) {
	defer h.stop()
	look := time.NewTicker(recordGap)
	defer look.Stop()
	h.read(ctx)
	news := h.watch(ctx)
	for !h.over() {
		select {
		case n, ok := <-news:
			if !ok {
				news = nil // it is opened again at the next look
				h.read(ctx)
				continue
			}
			h.live(n)
		case <-h.poke:
			h.read(ctx)
			if news == nil {
				news = h.watch(ctx)
			}
		case <-look.C:
			h.read(ctx)
			if news == nil {
				news = h.watch(ctx)
			}
		case <-ctx.Done():
			h.end()
			return
		}
	}
}

// watch asks the queue for news. It is nil where the queue does not know the job, yet or any more: the record tells then.
func (h *hub) watch(ctx context.Context) <-chan News {
	if h.over() {
		return nil
	}
	news, err := h.owner.s.cfg.Live.Watch(ctx, h.task)
	if err != nil {
		if codeOf(err) != "JOB_NOT_FOUND" && ctx.Err() == nil {
			h.owner.s.cfg.Log.WarnContext(ctx, "follow a job", "task", h.task, "error", err)
		}
		return nil
	}
	return news
}

// read looks at the record.
func (h *hub) read(ctx context.Context) {
	t, err := h.owner.s.cfg.Store.AnyTask(ctx, h.task)
	switch {
	case errors.Is(err, store.ErrNotFound):
		h.add(eventDeleted, map[string]job.ID{"task_id": h.task})
		h.end()
		return
	case err != nil:
		if ctx.Err() == nil {
			h.owner.s.cfg.Log.WarnContext(ctx, "read a task that is followed", "task", h.task, "error", err)
		}
		return
	case t.Status.Terminal():
		h.owner.s.drop(taskTag(t.User, t.ID), historyTag(t.User)) // the relay may not have told us yet
		h.add(string(t.Status), bodyOf(t))
		h.end()
		return
	}
	if t.Status == h.now.Status && t.Attempt == h.now.Attempt {
		t.Progress = max(t.Progress, h.now.Progress) // the queue has told of more
		if t.Progress > 0 && h.now.Stage != "" {
			t.Stage = h.now.Stage
		}
	}
	h.show(t)
}

// live takes what the queue tells. Ends are left to the record.
func (h *hub) live(n News) {
	if n.State == job.Running && n.Attempt >= h.now.Attempt && h.now.ID != "" {
		t := h.now
		if t.Attempt != n.Attempt || t.Status != job.Running {
			t.Progress = 0
		}
		t.Status, t.Attempt, t.Stage = n.State, n.Attempt, n.Progress.Stage
		t.Progress = max(t.Progress, n.Progress.Fraction())
		h.show(t)
	}
	if len(n.Segments) > 0 {
		h.add(eventSegments, struct {
			Segments []transcript.Segment `json:"segments"`
		}{n.Segments})
	}
}

// show tells of the task where those who follow it would see a difference.
func (h *hub) show(t store.Task) {
	h.now = t
	body := bodyOf(t)
	if h.shown.looksLike(body) {
		return
	}
	h.shown = body
	h.add(eventStatus, body)
}

// add appends an event. Of what is superseded, and of parts beyond the bound, the oldest goes.
func (h *hub) add(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		h.owner.s.cfg.Log.Error("encode an event", "task", h.task, "error", err)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	over := name == eventSegments && h.parts >= keptParts
	h.log = slices.DeleteFunc(h.log, func(e event) bool {
		if over && e.name == eventSegments {
			over = false
			h.parts--
			return true
		}
		return e.name == eventStatus && name != eventSegments
	})
	if name == eventSegments {
		h.parts++
	}
	h.log = append(h.log, event{h.next, name, data})
	h.next++
	h.wake()
}

// wake lets those who wait look again; the caller holds the lock.
func (h *hub) wake() {
	close(h.more)
	h.more = make(chan struct{})
}

func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.wake()
}

func (h *hub) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

// since returns the events after number n, a channel that is closed when there are more, and whether there will be none.
func (h *hub) since(n uint64) (list []event, more <-chan struct{}, ended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, found := slices.BinarySearchFunc(h.log, n, func(e event, n uint64) int { return cmp.Compare(e.n, n) })
	if found {
		i++
	}
	return slices.Clone(h.log[i:]), h.more, h.ended
}

// position is the number of the event with this id; 0 for an id of another hub, so that all is told again.
func (h *hub) position(id string) uint64 {
	epoch, text, _ := strings.Cut(id, ".")
	n, err := strconv.ParseUint(text, 36, 63)
	if epoch != h.epoch || err != nil {
		return 0
	}
	return n
}

func (h *hub) id(e event) string { return h.epoch + "." + strconv.FormatUint(e.n, 36) }
