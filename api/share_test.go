package api

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// One caller gets three quarters of the places and no more; the others' stay free, and nothing is left of callers who have gone.
func TestShares(t *testing.T) {
	t.Parallel()
	for n, most := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 16: 12, 512: 384} {
		s := newShares(n)
		var leaves []func()
		for range n {
			if leave, ok := s.enter("ada", nil); ok {
				leaves = append(leaves, leave)
			}
		}
		eve, ok := s.enter("eve", nil)
		if len(leaves) != most || !ok {
			t.Errorf("of %d places ada has %d, want %d; eve has one: %v", n, len(leaves), most, ok)
			continue
		}
		leaves[0]()
		again, ok := s.enter("ada", nil)
		if !ok {
			t.Errorf("of %d places none is free again", n)
			continue
		}
		for _, leave := range append(leaves[1:], again, eve) {
			leave()
		}
		if len(s.of) != 0 {
			t.Errorf("callers who have gone are kept: %v", s.of)
		}
	}
}

// Who waits gets the place of one who leaves, or nothing after the wait.
func TestSharesWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShares(1)
		first, _ := s.enter("ada", nil)
		done := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(done) })
		if _, ok := s.enter("ada", done); ok {
			t.Error("two have the one place")
		}
		time.AfterFunc(time.Second, first)
		second, ok := s.enter("ada", make(chan struct{}))
		if !ok {
			t.Fatal("a place that is free again is not given")
		}
		second()
		var now, most atomic.Int32
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				leave, _ := s.enter("ada", make(chan struct{}))
				for n := now.Add(1); n > most.Load(); {
					most.Store(n)
				}
				time.Sleep(time.Millisecond)
				now.Add(-1)
				leave()
			})
		}
		all.Wait()
		if most.Load() != 1 || len(s.of) != 0 {
			t.Errorf("%d had the one place at once, %d callers are kept", most.Load(), len(s.of))
		}
	})
}
