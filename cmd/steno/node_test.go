//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"steno/internal/proc"
	"steno/internal/testmedia"
	"steno/job"
	"steno/queue"
	"steno/transcript"
)

// node is a running `steno up`: a process of the real binary with real NATS, ffmpeg, engine and weights.
type node struct {
	t     *testing.T
	data  string
	cmd   *exec.Cmd
	log   *logBuffer
	admin string // http://host:port
	api   string // http://host:port
	ended chan error
	up    bool // it is `steno up`, and not a worker alone
}

// nodePassword is that of each node's first account, admin.
const nodePassword = "correct horse"

// startNode runs `steno up` on a data folder until the test ends, and returns when it takes jobs.
func startNode(t *testing.T, data string, flags ...string) *node {
	t.Helper()
	n := launch(t, binary.path(t), data, nil, flags...)
	if !n.ready() {
		t.Fatalf("steno up ended early: %v\n%s", <-n.ended, n.log)
	}
	return n
}

// launch starts `steno up` of a binary with more in its environment.
func launch(t *testing.T, path, data string, env []string, flags ...string) *node {
	t.Helper()
	return launchDaemon(t, path, data, env, append([]string{"up", "--listen", "127.0.0.1:0"}, flags...)...)
}

// joinWorker runs `steno worker` on the node's queue until the test ends, and returns when it takes jobs.
func (n *node) joinWorker(flags ...string) *node {
	n.t.Helper()
	var at struct{ URL, Token string }
	text, err := os.ReadFile(filepath.Join(n.data, "nats.json"))
	if err == nil {
		err = json.Unmarshal(text, &at)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	url := strings.Replace(at.URL, "://", "://"+at.Token+"@", 1)
	w := launchDaemon(n.t, binary.path(n.t), n.t.TempDir(), []string{"STENO_NATS=" + url}, append([]string{"worker"}, flags...)...)
	if !w.ready() {
		n.t.Fatalf("steno worker ended early: %v\n%s", <-w.ended, w.log)
	}
	return w
}

// launchDaemon starts a command that goes on until it is ended.
func launchDaemon(t *testing.T, path, data string, env []string, command ...string) *node {
	t.Helper()
	n := &node{t: t, data: data, log: &logBuffer{}, ended: make(chan error, 1), up: command[0] == "up"}
	args := append(slices.Clone(command), "--data", data, "--admin", "127.0.0.1:0")
	n.cmd = proc.Command(context.Background(), path, args...)
	n.cmd.Env, n.cmd.Stderr = append(append(stenoEnv(t), "STENO_PASSWORD="+nodePassword), env...), n.log
	if err := proc.Start(n.cmd); err != nil {
		t.Fatal(err)
	}
	go func() { n.ended <- n.cmd.Wait() }()
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("log of steno %s:\n%s", command[0], n.log)
		}
	})
	return n
}

// The lines that say where a node listens.
var (
	adminURL = regexp.MustCompile(`msg=metrics url=(http://[^/]+)`)
	apiURL   = regexp.MustCompile(`msg="the API is at" url=(http://\S+)`)
)

// ready waits until the node takes jobs; false where it ended before.
func (n *node) ready() bool {
	n.t.Helper()
	alive := true
	eventually(n.t, 30*time.Second, "steno up takes jobs", func() bool {
		select {
		case err := <-n.ended:
			n.ended <- err
			alive = false
			return true
		default:
		}
		log := n.log.String()
		admin, api := adminURL.FindStringSubmatch(log), apiURL.FindStringSubmatch(log)
		if admin == nil || n.up && api == nil || !strings.Contains(log, "ready for jobs") {
			return false
		}
		if n.admin = admin[1]; n.up {
			n.api = api[1]
		}
		return true
	})
	return alive
}

// stenoEnv is this process's environment with the models of the build and none of the developer's settings.
func stenoEnv(t *testing.T) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "STENO_") {
			env = append(env, kv)
		}
	}
	return append(env, "STENO_MODELS="+filepath.Dir(testmedia.Model(t, "base-q8_0")))
}

// kill ends the node the hard way, if it still runs.
func (n *node) kill() {
	_ = n.cmd.Process.Kill() // an error means that it has ended
	n.ended <- <-n.ended
}

// stop sends SIGTERM and returns how the node ended.
func (n *node) stop() error {
	n.t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	select {
	case err := <-n.ended:
		n.ended <- err
		return err
	case <-time.After(time.Minute):
		n.t.Fatal("steno up does not end within a minute of SIGTERM")
		return nil
	}
}

// outcome is what a command wrote and how it ended.
type outcome struct {
	out, err string
	code     int
}

// steno runs a command on the node's queue to its end.
func (n *node) steno(args ...string) outcome {
	n.t.Helper()
	return steno(n.t, append(args, "--data", n.data)...)
}

