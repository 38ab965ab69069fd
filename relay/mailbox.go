package relay

import (
	"context"
	"sync"
	"time"

	"steno/job"
)

// mailbox holds the latest status of each job that is to be recorded: a newer one takes the place of an older one, and no job is
// given out twice at the same time. It is bounded by the number of jobs that the queue holds. It is safe for concurrent use.
type mailbox struct {
	mu      sync.Mutex
	more    *sync.Cond
	letters map[job.ID]*letter
	order   []job.ID // that are to be given out
	closed  bool
}

type letter struct {
	status Status
	tries  int  // failures so far
	held   bool // somebody has it, or it waits for another try
	newer  bool // status has come while it was held
}

func newMailbox() *mailbox {
	b := &mailbox{letters: map[job.ID]*letter{}}
	b.more = sync.NewCond(&b.mu)
	return b
}

// put adds a status, unless a newer one of the same job is there.
func (b *mailbox) put(s Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.letters[s.Job.ID]
	switch {
	case l == nil:
		b.letters[s.Job.ID] = &letter{status: s}
		b.give(s.Job.ID)
	case s.Version > l.status.Version:
		l.status, l.newer = s, l.held
	}
}

// give puts a job into the order; the caller holds the lock.
func (b *mailbox) give(id job.ID) {
	b.order = append(b.order, id)
	b.more.Signal()
}

// next returns the status that has waited longest, and how often it has failed. It returns false when the box was closed.
func (b *mailbox) next() (s Status, tries int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.order) == 0 && !b.closed {
		b.more.Wait()
	}
	if b.closed {
		return Status{}, 0, false
	}
	l := b.letters[b.order[0]]
	b.order = b.order[1:]
	l.held, l.newer = true, false
	return l.status, l.tries, true
}

// done gives a status back that next returned. Where again is not 0 it comes once more after that time, or a newer one instead.
func (b *mailbox) done(id job.ID, again time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.letters[id]
	switch {
	case again > 0:
		l.tries++
		time.AfterFunc(again, func() { b.release(id) })
	case l.newer:
		l.held, l.tries = false, 0
		b.give(id)
	default:
		delete(b.letters, id)
	}
}

// release ends the wait of a status that has failed.
func (b *mailbox) release(id job.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.letters[id].held = false
	b.give(id)
}

// closeWith closes the box when ctx ends. The returned function must be called at the end.
func (b *mailbox) closeWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.closed = true
		b.more.Broadcast()
	})
}

func (b *mailbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.letters)
}
