package relay_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"steno/internal/failpoint"
	"steno/internal/testpg"
	"steno/job"
	"steno/relay"
	"steno/store"
)

// nodeDir is where buildNode builds; TestMain removes it.
var nodeDir string

// buildNode makes testdata/node with its failpoints.
var buildNode = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "steno-node-")
	if err != nil {
		return "", err
	}
	nodeDir = dir
	path := filepath.Join(dir, "node")
	out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", path, "./testdata/node").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// node is a running testdata/node.
type node struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	out    chan string // lines, closed at its end
	stderr bytes.Buffer
	user   string
}

func startNode(t *testing.T, folder, dsn, webhook, points string) *node {
	t.Helper()
	n := &node{cmd: exec.Command(must(buildNode())(t), folder, dsn, webhook), out: make(chan string, 1000)}
	n.cmd.Env = append(os.Environ(), "STENO_FAILPOINTS="+points)
	n.cmd.Stderr = &n.stderr
	n.stdin = must(n.cmd.StdinPipe())(t)
	stdout := must(n.cmd.StdoutPipe())(t)
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(n.out)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			n.out <- lines.Text()
		}
	}()
	t.Cleanup(func() { _ = n.cmd.Process.Kill() })
	return n
}

// line is the next line of its output; false at its end.
func (n *node) line(t *testing.T) (string, bool) {
	t.Helper()
	select {
	case s, ok := <-n.out:
		return s, ok
	case <-time.After(30 * time.Second):
		t.Fatal("the node says nothing for 30 s")
		return "", false
	}
}

// ready waits until it takes requests; false where it was killed before.
func (n *node) ready(t *testing.T) bool {
	t.Helper()
	s, ok := n.line(t)
	n.user = strings.TrimPrefix(s, "ready ")
	return ok
}

