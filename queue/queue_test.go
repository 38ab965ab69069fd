package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
	"steno/transcript"
)

func TestSubmitWorkResult(t *testing.T) {
	q := newQueue(t)
	dir := t.TempDir()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16+3) // two chunks and a bit
	work(t, q, quick(), func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		path := filepath.Join(dir, string(d.Job.ID))
		if err := d.FetchTo(ctx, path); err != nil {
			return transcript.Transcript{}, err
		}
		got, err := os.ReadFile(path)
		if err := errors.Join(err, check(bytes.Equal(got, data), "the fetched bytes differ")); err != nil {
			return transcript.Transcript{}, err
		}
		d.Progress(job.Progress{Stage: job.StageTranscribe, Done: 1, Total: 2})
		d.Segments([]transcript.Segment{{Text: "part"}})
		time.Sleep(20 * time.Millisecond)
		return say("hello"), nil
	})
	j := submitBytes(t, q, data)
	if sum := sha256.Sum256(data); j.Source.SHA256 != hex.EncodeToString(sum[:]) || j.Source.Size != int64(len(data)) {
		t.Errorf("source %+v does not name the content", j.Source)
	}
	var states []job.State
	var parts, stages int
	updates, err := q.Watch(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	for s := range updates {
		states = append(states, s.State)
		parts += len(s.Segments)
		if s.State == job.Running && s.Progress.Stage == job.StageTranscribe && s.Progress.Fraction() == 0.5 {
			stages++
		}
	}
	if len(states) == 0 || states[len(states)-1] != job.Done || parts != 1 || stages == 0 {
		t.Errorf("watched states %v, %d segments, %d progress reports", states, parts, stages)
	}
	got, err := q.Result(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Text != "hello" || len(got.Segments) != 1 || got.Timings.QueueWait <= 0 {
		t.Errorf("result %+v", got)
	}
	s, err := q.Status(t.Context(), j.ID)
	if err != nil || s.Attempt != 1 || s.Worker != "" || s.Finished.IsZero() || len(s.History) != 1 || s.Job.Params.Model != "base" {
		t.Errorf("status %+v, %v", s, err)
	}
	drained(t, q)
}

func TestSubmitIsIdempotent(t *testing.T) {
	q := newQueue(t)
	j := submit(t, q, 100)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := q.Submit(t.Context(), j); err != nil {
				t.Errorf("submit again: %v", err)
			}
		})
	}
	wg.Wait()
	if d, err := q.Depth(t.Context()); err != nil || d.Pending != 1 || d.OldestAge <= 0 {
		t.Fatalf("depth %+v, %v; want 1 pending", d, err)
	}
	work(t, q, quick(), echo)
	await(t, q, j.ID, job.Done)
	if err := q.Submit(t.Context(), j); err != nil { // the window of message ids would not have to hold
		t.Fatal(err)
	}
	drained(t, q)
	if s := await(t, q, j.ID, job.Done); s.Attempt != 1 {
		t.Errorf("the job ran %d times", s.Attempt)
	}
}

func TestSameBytesAreStoredOnce(t *testing.T) {
	q := newQueue(t)
	data := bytes.Repeat([]byte("x"), 2<<20)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := q.PutAudio(t.Context(), bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := q.PutAudio(t.Context(), bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	list, err := q.audio.store.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%d objects, %v; want 1", len(list), err)
	}
	var got bytes.Buffer
	if err := q.audio.fetch(t.Context(), list[0].Name, &got); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("fetched %d bytes: %v", got.Len(), err)
	}
	// The layout is that of NATS, so that its tools can read it.
	if foreign, err := q.audio.store.GetBytes(t.Context(), list[0].Name); err != nil || !bytes.Equal(foreign, data) {
		t.Errorf("nats.go reads %d bytes: %v", len(foreign), err)
	}
}

// failingReader gives n bytes and then an error, or blocks until its context ends.
type failingReader struct {
	n   int
	ctx context.Context
}

func (r *failingReader) Read(p []byte) (int, error) {
	if r.n <= 0 {
		if r.ctx != nil {
			<-r.ctx.Done()
			return 1, nil // the reader itself notices nothing
		}
		return 0, errors.New("connection reset")
	}
	n := min(len(p), r.n)
	r.n -= n
	return n, nil
}

