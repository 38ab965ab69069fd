// Package proc starts child processes so that they surely end: each in a process group of its own, told to die with its
// parent, interrupted and then killed when its context ends, and with the end of what it wrote to stderr kept for the error.
//
// All functions are safe for concurrent use.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Grace is how long a child has between the interrupt and the kill.
const Grace = 2 * time.Second

// Command is exec.CommandContext with the rules of this package: cancelling ctx sends SIGINT to the child's group, and
// SIGKILL after Grace. Start it with Start, never with cmd.Start.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	Harden(cmd)
	return cmd
}

// Harden applies the rules of this package to a command that somebody else composed. The command must be bound to a
// context (exec.CommandContext), or it cannot be cancelled.
func Harden(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.WaitDelay = Grace
	if cmd.Cancel != nil {
		cmd.Cancel = func() error {
			pgid := -cmd.Process.Pid
			// The interrupt lets ffmpeg close its output; whatever of the group is left after Grace is killed, for WaitDelay
			// alone would kill the leader only.
			time.AfterFunc(Grace, func() { _ = syscall.Kill(pgid, syscall.SIGKILL) })
			return syscall.Kill(pgid, syscall.SIGINT)
		}
	}
}

// spawner starts all children from one thread that never ends: Pdeathsig fires when the starting thread exits, not the
// process (golang/go#27505), and Go ends idle-locked threads at will.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go spawn(work)
	return work
})

// spawn is the one goroutine that this package leaves running. Tests that look for leaks ignore it by this name.
func spawn(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
}

// Start starts cmd. The caller must call cmd.Wait.
func Start(cmd *exec.Cmd) error {
	done := make(chan error)
	spawner() <- func() { done <- cmd.Start() }
	return <-done
}

// Run starts cmd and waits. The error is the context's when it ended, and else carries the end of stderr, if stderr is a
// *Tail.
func Run(ctx context.Context, cmd *exec.Cmd) error {
	if err := Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return Explain(ctx, cmd, cmd.Wait())
}

// Explain turns the error of cmd.Wait into one that says why: the context's error when it ended, else the exit status with
// the end of stderr. It returns nil for nil.
func Explain(ctx context.Context, cmd *exec.Cmd, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, context.Cause(ctx))
	}
	if t, ok := cmd.Stderr.(*Tail); ok {
		if text := strings.TrimSpace(t.String()); text != "" {
			return &ExitError{Err: err, Stderr: text}
		}
	}
	return &ExitError{Err: err}
}

// ExitError is how a child ended, with the end of its stderr.
type ExitError struct {
	Err    error
	Stderr string
}

func (e *ExitError) Error() string {
	if e.Stderr == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + ": " + e.Stderr
}

// Unwrap returns the *exec.ExitError.
func (e *ExitError) Unwrap() error { return e.Err }

// Signal is the signal that ended the child, or 0.
func Signal(err error) syscall.Signal {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return ws.Signal()
		}
	}
	return 0
}

// tailSize is what is kept of stderr: RELIABILITY's 8 KiB holds any assertion with its backtrace.
const tailSize = 8 << 10

// Tail is an io.Writer that keeps the last 8 KiB. Safe for concurrent use.
type Tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
