package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"steno/job"
	"steno/transcript"
)

// The test binary is its own child: a first argument that is a role makes it play it.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		if role := roles[os.Args[1]]; role != nil {
			if err := role(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

func testLog(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// startServer runs an embedded server for one test.
func startServer(t *testing.T, cfg EmbeddedConfig) *Server {
	t.Helper()
	cfg.Dir = or(cfg.Dir, t.TempDir())
	cfg.MaxBytes = or(cfg.MaxBytes, 256<<20)
	cfg.Log = testLog(t)
	s, err := Embedded(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// open connects to a server within this process.
func open(t *testing.T, s *Server, change ...func(*Config)) *Queue {
	t.Helper()
	cfg := Config{Server: s, Log: testLog(t), Metrics: prometheus.NewRegistry()}
	for _, fn := range change {
		fn(&cfg)
	}
	q, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

func newQueue(t *testing.T, change ...func(*Config)) *Queue {
	t.Helper()
	return open(t, startServer(t, EmbeddedConfig{}), change...)
}

// quick is a worker for tests: everything that waits waits little.
func quick() WorkerConfig {
	return WorkerConfig{
		Name: "w", AckWait: 2 * time.Second, RetryBase: 20 * time.Millisecond, RetryCap: 100 * time.Millisecond,
		PollEvery: 50 * time.Millisecond, DrainTimeout: 2 * time.Second, NoMaintenance: true,
	}
}

// work runs a worker until the test ends, or until the function it returns is called, which waits for the drain.
func work(t *testing.T, q *Queue, cfg WorkerConfig, h Handler) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- q.Work(ctx, cfg, h) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-result
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// submit stores size random bytes and queues a job on them.
func submit(t *testing.T, q *Queue, size int) job.Job {
	t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	return submitBytes(t, q, data)
}

func submitBytes(t *testing.T, q *Queue, data []byte) job.Job {
	t.Helper()
	src, err := q.PutAudio(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	j := job.Job{ID: job.NewID(), FileName: "talk.mp3", Source: src}
	if err := q.Submit(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	return j
}

// await waits for a state and returns the status; it fails when the job ends in another one.
func await(t *testing.T, q *Queue, id job.ID, want job.State) Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	updates, err := q.Watch(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	var last Status
	for s := range updates {
		last = s
		if s.State == want {
			return s
		}
		if s.State.Terminal() {
			t.Fatalf("job %s is %s (%v), want %s", id, s.State, s.Error, want)
		}
	}
	t.Fatalf("job %s stays %s, want %s", id, last.State, want)
	return last
}

// eventually waits until ok says so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func wantCode(t *testing.T, err error, class job.Class, code string) {
	t.Helper()
	var e *job.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a *job.Error with code %s", err, code)
	}
	if e.Class != class || e.Code != code {
		t.Fatalf("error %s %s (%v), want %s %s", e.Class, e.Code, err, class, code)
	}
}

// drained checks that nothing is left over when all jobs have ended.
func drained(t *testing.T, q *Queue) {
	t.Helper()
	eventually(t, "the stream is empty", func() bool {
		d, err := q.Depth(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return d.Pending == 0 && d.InFlight == 0
	})
}

func say(text string) transcript.Transcript {
	return transcript.Transcript{Text: text, Language: "en", Segments: []transcript.Segment{{Text: text, End: 1}}}
}

// echo is a handler whose transcript says how long the audio was.
func echo(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
	var buf bytes.Buffer
	if err := d.Fetch(ctx, &buf); err != nil {
		return transcript.Transcript{}, err
	}
	return say(fmt.Sprintf("%d bytes", buf.Len())), nil
}
