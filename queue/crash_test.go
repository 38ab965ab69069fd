package queue

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"steno/job"
	"steno/transcript"
)

// roles are what the test binary plays as a child: a worker, or a whole node with its broker. Both end when their standard
// input does.
var roles = map[string]func(args []string) error{
	"role:worker":       playWorker,
	"role:full-disk":    playFullDisk,
	"role:node":         func(args []string) error { return playNode(args, crashWorker("child")) },
	"role:patient-node": func(args []string) error { return playNode(args, patientWorker("child")) },
}

// crashAckWait is short, so that the jobs of killed workers come back soon.
const crashAckWait = 1500 * time.Millisecond

func crashWorker(name string) WorkerConfig {
	cfg := quick()
	cfg.Name, cfg.AckWait = name, crashAckWait
	return cfg
}

// playWorker runs a worker on the broker that listens for a data folder.
func playWorker(args []string) error {
	cfg, err := Local(args[0])
	if err != nil {
		return err
	}
	return play(cfg, args[1], crashWorker("child"))
}

// playNode runs a broker on a data folder, and a worker on it.
func playNode(args []string, w WorkerConfig) error {
	s, err := Embedded(context.Background(), EmbeddedConfig{Dir: args[0], Listen: "127.0.0.1:0", MaxBytes: 256 << 20})
	if err != nil {
		return err
	}
	defer s.Shutdown()
	return play(Config{Server: s}, args[1], w)
}

func play(cfg Config, handler string, w WorkerConfig) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	q, err := Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer q.Close()
	fmt.Println("ready")
	return q.Work(ctx, w, handlers[handler])
}

var handlers = map[string]Handler{
	"echo": echo,
	// hang finishes three chunks, says so, and waits for its end.
	"hang": func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		if _, _, err := decodeChunks(ctx, d, 3); err != nil {
			return transcript.Transcript{}, err
		}
		sleep(ctx, 100*time.Millisecond) // until the record has the stage
		fmt.Println("three chunks")
		for ctx.Err() == nil {
			d.Alive()
			sleep(ctx, 50*time.Millisecond)
		}
		return transcript.Transcript{}, ctx.Err()
	},
	// stale is deaf to its context and brings a result of its own.
	"stale": func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
		fmt.Println("begun")
		time.Sleep(300 * time.Millisecond)
		defer fmt.Println("returned")
		return say("stale"), nil
	},
}

// decodeChunks is a handler's work on n chunks.
func decodeChunks(ctx context.Context, d *Delivery, n int) (computed, reused int, err error) {
	for i := range n {
		key := fmt.Sprintf("chunk.%d", i)
		_, found, err := d.Chunks().Get(ctx, key)
		if err != nil {
			return computed, reused, err
		}
		if found {
			reused++
			continue
		}
		if err := d.Chunks().Put(ctx, key, []byte("text")); err != nil {
			return computed, reused, err
		}
		computed++
		d.Progress(job.Progress{Stage: job.StageTranscribe, Done: float64(i), Total: float64(n)})
	}
	return computed, reused, nil
}

// five is the handler that goes on where "hang" was killed.
func five(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
	computed, reused, err := decodeChunks(ctx, d, 5)
	return say(fmt.Sprintf("computed %d, reused %d", computed, reused)), err
}

// child is a process that plays a role.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
	err   bytes.Buffer
}

func startChild(t *testing.T, args ...string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(exe, args...)}
	c.cmd.Stderr = &c.err
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin, c.lines = stdin, bufio.NewScanner(stdout)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.kill() })
	return c
}

// expect reads lines up to one.
func (c *child) expect(t *testing.T, line string) {
	t.Helper()
	for c.lines.Scan() {
		if strings.TrimSpace(c.lines.Text()) == line {
			return
		}
	}
	t.Fatalf("the child ended before it said %q: %s", line, c.err.String())
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (c *child) kill() error {
	_ = c.cmd.Process.Kill() // an error means that it has ended
	return c.cmd.Wait()
}

// stop ends the child in order.
func (c *child) stop(t *testing.T) {
	t.Helper()
	c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("child: %v: %s", err, c.err.String())
	}
}