func TestCutUploadLeavesNothing(t *testing.T) {
	q := newQueue(t)
	cut, stop := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, stop)
	if _, err := q.PutAudio(cut, &failingReader{n: 3 << 20, ctx: cut}); !errors.Is(err, context.Canceled) {
		t.Errorf("cut by context: %v", err)
	}
	if _, err := q.PutAudio(t.Context(), &failingReader{n: 3 << 20}); err == nil {
		t.Error("no error from a reader that has one")
	}
	_, err := q.PutAudio(t.Context(), bytes.NewReader(nil))
	wantCode(t, err, job.Input, "FILE_EMPTY")
	info, err := q.audio.stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil || len(info.State.Subjects) != 0 {
		t.Errorf("the store keeps %v, %v", info.State.Subjects, err)
	}
}

func TestTwoWorkersRunEachJobOnce(t *testing.T) {
	server := startServer(t, EmbeddedConfig{})
	q := open(t, server)
	const jobs = 200
	var mu sync.Mutex
	ran := map[job.ID]int{}
	for i := range 2 {
		cfg := quick()
		cfg.Slots, cfg.Name, cfg.AckWait = 8, fmt.Sprint(i), 10*time.Second
		work(t, open(t, server), cfg, func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
			mu.Lock()
			defer mu.Unlock()
			ran[d.Job.ID]++
			return say(string(d.Job.ID)), nil
		})
	}
	src, err := q.PutAudio(t.Context(), bytes.NewReader([]byte("sound")))
	if err != nil {
		t.Fatal(err)
	}
	for range jobs {
		if err := q.Submit(t.Context(), job.Job{ID: job.NewID(), Source: src}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all jobs are done", func() bool {
		done, err := q.List(t.Context(), Filter{States: []job.State{job.Done}})
		return err == nil && len(done) == jobs
	})
	drained(t, q)
	mu.Lock()
	defer mu.Unlock()
	for id, n := range ran {
		if n != 1 {
			t.Errorf("job %s ran %d times", id, n)
		}
	}
	results, err := q.results.store.List(t.Context())
	if err != nil || len(results) != jobs || len(ran) != jobs {
		t.Errorf("%d results of %d jobs, %v; want %d", len(results), len(ran), err, jobs)
	}
}

func TestHigherPriorityIsSooner(t *testing.T) {
	q := newQueue(t)
	src, err := q.PutAudio(t.Context(), bytes.NewReader([]byte("sound")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []int{0, -1, 0, 5} {
		if err := q.Submit(t.Context(), job.Job{ID: job.NewID(), Source: src, Priority: p}); err != nil {
			t.Fatal(err)
		}
	}
	order := make(chan int, 4)
	work(t, q, quick(), func(_ context.Context, d *Delivery) (transcript.Transcript, error) {
		order <- d.Job.Priority
		return say(""), nil
	})
	var got []int
	for range 4 {
		got = append(got, <-order)
	}
	if fmt.Sprint(got) != "[5 0 0 -1]" {
		t.Errorf("order %v, want [5 0 0 -1]", got)
	}
}

func TestPools(t *testing.T) {
	q := newQueue(t)
	src, err := q.PutAudio(t.Context(), bytes.NewReader([]byte("sound")))
	if err != nil {
		t.Fatal(err)
	}
	gpu, other := job.Job{ID: job.NewID(), Source: src}, job.Job{ID: job.NewID(), Source: src}
	if err := errors.Join(q.Submit(t.Context(), gpu, InPool("gpu")), q.Submit(t.Context(), other)); err != nil {
		t.Fatal(err)
	}
	stop := work(t, q, quick(), echo)
	await(t, q, other.ID, job.Done)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if s, err := q.Status(t.Context(), gpu.ID); err != nil || s.State != job.Queued {
		t.Errorf("a worker of another pool took the job: %s, %v", s.State, err)
	}
	if d, err := q.Depth(t.Context()); err != nil || d.Pending != 1 || d.OldestAge <= 0 {
		t.Errorf("depth %+v, %v; want the job of the pool without workers", d, err)
	}
	cfg := quick()
	cfg.Pools = []string{"gpu", DefaultPool}
	work(t, q, cfg, echo)
	await(t, q, gpu.ID, job.Done)
	wantCode(t, q.Submit(t.Context(), job.Job{ID: job.NewID(), Source: src}, InPool("a.b")), job.Input, "BAD_POOL")
}

func TestSubmitRefuses(t *testing.T) {
	q := newQueue(t)
	src, err := q.PutAudio(t.Context(), bytes.NewReader([]byte("sound")))
	if err != nil {
		t.Fatal(err)
	}
	long := string(bytes.Repeat([]byte("x"), 70<<10))
	for name, c := range map[string]struct {
		job  job.Job
		code string
	}{
		"no id":       {job.Job{Source: src}, "BAD_JOB_ID"},
		"no source":   {job.Job{ID: job.NewID()}, "NO_SOURCE"},
		"no audio":    {job.Job{ID: job.NewID(), Source: job.Source{Object: "absent"}}, "AUDIO_MISSING"},
		"long prompt": {job.Job{ID: job.NewID(), Source: src, Params: job.Params{Prompt: long}}, "JOB_TOO_LARGE"},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, q.Submit(t.Context(), c.job), job.Input, c.code)
			if c.job.ID != "" {
				_, err := q.Status(t.Context(), c.job.ID)
				wantCode(t, err, job.Input, "JOB_NOT_FOUND")
			}
		})
	}
}

