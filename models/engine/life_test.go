package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"steno/models"
)

// The parent is killed in the middle of a request that its child does not hear: the child must not outlive it.
func TestParentDeath(t *testing.T) {
	t.Parallel()
	path, sum := modelFile(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	parent := exec.Command(os.Args[0], "role:parent", path, sum)
	parent.Stdout = w
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	line := firstLine(t, r)
	pid, err := strconv.Atoi(line)
	if err != nil || gone(pid) {
		t.Fatalf("the parent said %q", line)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // the error is its kill
	waitFor(t, 3*time.Second, "end of the child", func() bool { return gone(pid) })
}

// The end of the socket alone ends the child too: the kernel's signal is tied to the thread that started it, and is lost by a
// set-user-id exec.
func TestSocketEnds(t *testing.T) {
	t.Parallel()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), ""), os.NewFile(uintptr(fds[1]), "")
	cmd := exec.Command(os.Args[0], "role:engine")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if _, err := readFrame(ours); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	select {
	case err := <-end:
		if err == nil {
			t.Error("the loss of the parent is no success")
		}
	case <-time.After(3 * time.Second):
		_ = cmd.Process.Kill()
		t.Error("the child outlived its socket")
	}
}

// Without a socket on descriptor 3 somebody called the hidden command by hand.
func TestCalledByHand(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(os.Args[0], "role:engine").CombinedOutput()
	if err == nil || string(out) != "this command is for steno itself: it is started by a worker and not by hand\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// Engines are killed again and again under load: each death costs the requests in flight one retry, all of them end with the
// right answer, and nothing is left behind.
func TestFortyKills(t *testing.T) {
	cfg := config(t, "ok")
	before := openFDs(t)
	const kills, callers = 40, 4
	e := &restarting{t: t, cfg: cfg}
	defer e.close()
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGKILL}
	var done atomic.Bool
	var answers, retries atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for !done.Load() {
				res, err := e.get().Transcribe(t.Context(), chunk("slow 3"), nil)
				switch {
				case err == nil && res.Stats.Passes == 1600:
					answers.Add(1)
				case errors.Is(err, models.ErrEngineDied):
					retries.Add(1)
				default:
					t.Errorf("request: %v", err)
					return
				}
			}
		})
	}
	for i := range kills {
		p, seen := e.get(), answers.Load()
		waitFor(t, 5*time.Second, "an answer", func() bool { return answers.Load() > seen })
		time.Sleep(time.Duration(i%5) * time.Millisecond)
		began := time.Now()
		if err := syscall.Kill(p.Info().PID, signals[i%len(signals)]); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.Done():
		case <-time.After(5 * time.Second):
			t.Fatalf("kill %d was not seen", i)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("kill %d was seen after %s", i, took)
		}
		if !errors.Is(p.Err(), models.ErrEngineDied) {
			t.Errorf("kill %d: %v", i, p.Err())
		}
	}
	done.Store(true)
	wg.Wait()
	e.close()
	// A death costs each caller at most the request it has in flight, and the one it starts before it knows.
	if n := retries.Load(); n == 0 || n > 2*kills*callers || e.starts.Load() < kills {
		t.Errorf("%d retries and %d starts over %d kills", n, e.starts.Load(), kills)
	}
	waitFor(t, 2*time.Second, "descriptors are back", func() bool { return openFDs(t) <= before })
}

// restarting is the pool in small: it starts a new engine where the last one died.
type restarting struct {
	t      *testing.T
	cfg    Config
	starts atomic.Int64
	mu     sync.Mutex
	cur    *Process
}

func (r *restarting) get() *Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cur != nil && r.cur.Err() == nil {
		return r.cur
	}
	p, err := Start(context.Background(), r.cfg)
	if err != nil {
		r.t.Error(err)
		return r.cur
	}
	r.starts.Add(1)
	r.cur = p
	return p
}

func (r *restarting) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cur.Close()
}

// A parent that was itself stopped for long does not blame its child: looks count, not the clock.
func TestPausedParentForgives(t *testing.T) {
	t.Parallel()
	p := &Process{cfg: Config{Limits: Limits{}.WithDefaults()}, calls: map[uint32]*call{1: {audio: 30, began: time.Now().Add(-time.Hour)}}}
	if err := p.stalled(time.Second); err != nil {
		t.Errorf("after one look: %v", err)
	}
	for range 19 {
		p.pace = 0.01
		if err := p.stalled(time.Second); err != nil {
			t.Fatalf("too early: %v", err)
		}
	}
	if err := p.stalled(time.Second); !errors.Is(err, ErrStalled) {
		t.Errorf("after 21 looks of a second: %v", err)
	}
}
