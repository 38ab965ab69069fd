// Package testserver starts a server program for a test and waits until it can be used; testpg and testredis say which.
package testserver

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"steno/internal/proc"
)

// readyIn is how long a server may take to be ready, on a machine that is busy with other tests.
const readyIn = 30 * time.Second

// Start starts what command makes and returns once ready gives no error; the test fails where the program ends before that, or
// takes too long. stop ends the program, by the interrupt of proc first, and returns when it has ended. It may be called more
// than once.
func Start(t testing.TB, command func(context.Context) *exec.Cmd, ready func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := command(ctx)
	name, log := filepath.Base(cmd.Path), &proc.Tail{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := proc.Start(cmd); err != nil {
		cancel()
		t.Fatalf("start %s: %v", name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // by our signal, or what follows says so
	}()
	stop = func() {
		cancel()
		<-ended
	}
	for deadline := time.Now().Add(readyIn); ; time.Sleep(10 * time.Millisecond) {
		err := ready(t.Context())
		if err == nil {
			return stop
		}
		select {
		case <-ended:
			cancel()
			t.Fatalf("%s ended: %s", name, log)
		default:
		}
		if time.Now().After(deadline) {
			stop()
			t.Fatalf("%s is not ready after %s: %v: %s", name, readyIn, err, log)
		}
	}
}