func TestQueueFull(t *testing.T) {
	q := newQueue(t, func(c *Config) { c.Limits.Jobs = 2 })
	first := submit(t, q, 10)
	submit(t, q, 10)
	refused := job.Job{ID: job.NewID(), Source: first.Source}
	wantCode(t, q.Submit(t.Context(), refused), job.Resource, "QUEUE_FULL")
	if _, err := q.Status(t.Context(), refused.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("a refused job left a record: %v", err)
	}
	work(t, q, quick(), echo)
	drained(t, q)
	if err := q.Submit(t.Context(), refused); err != nil {
		t.Fatalf("submit when there is room again: %v", err)
	}
	await(t, q, refused.ID, job.Done)
}

func TestRecordsFull(t *testing.T) {
	q := open(t, startServer(t, EmbeddedConfig{MaxBytes: minBytes}), func(c *Config) { c.Limits.Jobs = 1000 })
	first := submit(t, q, 10)
	prompt := string(bytes.Repeat([]byte("x"), 32<<10)) // 20 of them fill the bucket
	var err error
	accepted := 1
	for ; err == nil && accepted < 100; accepted++ {
		j := job.Job{ID: job.NewID(), Source: first.Source, Params: job.Params{Prompt: prompt}}
		err = q.Submit(t.Context(), j)
	}
	wantCode(t, err, job.Resource, "QUEUE_FULL")
	cfg := quick()
	cfg.Slots = 4
	work(t, q, cfg, echo)
	drained(t, q)
	done, err := q.List(t.Context(), Filter{States: []job.State{job.Done}})
	if err != nil || len(done) != accepted-1 {
		t.Errorf("%d of %d accepted jobs are done, %v", len(done), accepted-1, err)
	}
}

func TestAudioStoreFull(t *testing.T) {
	server := startServer(t, EmbeddedConfig{MaxBytes: minBytes})
	q := open(t, server)
	_, err := q.PutAudio(t.Context(), &failingReader{n: 20 << 20})
	wantCode(t, err, job.Resource, "QUEUE_STORE_FULL")
	submit(t, q, 1<<20) // what was sent of the other is gone
}

func TestListAndResultErrors(t *testing.T) {
	q := newQueue(t)
	a, b := submit(t, q, 10), submit(t, q, 10)
	_, err := q.Result(t.Context(), a.ID)
	wantCode(t, err, job.Input, "NOT_DONE")
	_, err = q.Result(t.Context(), job.NewID())
	wantCode(t, err, job.Input, "JOB_NOT_FOUND")
	_, err = q.Status(t.Context(), "a.*")
	wantCode(t, err, job.Input, "BAD_JOB_ID")
	list, err := q.List(t.Context(), Filter{})
	if err != nil || len(list) != 2 || list[0].Job.ID != b.ID {
		t.Errorf("list %v, %v; want the newest first", list, err)
	}
	list, err = q.List(t.Context(), Filter{States: []job.State{job.Done}})
	if err != nil || len(list) != 0 {
		t.Errorf("list of done jobs %v, %v", list, err)
	}
	if list, err = q.List(t.Context(), Filter{Limit: 1}); err != nil || len(list) != 1 {
		t.Errorf("list of one: %v, %v", list, err)
	}
}
