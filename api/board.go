package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"steno/job"
	"steno/store"
)

// Bounds of what is told of all of a user's tasks.
const (
	boardTasks = store.MaxLimit  // open tasks that are followed, the newest
	boardGap   = time.Second     // between two looks while something is open
	boardRest  = 5 * time.Second // while nothing is, where nobody says that something has changed
)

const eventTasks = "tasks"

// boards wakes those who follow all of a user's tasks. It is safe for concurrent use.
type boards struct {
	mu   sync.Mutex
	open map[string]map[chan struct{}]struct{} // by user
}

func newBoards() *boards { return &boards{open: map[string]map[chan struct{}]struct{}{}} }

// enter returns a channel that gets a value when a task of the user has changed. Leave must be called once.
func (b *boards) enter(user string) (poke chan struct{}, leave func()) {
	poke = make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open[user] == nil {
		b.open[user] = map[chan struct{}]struct{}{}
	}
	b.open[user][poke] = struct{}{}
	return poke, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if delete(b.open[user], poke); len(b.open[user]) == 0 {
			delete(b.open, user)
		}
	}
}

func (b *boards) changed(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for poke := range b.open[user] {
		select {
		case poke <- struct{}{}:
		default: // it has been told and has not looked yet
		}
	}
}

// board is what one who follows all tasks has been told of those that are open.
type board struct {
	s     *Server
	user  string
	shown map[job.ID]taskBody
}

// look reads the record and returns the tasks that have changed since the last look, those that have ended among them, and
// whether any is open.
func (b *board) look(r *http.Request) (changed []taskBody, open bool, err error) {
	changed = []taskBody{} // in JSON no list is null
	now := map[job.ID]taskBody{}
	for _, state := range []job.State{job.Queued, job.Running} { // in this order, so that none is missed on its way
		tasks, _, err := b.s.cfg.Store.History(r.Context(), b.user, store.Filter{Status: state}, "", boardTasks)
		if err != nil {
			return nil, false, err
		}
		for _, t := range tasks {
			now[t.ID] = bodyOf(t)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if last, known := b.shown[id]; !known || !last.looksLike(now[id]) {
			changed = append(changed, now[id])
		}
	}
	for id := range b.shown {
		if _, open := now[id]; open {
			continue
		}
		t, err := b.s.cfg.Store.Task(r.Context(), b.user, id)
		if codeOf(err) == "TASK_NOT_FOUND" { // deleted; histories show it no more
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if body := bodyOf(t); t.Status.Terminal() || !b.shown[id].looksLike(body) {
			changed = append(changed, body)
		}
		if !t.Status.Terminal() { // there are more than are followed
			now[id] = bodyOf(t)
		}
	}
	b.shown = now
	return changed, len(now) > 0, nil
}

// looksLike reports whether somebody would see no difference.
func (b taskBody) looksLike(other taskBody) bool {
	return b.Status == other.Status && b.Stage == other.Stage && b.Attempt == other.Attempt &&
		b.Cancelling == other.Cancelling && b.Progress == other.Progress
}

// followAll tells of all of the caller's open tasks, for as long as the client stays: browsers have few connections, so one
// stream has to do for many tasks.
func (s *Server) followAll(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodHead {
		newStream(w) // without a body there is nothing to stay for
		return nil
	}
	user := userOf(r.Context())
	endStream, err := s.hubs.enter(user)
	if err != nil {
		return err
	}
	defer endStream()
	poke, leaveBoard := s.boards.enter(user)
	defer leaveBoard()
	b := &board{s: s, user: user}
	changed, open, err := b.look(r)
	if err != nil {
		return err
	}
	out := newStream(w)
	said := time.Now()
	for first := true; ; first = false {
		switch {
		case len(changed) > 0 || first:
			data, err := json.Marshal(struct {
				Tasks []taskBody `json:"tasks"`
			}{changed})
			if err != nil {
				return err
			}
			if err := out.event("", eventTasks, data); err != nil {
				return nil // the client has gone
			}
			said = time.Now()
		case time.Since(said) > s.cfg.Heartbeat:
			if err := out.comment("alive"); err != nil {
				return nil // the client has gone
			}
			said = time.Now()
		}
		rest := boardRest
		if open {
			rest = boardGap
		}
		if !s.pause(r, poke, rest) {
			return nil
		}
		if changed, open, err = b.look(r); err != nil {
			s.cfg.Log.WarnContext(r.Context(), "look at the open tasks", "request", requestOf(r.Context()).id, "error", err)
			return nil // clients come back by themselves
		}
	}
}

// pause waits for a time, or for a sign that something has changed, and reports whether the stream goes on.
func (s *Server) pause(r *http.Request, poke <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-poke:
	case <-r.Context().Done():
		return false
	case <-s.draining.Done():
		return false
	}
	return true
}

func (s *Server) boardRoutes() {
	s.plain(route{
		method: http.MethodGet, path: prefix + "/user/events", id: "follow-tasks", tag: "tasks", stream: true,
		summary: "Follow all open tasks of the caller as server-sent events",
		description: "Each event `tasks` has those that have changed: at first all that are open, later those that were added, went " +
			"on or ended. It goes on until the client leaves.",
		done: map[int]*huma.Response{http.StatusOK: bytesOf("events", eventType)},
	}, s.followAll)
}