func steno(t *testing.T, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := proc.Command(ctx, binary.path(t), args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = stenoEnv(t), &out, &errs
	err := proc.Run(ctx, cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("steno %v: %v", args, err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// submit puts one file on the queue and returns its job.
func (n *node) submit(path string, flags ...string) job.ID {
	n.t.Helper()
	o := n.steno(append([]string{"submit", path, "--json"}, flags...)...)
	var said struct{ Job job.ID }
	if err := json.Unmarshal([]byte(o.out), &said); err != nil || o.code != 0 {
		n.t.Fatalf("submit %s: exit code %d, %v: %s", filepath.Base(path), o.code, err, o.err)
	}
	return said.Job
}

func (n *node) status(id job.ID) queue.Status {
	n.t.Helper()
	o := n.steno("status", string(id), "--json")
	var st queue.Status
	if err := json.Unmarshal([]byte(o.out), &st); err != nil || o.code != 0 {
		n.t.Fatalf("status: exit code %d, %v: %s", o.code, err, o.err)
	}
	return st
}

// client is a connection to the node's queue, as another program of this user has it.
func (n *node) client() *queue.Queue {
	n.t.Helper()
	cfg, err := queue.Local(n.data)
	if err != nil {
		n.t.Fatal(err)
	}
	q, err := queue.Connect(n.t.Context(), cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	return q
}

// await follows a job to its end and returns its last status, and its transcript if it is done.
func (n *node) await(id job.ID, within time.Duration) (queue.Status, transcript.Transcript) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), within)
	defer cancel()
	q := n.client()
	defer q.Close()
	news, err := q.Watch(ctx, id)
	if err != nil {
		n.t.Fatal(err)
	}
	var last queue.Status
	for last = range news {
	}
	if ctx.Err() != nil {
		n.t.Fatalf("job %s is %s in stage %s after %s", id, last.State, last.Progress.Stage, within)
	}
	if last.State != job.Done {
		return last, transcript.Transcript{}
	}
	tr, err := q.Result(ctx, id)
	if err != nil {
		n.t.Fatal(err)
	}
	return last, tr
}

// awaitStage waits until a job has got to a stage.
func (n *node) awaitStage(id job.ID, stage job.Stage) {
	n.t.Helper()
	q := n.client()
	defer q.Close()
	eventually(n.t, 30*time.Second, fmt.Sprintf("job is in stage %s", stage), func() bool {
		st, err := q.Status(n.t.Context(), id)
		return err == nil && st.State == job.Running && st.Progress.Stage == stage
	})
}

// metric reads one series of /metrics, such as steno_chunks_total{source="reused"}; 0 where it is absent.
func (n *node) metric(series string) float64 {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, n.admin+"/metrics", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Close = true // no connection may outlive the test
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		if value, found := strings.CutPrefix(s.Text(), series+" "); found {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// cleanScratch checks that no job has left a file in the scratch folder.
func (n *node) cleanScratch() {
	n.t.Helper()
	left, err := filepath.Glob(filepath.Join(n.data, "scratch", "*", "*"))
	if err != nil {
		n.t.Fatal(err)
	}
	uploads, err := filepath.Glob(filepath.Join(n.data, "scratch", "*", "uploads", "*"))
	if err != nil {
		n.t.Fatal(err)
	}
	left = slices.DeleteFunc(left, func(path string) bool { return filepath.Base(path) == "uploads" })
	if left = append(left, uploads...); len(left) > 0 {
		n.t.Errorf("left in the scratch folder: %q", left)
	}
}

// process is an entry of /proc.
type process struct {
	pid  int
	name string
}

// children lists the child processes that run.
func (n *node) children() []process { return childrenOf(n.t, n.cmd.Process.Pid) }

// childrenOf lists the child processes of a process that run.
func childrenOf(t *testing.T, parent int) []process {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var all []process
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid …; the name may hold spaces and brackets.
		head, rest, ok := cutLast(string(data), ") ")
		fields := strings.Fields(rest)
		pid, name, found := strings.Cut(head, " (")
		if !ok || !found || len(fields) < 2 || fields[0] == "Z" || fields[1] != strconv.Itoa(parent) {
			continue
		}
		id, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, process{id, name})
	}
	return all
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// engine returns the engine's process, or 0 while there is none.
func (n *node) engine() int {
	for _, p := range n.children() {
		if p.name == "steno-engine" {
			return p.pid
		}
	}
	return 0
}

// gone checks that the processes have ended, of whatever parent.
func gone(t *testing.T, all []process) {
	t.Helper()
	for _, p := range all {
		eventually(t, 5*time.Second, fmt.Sprintf("%s is gone", p.name), func() bool {
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid))
			return err != nil || strings.TrimSpace(string(name)) != p.name // the number may have been given away
		})
	}
}

// eventually polls until ok, and fails the test after the time allowed.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// logBuffer keeps what a process writes. Safe for concurrent use.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
