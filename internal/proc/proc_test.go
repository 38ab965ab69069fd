package proc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "role:parent" {
		playParent()
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "role:prisoner" {
		playPrisoner(os.Args[2])
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("steno/internal/proc.spawn"))
}

// playParent starts a child, says its process id and waits to be killed.
func playParent() {
	cmd := Command(context.Background(), "sleep", "60")
	// Start from threads that end, as Go's do: that must not end the child.
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := Start(cmd); err != nil {
			fmt.Println(err)
		}
	})
	wg.Wait()
	time.Sleep(50 * time.Millisecond)
	fmt.Println(cmd.Process.Pid)
	_ = cmd.Wait()
}

func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

func waitGone(t *testing.T, pid int, limit time.Duration) {
	t.Helper()
	for end := time.Now().Add(limit); !gone(pid); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d is alive after %s", pid, limit)
		}
	}
}

// readPID reads the process id that a child prints first.
func readPID(t *testing.T, r io.Reader) int {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || gone(pid) {
		t.Fatalf("the child said %q, %v", line, err)
	}
	return pid
}

func TestChildDiesWithParent(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0], "role:parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := readPID(t, out)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // the error is its kill
	waitGone(t, pid, 2*time.Second)
}

// An interrupt comes first, so that ffmpeg can close its output; who ignores it is killed with its whole group.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		least, most  time.Duration
	}{
		{"obeys", `trap "exit 0" INT; echo $$; while :; do sleep 0.05; done`, 0, Grace},
		// The shell and its own child ignore the interrupt, and the child holds no pipe of ours that would tell of its end.
		{"ignores", `trap "" INT; sleep 60 >/dev/null 2>&1 & echo $!; wait`, Grace / 2, 2 * Grace},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cause := errors.New("the job was cancelled")
			ctx, cancel := context.WithCancelCause(t.Context())
			cmd := Command(ctx, "sh", "-c", c.script)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd.Stdout, cmd.Stderr = w, &Tail{}
			if err := Start(cmd); err != nil {
				t.Fatal(err)
			}
			w.Close()
			end := make(chan error, 1)
			go func() { end <- Explain(ctx, cmd, cmd.Wait()) }()
			pid := readPID(t, r)
			began := time.Now()
			cancel(cause)
			err = <-end
			waitGone(t, pid, c.most)
			if took := time.Since(began); took < c.least || took > c.most {
				t.Errorf("the group ended after %s", took)
			}
			if err != nil && !errors.Is(err, cause) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestRunErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		text         string
		signal       syscall.Signal
	}{
		{"status with stderr", "echo broken pipe >&2; exit 3", "exit status 3: broken pipe", 0},
		{"status alone", "exit 4", "exit status 4", 0},
		{"signal", "kill -9 $$", "signal: killed", syscall.SIGKILL},
		{"abort", "echo assertion >&2; kill -6 $$", "signal: aborted", syscall.SIGABRT},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd := Command(t.Context(), "sh", "-c", c.script)
			cmd.Stderr = &Tail{}
			err := Run(t.Context(), cmd)
			var exit *ExitError
			if !errors.As(err, &exit) || !strings.HasPrefix(err.Error(), c.text) || Signal(err) != c.signal {
				t.Errorf("error %v, signal %v", err, Signal(err))
			}
		})
	}
	if err := Run(t.Context(), Command(t.Context(), "true")); err != nil {
		t.Error(err)
	}
	if err := Run(t.Context(), Command(t.Context(), "/nonexistent/tool")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such tool: %v", err)
	}
	if Signal(nil) != 0 || Signal(io.EOF) != 0 {
		t.Error("a signal without a child")
	}
}

// The tail is the end of what was written, never more than 8 KiB of it, however it was cut into writes.
func TestTail(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var tail Tail
		var all []byte
		for _, p := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 12<<10)).Draw(t, "writes") {
			if n, err := tail.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			all = append(all, p...)
		}
		if want := all[max(0, len(all)-tailSize):]; !bytes.Equal([]byte(tail.String()), want) {
			t.Fatalf("%d bytes written, %d kept", len(all), len(tail.String()))
		}
	})
}

func TestEnv(t *testing.T) {
	t.Parallel()
	environ := []string{"A=1", "AB=2", "LC_ALL=C", "LC_=x", "SECRET=s", "=C:=x", "NOEQUALS"}
	for _, c := range []struct{ allow, want []string }{
		{nil, []string{}},
		{[]string{"A", "LC_*"}, []string{"A=1", "LC_ALL=C", "LC_=x"}},
		{[]string{"LC_*"}, []string{"LC_ALL=C", "LC_=x"}},
		{[]string{"NOEQUALS", "B"}, []string{"NOEQUALS"}},
		{[]string{"*"}, []string{"A=1", "AB=2", "LC_ALL=C", "LC_=x", "SECRET=s", "NOEQUALS"}},
	} {
		if got := Env(environ, c.allow...); got == nil || !slices.Equal(got, c.want) {
			t.Errorf("allow %q: %q", c.allow, got)
		}
	}
}
