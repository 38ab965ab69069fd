//go:build cgo

package whisper

/*
#include "team.h"
*/
import "C"

import (
	"errors"
	"runtime"
	"slices"
	"sync"
)

// teams decode windows side by side, each team on a thread of its own (team.h). It is safe for concurrent use.
type teams struct {
	all []*team

	mu   sync.Mutex
	busy []int // windows by team
}

// team is one thread. Its goroutine alone touches it, but for requests and the nudge.
type team struct {
	c        *C.steno_team
	requests chan *windowRun
	places   []*windowRun // what runs in each place, nil where it is free
	running  int
}

// windowRun is a window for a team: that of a state.
type windowRun struct {
	s    *state
	rc   C.int
	done chan struct{}
}

// newTeams makes count teams of size windows each.
func newTeams(count, size int) (*teams, error) {
	t := &teams{busy: make([]int, count)}
	for range count {
		c := C.steno_team_new(C.int(size))
		if c == nil {
			t.close()
			return nil, errors.New("out of memory for decode stacks")
		}
		one := &team{c: c, requests: make(chan *windowRun, size), places: make([]*windowRun, size)}
		t.all = append(t.all, one)
		go one.run()
	}
	return t, nil
}

// close ends the threads; no window may be under way.
func (t *teams) close() {
	for _, one := range t.all {
		close(one.requests)
	}
}

// run decodes the window of s on the team that has the fewest, and returns the library's result.
func (t *teams) run(s *state) int {
	i := t.join()
	defer t.leave(i)
	r := &windowRun{s: s, done: make(chan struct{})}
	t.all[i].requests <- r
	C.steno_team_nudge(t.all[i].c)
	<-r.done
	return int(r.rc)
}

func (t *teams) join() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.busy, slices.Min(t.busy))
	t.busy[i]++
	return i
}

func (t *teams) leave(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy[i]--
}

// run is the team's thread: stacks must not move to another, since the library keeps things by thread.
func (t *team) run() {
	runtime.LockOSThread()
	defer C.steno_team_free(t.c)
	for {
		if t.running == 0 {
			r, ok := <-t.requests
			if !ok {
				return
			}
			t.start(r)
		}
		for t.running < len(t.places) && len(t.requests) > 0 {
			t.start(<-t.requests)
		}
		C.steno_team_run(t.c)
		t.finish()
	}
}

// start takes a free place; there is one.
func (t *team) start(r *windowRun) {
	i := slices.Index(t.places, nil)
	t.places[i] = r
	t.running++
	C.steno_team_start(t.c, C.int(i), r.s.m.ctx, r.s.c, r.s.window, r.s.flag)
}

func (t *team) finish() {
	for i, p := range t.places {
		if p != nil && bool(C.steno_team_ended(t.c, C.int(i), &p.rc)) {
			t.places[i] = nil
			t.running--
			close(p.done)
		}
	}
}