func TestKilledWorkersJobGoesOnElsewhere(t *testing.T) {
	t.Parallel() // it mostly waits
	server := startServer(t, EmbeddedConfig{Listen: "127.0.0.1:0"})
	q := open(t, server)
	c := startChild(t, "role:worker", server.cfg.Dir, "hang")
	c.expect(t, "ready")
	j := submit(t, q, 1000)
	c.expect(t, "three chunks")
	if err := c.kill(); err == nil {
		t.Fatal("the worker was not killed")
	}
	killed := time.Now()
	work(t, q, crashWorker("second"), five)
	s := await(t, q, j.ID, job.Done)
	if took := time.Since(killed); took > 2*crashAckWait+time.Second {
		t.Errorf("recovered after %s, with an AckWait of %s", took, crashAckWait)
	}
	if s.Attempt != 2 || len(s.History) != 2 || s.History[0].Outcome != OutcomeLost || s.History[0].Worker != "child" ||
		s.History[0].Stage != job.StageTranscribe {
		t.Errorf("status %+v", s)
	}
	if got, err := q.Result(t.Context(), j.ID); err != nil || got.Text != "computed 2, reused 3" {
		t.Errorf("result %q, %v", got.Text, err)
	}
	drained(t, q)
}

func TestJobThatKillsItsWorkersIsBuried(t *testing.T) {
	t.Parallel() // it mostly waits
	server := startServer(t, EmbeddedConfig{Listen: "127.0.0.1:0"})
	q := open(t, server)
	j := submit(t, q, 1000)
	for range 2 {
		c := startChild(t, "role:worker", server.cfg.Dir, "hang")
		c.expect(t, "three chunks")
		_ = c.kill()
	}
	next := submit(t, q, 10)
	cfg := crashWorker("third")
	cfg.MaxDeaths = 2
	work(t, q, cfg, echo)
	await(t, q, next.ID, job.Done)
	if s := await(t, q, j.ID, job.Failed); s.Error.Code != "WORKER_DIED" || s.Attempt != 2 {
		t.Errorf("status %+v", s)
	}
	eventually(t, "there is a dead letter", func() bool {
		l, err := q.DeadLetter(t.Context(), string(j.ID))
		return err == nil && len(l.History) == 2
	})
	drained(t, q)
}

