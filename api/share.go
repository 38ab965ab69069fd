package api

import "sync"

// shares bounds what one caller may hold of places that all have together, so that one alone, who is slow by intent, cannot keep
// everybody else out. Safe for concurrent use.
type shares struct {
	most int
	mu   sync.Mutex
	of   map[string]*share // of those who hold or wait for a place
}

type share struct {
	places chan struct{}
	users  int // of the entry: it goes with the last
}

// newShares leaves each caller three quarters of n places.
func newShares(n int) *shares {
	return &shares{most: (n*3 + 3) / 4, of: map[string]*share{}}
}

// enter takes a place of the caller's. Where all are taken it waits for one until done, which may be nil for not at all.
func (s *shares) enter(caller string, done <-chan struct{}) (leave func(), ok bool) {
	s.mu.Lock()
	h := s.of[caller]
	if h == nil {
		h = &share{places: make(chan struct{}, s.most)}
		s.of[caller] = h
	}
	h.users++
	s.mu.Unlock()
	forget := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(s.of, caller)
		}
	}
	leave = func() {
		<-h.places
		forget()
	}
	select {
	case h.places <- struct{}{}:
		return leave, true
	default:
	}
	if done != nil {
		select {
		case h.places <- struct{}{}:
			return leave, true
		case <-done:
		}
	}
	forget()
	return nil, false
}

// caller is whom shares count: the user, or where nobody has logged in the address.
func (q *request) caller() string {
	if q.user.ID != "" {
		return "user " + q.user.ID
	}
	return "address " + q.address
}
