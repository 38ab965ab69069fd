package engine

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"steno/models"
)

func startRenewing(t *testing.T, cfg Config) *Renewing {
	t.Helper()
	r, err := StartRenewing(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// A worn process is replaced between requests: no caller sees it, and two processes never live at once.
func TestRenewAfterChunks(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Limits.Chunks = 5
	var renewed, living, most atomic.Int32
	cfg.Observer = Observer{
		Started: func(models.Info, time.Duration) {
			most.Store(max(most.Load(), living.Add(1)))
		},
		Ended: func(models.Info, error) { living.Add(-1) },
		Renewed: func(old, fresh models.Info) {
			if old.PID == fresh.PID || !gone(old.PID) {
				t.Errorf("process %d replaced by %d, gone: %t", old.PID, fresh.PID, gone(old.PID))
			}
			renewed.Add(1)
		},
	}
	r := startRenewing(t, cfg)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, err := r.Transcribe(t.Context(), chunk("slow 2"), nil); err != nil {
					t.Errorf("request: %v", err)
				}
			}
		})
	}
	wg.Wait()
	waitFor(t, 5*time.Second, "replacements", func() bool { return renewed.Load() >= 4 })
	if n := renewed.Load(); n > 8 {
		t.Errorf("%d replacements for 40 requests at 5 each", n)
	}
	if most.Load() != 1 {
		t.Errorf("%d processes at once", most.Load())
	}
	if r.Err() != nil {
		t.Errorf("a replacement is no death: %v", r.Err())
	}
	r.Close()
	if !errors.Is(r.Err(), ErrClosed) || !gone(r.Info().PID) {
		t.Errorf("after close: %v", r.Err())
	}
	waitFor(t, 5*time.Second, "the last end is told", func() bool { return living.Load() == 0 })
}

func TestRenewAfterGrowth(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Limits.Growth, cfg.Limits.Silence = 64<<20, time.Second
	r := startRenewing(t, cfg)
	first := r.Info().PID
	for range warmChunks * cfg.Load.States {
		if _, err := r.Transcribe(t.Context(), chunk("leak 1"), nil); err != nil {
			t.Fatal(err)
		}
	}
	// The baseline has been taken; nothing grew.
	time.Sleep(300 * time.Millisecond)
	if _, err := r.Transcribe(t.Context(), chunk("leak 1"), nil); err != nil || r.Info().PID != first {
		t.Fatalf("process %d, then %d, %v", first, r.Info().PID, err)
	}
	waitFor(t, 5*time.Second, "a replacement", func() bool {
		if _, err := r.Transcribe(t.Context(), chunk("leak 20"), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		return r.Info().PID != first
	})
}

// A crash is not hidden: who holds the engine must know, for it counts.
func TestRenewingDies(t *testing.T) {
	t.Parallel()
	r := startRenewing(t, config(t, "ok"))
	if err := syscall.Kill(r.Info().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	if !errors.Is(r.Err(), models.ErrEngineDied) {
		t.Errorf("Err is %v", r.Err())
	}
	if _, err := r.Transcribe(t.Context(), chunk(""), nil); !errors.Is(err, models.ErrEngineDied) {
		t.Errorf("request: %v", err)
	}
}

// Where the replacement fails, the engine dies with the reason, and those who wait for it get it.
func TestRenewFails(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Limits.Chunks = 1
	r := startRenewing(t, cfg)
	if err := os.Remove(cfg.Load.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Transcribe(t.Context(), chunk(""), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Transcribe(t.Context(), chunk(""), nil); !errors.Is(err, ErrBadFile) || !errors.Is(err, models.ErrEngineDied) {
		t.Errorf("request: %v", err)
	}
	<-r.Done()
	if !errors.Is(r.Err(), ErrBadFile) {
		t.Errorf("Err is %v", r.Err())
	}
}

// Closing in the middle of a replacement ends it, and whoever waits for it.
func TestCloseWhileRenewing(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Limits.Chunks = 1
	for delay := range 8 {
		r := startRenewing(t, cfg)
		if _, err := r.Transcribe(t.Context(), chunk(""), nil); err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error)
		go func() {
			_, err := r.Transcribe(context.Background(), chunk("wait"), nil)
			waiting <- err
		}()
		time.Sleep(time.Duration(delay) * 3 * time.Millisecond)
		r.Close()
		if err := <-waiting; !errors.Is(err, models.ErrEngineDied) || !errors.Is(err, ErrClosed) {
			t.Errorf("delay %d: %v", delay, err)
		}
		if !gone(r.Info().PID) || !errors.Is(r.Err(), ErrClosed) {
			t.Errorf("delay %d: %v", delay, r.Err())
		}
	}
}

func TestRenewingGivesUpWaiting(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Limits.Chunks = 1
	r := startRenewing(t, cfg)
	busy := make(chan error)
	go func() {
		_, err := r.Transcribe(context.Background(), chunk("still 500"), nil)
		busy <- err
	}()
	time.Sleep(50 * time.Millisecond)
	if _, err := r.Transcribe(t.Context(), chunk(""), nil); err != nil { // the process is worn now, and still busy
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Transcribe(ctx, chunk(""), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it drains: %v", err)
	}
	if err := <-busy; err != nil {
		t.Errorf("in flight on the worn process: %v", err)
	}
}