// Suspects run one at a time, so that the next death names the culprit; others run beside them.
func TestSuspectsRunAlone(t *testing.T) {
	t.Parallel() // it mostly waits
	q := open(t, startServer(t, EmbeddedConfig{}))
	suspects := map[job.ID]bool{}
	for range 3 {
		j := submit(t, q, 10)
		suspects[j.ID] = true
		if _, err := q.change(t.Context(), j.ID, func(r *record, _ time.Time) error {
			r.Attempt, r.Lost, r.Deaths = 2, 2, 2
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	beside := submit(t, q, 10)
	var running, most atomic.Int32
	cfg := crashWorker("w")
	cfg.Slots = 4
	work(t, q, cfg, func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		if !suspects[d.Job.ID] {
			return echo(ctx, d)
		}
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		sleep(ctx, 300*time.Millisecond)
		return echo(ctx, d)
	})
	await(t, q, beside.ID, job.Done)
	for id := range suspects {
		await(t, q, id, job.Done)
	}
	if most.Load() != 1 {
		t.Errorf("%d suspects ran at the same time", most.Load())
	}
}

func TestStoppedWorkersLateResultIsThrownAway(t *testing.T) {
	t.Parallel() // it mostly waits
	server := startServer(t, EmbeddedConfig{Listen: "127.0.0.1:0"})
	q := open(t, server)
	c := startChild(t, "role:worker", server.cfg.Dir, "stale")
	c.expect(t, "ready")
	j := submit(t, q, 10)
	c.expect(t, "begun")
	c.signal(t, syscall.SIGSTOP)
	stop := work(t, q, crashWorker("second"), echo)
	if s := await(t, q, j.ID, job.Done); s.Attempt != 2 {
		t.Errorf("status %+v", s)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.signal(t, syscall.SIGCONT)
	c.expect(t, "returned")
	c.stop(t) // waits until the late result is settled
	if got, err := q.Result(t.Context(), j.ID); err != nil || got.Text != "10 bytes" {
		t.Errorf("result %q, %v", got.Text, err)
	}
	list, err := q.results.store.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Errorf("%d results, %v; want 1", len(list), err)
	}
	drained(t, q)
}

func TestKilledNodeKeepsItsJobs(t *testing.T) {
	t.Parallel() // it mostly waits
	dir := t.TempDir()
	c := startChild(t, "role:node", dir, "hang")
	c.expect(t, "ready")
	cfg, err := Local(dir)
	if err != nil {
		t.Fatal(err)
	}
	client, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	running := submit(t, client, 3<<20)
	c.expect(t, "three chunks")
	waiting := submit(t, client, 1<<20)
	_ = c.kill()
	client.Close()

	q := open(t, startServer(t, EmbeddedConfig{Dir: dir}))
	for id, want := range map[job.ID]job.State{running.ID: job.Queued, waiting.ID: job.Queued} {
		if s, err := q.Status(t.Context(), id); err != nil || s.State != want {
			t.Errorf("job %s is %s after the restart, %v; want %s", id, s.State, err, want)
		}
	}
	work(t, q, crashWorker("second"), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		if d.Job.ID == running.ID {
			return five(ctx, d)
		}
		return echo(ctx, d)
	})
	await(t, q, waiting.ID, job.Done)
	await(t, q, running.ID, job.Done)
	if got, err := q.Result(t.Context(), running.ID); err != nil || got.Text != "computed 2, reused 3" {
		t.Errorf("result %q, %v", got.Text, err)
	}
	drained(t, q)
}

// TestNodeKilledAtAnyMoment kills a busy node again and again: what was accepted must end, once.
func TestNodeKilledAtAnyMoment(t *testing.T) {
	t.Parallel() // it mostly waits
	dir := t.TempDir()
	var accepted []job.ID
	for round := range 4 {
		c := startChild(t, "role:node", dir, "echo")
		c.expect(t, "ready")
		cfg, err := Local(dir)
		if err != nil {
			t.Fatal(err)
		}
		q, err := Connect(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		killed := make(chan struct{})
		for i := 0; ; i++ {
			if i == 3 { // jobs of this round have been accepted: now it may come at any moment
				time.AfterFunc(time.Duration(37*round)*time.Millisecond, func() {
					_ = c.kill()
					close(killed)
				})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			src, err := q.PutAudio(ctx, strings.NewReader(fmt.Sprintf("%d.%d", round, i)))
			j := job.Job{ID: job.NewID(), Source: src}
			if err == nil {
				err = q.Submit(ctx, j)
			}
			cancel()
			if err != nil {
				if i < 3 {
					t.Fatalf("job %d of a node that nobody has killed: %v", i, err)
				}
				break
			}
			accepted = append(accepted, j.ID)
		}
		<-killed
		q.Close()
	}
	q := open(t, startServer(t, EmbeddedConfig{Dir: dir}), func(c *Config) { c.Grace = time.Millisecond })
	if _, err := q.Reconcile(t.Context()); err != nil { // whatever was killed between two writes
		t.Fatal(err)
	}
	cfg := crashWorker("last")
	cfg.Slots = 4
	work(t, q, cfg, echo)
	drained(t, q)
	list, err := q.List(t.Context(), Filter{})
	if err != nil || len(list) < len(accepted) || len(accepted) < 10 {
		t.Fatalf("%d jobs known, %d accepted, %v", len(list), len(accepted), err)
	}
	for _, id := range accepted {
		if _, err := q.Result(t.Context(), id); err != nil {
			t.Errorf("accepted job %s: %v", id, err)
		}
	}
	if err := q.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	results, err := q.results.store.List(t.Context())
	if err != nil || len(results) != len(list) {
		t.Errorf("%d results of %d jobs, %v", len(results), len(list), err)
	}
	t.Logf("%d jobs accepted over 4 kills", len(accepted))
}

func TestServerRestartInPlace(t *testing.T) {
	server := startServer(t, EmbeddedConfig{Listen: "127.0.0.1:0"})
	q := open(t, server)
	url := server.URL()
	cfg := crashWorker("w")
	cfg.Slots = 2
	begun, finish := make(chan struct{}, 8), make(chan struct{})
	work(t, q, cfg, func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		begun <- struct{}{}
		for {
			select {
			case <-finish:
				return echo(ctx, d)
			case <-time.After(20 * time.Millisecond):
				d.Alive()
			}
		}
	})
	var jobs []job.Job
	for i := range 4 {
		jobs = append(jobs, submit(t, q, 1000+i))
	}
	<-begun
	<-begun
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Health(); err != nil || server.URL() != url {
		t.Errorf("after the restart: %v, %s; want %s", err, server.URL(), url)
	}
	eventually(t, "the queue is back", func() bool { return q.Ping(t.Context()) == nil })
	close(finish)
	for _, j := range jobs {
		if s := await(t, q, j.ID, job.Done); s.Attempt != 1 {
			t.Errorf("status %+v", s)
		}
	}
	drained(t, q)
}

func TestBrokerAway(t *testing.T) {
	server := startServer(t, EmbeddedConfig{})
	q := open(t, server)
	server.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := q.Status(ctx, job.NewID())
	wantCode(t, err, job.Transient, "QUEUE_UNREACHABLE")
	if err := server.Health(); err == nil {
		t.Error("a stopped server says that it is healthy")
	}
	_, err = Connect(t.Context(), Config{URL: "nats://127.0.0.1:1"})
	wantCode(t, err, job.Transient, "QUEUE_UNREACHABLE")
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = Connect(ctx, Config{URL: "nats://127.0.0.1:1", Retry: true})
	if err == nil || time.Since(start) < 250*time.Millisecond || errors.Is(err, context.Canceled) {
		t.Errorf("connect with retries: %v after %s", err, time.Since(start))
	}
}