// ended waits for the end and reports whether it was SIGKILL.
func (n *node) ended(t *testing.T) (killed bool) {
	t.Helper()
	for ok := true; ok; {
		_, ok = n.line(t)
	}
	var exit *exec.ExitError
	err := n.cmd.Wait()
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return exit != nil && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// create asks for a task. The id is empty where the node did not live to answer.
func (n *node) create(t *testing.T, wish string) job.ID {
	t.Helper()
	if _, err := fmt.Fprintln(n.stdin, wish); err != nil {
		return ""
	}
	s, _ := n.line(t)
	return job.ID(strings.TrimPrefix(s, "201 "))
}

// TestKill kills a node at each place between the commit of a task and the last word about it, the first and the third time it gets
// there, and starts it again: each task that was answered with 201 ends, once, with its own result, and its webhook is called.
func TestKill(t *testing.T) {
	t.Parallel()
	pg := testpg.Start(t, "fsync=off")
	t.Run("places", func(t *testing.T) { // ends when all have, so that the database outlives them
		for _, point := range failpoint.Handover() {
			for _, count := range []string{"", "@3"} {
				engine, dsn := "sqlite", filepath.Join(t.TempDir(), "steno.db")
				if count != "" {
					engine, dsn = "postgres", pg.Database(t)
				}
				t.Run(point+count+" "+engine, func(t *testing.T) {
					t.Parallel()
					killAt(t, dsn, point+"=kill"+count)
				})
			}
		}
	})
}

func killAt(t *testing.T, dsn, points string) {
	t.Helper()
	folder, hooks := t.TempDir(), newReceiver(t, 200)
	var ids []job.ID
	create := func(n *node, count int) {
		for i := range count {
			wish := ""
			if i%3 == 2 {
				wish = "fail"
			}
			if id := n.create(t, wish); id != "" {
				ids = append(ids, id)
			}
		}
	}
	first := startNode(t, folder, dsn, hooks.URL, points)
	if !first.ready(t) {
		t.Fatalf("it was killed too soon: %s", first.stderr.String())
	}
	create(first, 8)
	if !first.ended(t) {
		t.Fatalf("it was not killed: %s", first.stderr.String())
	}
	second := startNode(t, folder, dsn, hooks.URL, "")
	if !second.ready(t) {
		t.Fatalf("it does not start again: %s", second.stderr.String())
	}
	create(second, 2)
	s := must(store.Open(t.Context(), dsn, store.Config{KeepSchema: true}))(t)
	t.Cleanup(func() { _ = s.Close() })
	r := &rig{T: t, s: s, user: store.User{ID: second.user}}
	all, _, err := s.HistoryPage(t.Context(), r.user.ID, store.Filter{}, 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	// Tasks that were committed and never answered count as well.
	if len(all) < len(ids) || len(all) > 10 {
		t.Fatalf("%d tasks of %d that were answered", len(all), len(ids))
	}
	for _, task := range all {
		r.ended(task)
	}
	r.settled()
	wantCalls(t, hooks, all)
	_ = second.stdin.Close()
	if second.ended(t) || second.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("it did not end in order: %s", second.stderr.String())
	}
	for _, task := range all { // not one has changed since
		r.ended(task)
	}
}

// TestKillRetry kills a node when the queue has brought a failed job back, and nobody but its record tells so: no message, its dead
// letter still there, its task failed in the database. It ends well, once, after the restart.
func TestKillRetry(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		folder, hooks := t.TempDir(), newReceiver(t, 200)
		first := startNode(t, folder, dsn, hooks.URL, failpoint.RetryRevived+"=kill")
		if !first.ready(t) {
			t.Fatalf("it does not start: %s", first.stderr.String())
		}
		id := first.create(t, "fail")
		s := must(store.Open(t.Context(), dsn, store.Config{KeepSchema: true}))(t)
		t.Cleanup(func() { _ = s.Close() })
		r := &rig{T: t, s: s, user: store.User{ID: first.user}}
		r.await(id, job.Failed)
		r.settled()
		first.create(t, "retry "+string(id))
		if !first.ended(t) {
			t.Fatalf("it was not killed: %s", first.stderr.String())
		}
		if task := must(s.AnyTask(t.Context(), id))(t); task.Status != job.Failed {
			t.Logf("the record was fast: %s", task.Status)
		}
		if err := os.WriteFile(filepath.Join(folder, "mended"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		second := startNode(t, folder, dsn, hooks.URL, "")
		if !second.ready(t) {
			t.Fatalf("it does not start again: %s", second.stderr.String())
		}
		r.eventually("the task is done", func() bool { return must(s.AnyTask(t.Context(), id))(t).Status == job.Done })
		r.done(id)
		r.settled()
		said := map[job.State]int{}
		for _, c := range hooks.got() {
			var e relay.Event
			if err := json.Unmarshal(c.body, &e); err != nil {
				t.Fatal(err)
			}
			said[e.Status]++
		}
		if said[job.Failed] != 1 || said[job.Done] != 1 || len(said) != 2 {
			t.Errorf("the webhook was told %v", said)
		}
		_ = second.stdin.Close()
		if second.ended(t) || second.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("it did not end in order: %s", second.stderr.String())
		}
		r.done(id)
	})
}

// ended checks that a task ends as it should, with its own result where it is done.
func (r *rig) ended(task store.Task) {
	r.Helper()
	if task.Params.Prompt != "fail" {
		r.done(task.ID)
		return
	}
	if got := r.await(task.ID, job.Failed); got.Error.Code != "NO_AUDIO_STREAM" {
		r.Errorf("task %s failed: %+v", task.ID, got.Error)
	}
	if _, err := r.s.Result(r.Context(), r.user.ID, task.ID); codeOf(err) != "NOT_DONE" {
		r.Errorf("task %s has failed and has a result: %v", task.ID, err)
	}
}

// wantCalls checks that each task was told of, always in the same words.
func wantCalls(t *testing.T, hooks *receiver, tasks []store.Task) {
	t.Helper()
	said := map[job.ID]string{}
	for _, c := range hooks.got() {
		var e relay.Event
		if err := json.Unmarshal(c.body, &e); err != nil {
			t.Fatal(err)
		}
		if old, ok := said[e.Task]; ok && old != string(c.body) {
			t.Errorf("task %s was told of as %s and as %s", e.Task, old, c.body)
		}
		said[e.Task] = string(c.body)
	}
	for _, task := range tasks {
		if said[task.ID] == "" {
			t.Errorf("task %s was not told of", task.ID)
		}
	}
}
