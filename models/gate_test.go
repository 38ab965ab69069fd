package models

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// TestGateKeepsItsRules drives a gate with random requests, releases and cancels, and checks after each that it is within its
// bound, that no slot is idle while a request could have it, and that who got one had the least claim against it.
func TestGateKeepsItsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots, burst := rapid.IntRange(1, 4).Draw(t, "slots"), rapid.IntRange(0, 2).Draw(t, "burst")
		g := NewGate(slots, burst)
		var waiting, running []*gateTicket
		held := func(flow string) (n int) {
			for _, r := range running {
				if r.flow == flow {
					n += r.width
				}
			}
			return n
		}
		// settle moves the granted tickets from waiting to running, each checked against those that stayed behind.
		settle := func() {
			for {
				best := -1
				for i, w := range waiting {
					select {
					case <-w.granted:
						if best < 0 || held(w.flow) < held(waiting[best].flow) {
							best = i
						}
					default:
					}
				}
				if best < 0 {
					return
				}
				w := waiting[best]
				for i, o := range waiting {
					if held(o.flow) < held(w.flow) || i < best && held(o.flow) == held(w.flow) && !isGranted(o) {
						t.Fatalf("%s with %d slots went before %s with %d", w.flow, held(w.flow), o.flow, held(o.flow))
					}
				}
				waiting = slices.Delete(waiting, best, best+1)
				running = append(running, w)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"request": func(t *rapid.T) {
				flow := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "flow")
				waiting = append(waiting, g.enqueue(flow, rapid.IntRange(0, 6).Draw(t, "want")))
				settle()
			},
			"release": func(t *rapid.T) {
				if len(running) == 0 {
					return // nobody runs
				}
				i := rapid.IntRange(0, len(running)-1).Draw(t, "which")
				r := running[i]
				running = slices.Delete(running, i, i+1)
				g.release(r)
				settle()
			},
			"cancel": func(t *rapid.T) {
				if len(waiting) == 0 {
					return // nobody waits
				}
				i := rapid.IntRange(0, len(waiting)-1).Draw(t, "which")
				w := waiting[i]
				waiting = slices.Delete(waiting, i, i+1)
				g.cancel(w)
				settle()
			},
			"": func(t *rapid.T) {
				used, wide := 0, false
				for _, r := range running {
					used += r.width
					wide = wide || r.width > 1
				}
				if inUse, n := g.Stats(); inUse != used || n != len(waiting) {
					t.Fatalf("the gate counts %d in use and %d waiting; there are %d and %d", inUse, n, used, len(waiting))
				}
				if used > slots+burst {
					t.Fatalf("%d slots are in use of %d + %d", used, slots, burst)
				}
				for _, w := range waiting {
					if used < slots || !wide && held(w.flow) == 0 && used < slots+burst {
						t.Fatalf("%s waits with %d of %d + %d slots in use", w.flow, used, slots, burst)
					}
				}
			},
		})
	})
}

func isGranted(t *gateTicket) bool {
	select {
	case <-t.granted:
		return true
	default:
		return false
	}
}

// TestGateShortJobPassesLongOne is the promise that a job of one chunk behind one of many starts at once, and that two long
// jobs end up with half of the slots each.
func TestGateShortJobPassesLongOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(4, 1)
		var mu sync.Mutex
		running := map[string]int{}
		count := func(flow string, n int) int {
			mu.Lock()
			defer mu.Unlock()
			running[flow] += n
			return running[flow]
		}
		chunk := func(flow string) {
			release, _, err := g.Acquire(t.Context(), flow)
			if err != nil {
				t.Error(err)
				return
			}
			count(flow, 1)
			time.Sleep(10 * time.Second)
			count(flow, -1)
			release()
			release() // does nothing
		}
		for range 40 {
			go chunk("long")
			synctest.Wait()
		}
		if count("long", 0) != 4 {
			t.Fatalf("a job alone runs %d chunks on 4 slots", count("long", 0))
		}
		time.Sleep(time.Second)
		go chunk("short")
		synctest.Wait()
		if count("short", 0) != 1 {
			t.Fatal("the short job waits for a chunk of the long one")
		}
		for range 40 {
			go chunk("other")
		}
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if long, other := count("long", 0), count("other", 0); long != 2 || other != 2 {
			t.Errorf("two long jobs run %d and %d chunks, want 2 and 2", long, other)
		}
		time.Sleep(10 * time.Minute)
	})
}

func TestGateGivesThreadsOnlyToWhoIsAlone(t *testing.T) {
	ctx := context.Background()
	g := NewGate(4, 1)
	release, width, err := g.AcquireWide(ctx, "a", 8)
	if err != nil || width != 4 {
		t.Fatalf("alone: got width %d, %v; want all 4 slots", width, err)
	}
	synctest.Test(t, func(t *testing.T) {
		timeout, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := g.Acquire(timeout, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while a wide decode runs: got %v, want no extra slot", err)
		}
	})
	release()
	first, alone, err := g.Acquire(ctx, "a")
	if err != nil || !alone {
		t.Errorf("first: alone %t, %v", alone, err)
	}
	second, width, err := g.AcquireWide(ctx, "b", 8)
	if err != nil || width != 1 {
		t.Errorf("second: got width %d, %v; want 1", width, err)
	}
	third, alone, err := g.Acquire(ctx, "c")
	if err != nil || alone {
		t.Errorf("third: alone %t, %v", alone, err)
	}
	first()
	second()
	third()
	if used, waiting := g.Stats(); used != 0 || waiting != 0 {
		t.Errorf("at the end %d slots are in use, %d requests wait", used, waiting)
	}
}

// A core serves some slots by turns, so a thread takes them all.
func TestGateThreadsTakeWholeCores(t *testing.T) {
	g := NewGate(8, 0)
	g.perThread = 4
	for want, held := range map[int]int{1: 1, 2: 8, 5: 8} {
		release, threads, err := g.AcquireWide(t.Context(), "a", want)
		if used, _ := g.Stats(); err != nil || threads != min(want, 2) || used != held {
			t.Errorf("%d threads wanted: got %d and %d slots, %v; want %d slots", want, threads, used, err, held)
		}
		release()
	}
}

func TestGateRefusesADeadContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("the job was cancelled"))
	if _, _, err := NewGate(1, 0).Acquire(ctx, "a"); err == nil || err.Error() != "wait for a decode slot: the job was cancelled" {
		t.Errorf("got %v", err)
	}
}

func BenchmarkGate(b *testing.B) {
	g := NewGate(4, 1)
	ctx := context.Background()
	b.RunParallel(func(pb *testing.PB) {
		flow := fmt.Sprint(time.Now().UnixNano())
		for pb.Next() {
			release, _, _ := g.Acquire(ctx, flow)
			release()
		}
	})
}
