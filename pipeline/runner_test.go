package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"steno/audio"
	"steno/job"
	"steno/models"
	"steno/pipeline"
	"steno/transcript"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("steno/internal/proc.spawn"))
}

// scripted is an engine that does what the test says, for crashes and exact timing; the audio before it is real.
type scripted struct {
	run  func(ctx context.Context, call int, r models.Request) (models.Result, error)
	call atomic.Int64
	done chan struct{}
	once sync.Once
}

func (s *scripted) Info() models.Info {
	return models.Info{Model: "scripted", Device: "cpu", SHA256: "abc", Multilingual: true, States: 8, Bytes: 1}
}

func (s *scripted) Transcribe(ctx context.Context, r models.Request, _ func([]transcript.Segment)) (models.Result, error) {
	if r.DetectOnly {
		return models.Result{Language: "de", LanguageProb: 0.8}, nil
	}
	res, err := s.run(ctx, int(s.call.Add(1)), r)
	if errors.Is(err, models.ErrEngineDied) {
		s.die()
	}
	return res, err
}

func (s *scripted) Done() <-chan struct{} { return s.done }
func (s *scripted) Err() error            { return models.ErrEngineDied }
func (s *scripted) Close() error          { s.die(); return nil }
func (s *scripted) die()                  { s.once.Do(func() { close(s.done) }) }

// loader makes scripted engines, a new one after each death.
type loader struct {
	run   func(ctx context.Context, call int, r models.Request) (models.Result, error)
	dies  int64 // the first so many die while they load
	loads atomic.Int64
}

func (l *loader) Load(context.Context, models.Spec) (models.Engine, error) {
	if l.loads.Add(1) <= l.dies {
		return nil, fmt.Errorf("%w: %w", models.ErrEngineDied, models.ErrEngineKilled)
	}
	return &scripted{run: l.run, done: make(chan struct{})}, nil
}

func (l *loader) Estimate(models.Spec) (int64, error) { return 1, nil }

// says answers with the chunk's length as its text.
func says(_ context.Context, _ int, r models.Request) (models.Result, error) {
	seconds := float64(len(r.PCM)) / audio.Rate
	return models.Result{Language: r.Language, Segments: []transcript.Segment{{Start: 0, End: seconds, Text: fmt.Sprintf("%.0f", seconds)}}}, nil
}

// tone makes a recording of the given seconds of sound.
func tone(t *testing.T, seconds int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tone.wav")
	out, err := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
		fmt.Sprintf("sine=440:r=16000:d=%d", seconds), path).CombinedOutput()
	if err != nil {
		t.Fatalf("make a tone: %v: %s", err, out)
	}
	return path
}

func runner(t *testing.T, l *loader, m *pipeline.Metrics) *pipeline.Runner {
	t.Helper()
	return runnerOf(t, l, pipeline.Config{ChunksInFlight: 4, Metrics: m})
}

// runnerOf is a runner with the scripted engines of l, and c besides.
func runnerOf(t *testing.T, l *loader, c pipeline.Config) *pipeline.Runner {
	t.Helper()
	tools, err := audio.FindTools()
	if err != nil {
		t.Fatal(err)
	}
	pool, err := models.NewPool(models.PoolConfig{Slots: 4, MaxBytes: 100}, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Close(context.Background()) })
	c.Tools, c.Pool = tools, pool
	return pipeline.New(c)
}

func input(path string) pipeline.Input {
	return pipeline.Input{Path: path, Job: job.Job{ID: job.NewID(), FileName: "tone.wav", Source: job.Source{SHA256: "f00"}}}
}

func TestRunMergesChunksInOrder(t *testing.T) {
	l := &loader{run: func(ctx context.Context, call int, r models.Request) (models.Result, error) {
		time.Sleep(time.Duration(5-call) * 20 * time.Millisecond) // later chunks end first
		return says(ctx, call, r)
	}}
	var seen []job.Progress
	in := input(tone(t, 100))
	in.OnProgress = func(p job.Progress) { seen = append(seen, p) }
	var final []transcript.Segment
	in.OnSegments = func(s []transcript.Segment) { final = append(final, s...) }
	reg := prometheus.NewRegistry()
	m := pipeline.NewMetrics(reg)
	tr, err := runner(t, l, m).Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Chunks != 4 || len(tr.Segments) != 4 || tr.Language != "de" || tr.Duration != 100 || !tr.ColdStart {
		t.Errorf("%d chunks, %d segments, %s, %v s, cold %v: want 4, 4, de, 100, true", tr.Chunks, len(tr.Segments), tr.Language, tr.Duration, tr.ColdStart)
	}
	for i := 1; i < len(tr.Segments); i++ {
		if tr.Segments[i].Start != tr.Segments[i-1].End {
			t.Errorf("segment %d starts at %v, the one before ends at %v", i, tr.Segments[i].Start, tr.Segments[i-1].End)
		}
	}
	if !reflect.DeepEqual(final, tr.Segments) {
		t.Errorf("segments shown meanwhile %v, want those of the transcript: %v", final, tr.Segments)
	}
	for i := 1; i < len(seen); i++ {
		if seen[i].Done < seen[i-1].Done {
			t.Errorf("progress went back from %v to %v", seen[i-1], seen[i])
		}
	}
	if last := seen[len(seen)-1]; last.Fraction() != 1 || last.Stage != job.StageMerge {
		t.Errorf("last progress %+v, want all of it, at merge", last)
	}
	if len(tr.Plan) == 0 || tr.Timings.Total <= 0 || tr.Timings.Transcribe <= 0 {
		t.Errorf("plan %v, timings %+v: want both filled in", tr.Plan, tr.Timings)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

// TestFinalSegmentsComeAtOnce holds later chunks back until the first one's segments are there. One is decoded at a time: which of
// several gets to an engine first is chance.
func TestFinalSegmentsComeAtOnce(t *testing.T) {
	shown := make(chan struct{})
	l := &loader{run: func(ctx context.Context, call int, r models.Request) (models.Result, error) {
		if call > 1 {
			select {
			case <-shown:
			case <-ctx.Done():
				return models.Result{}, ctx.Err()
			}
		}
		return says(ctx, call, r)
	}}
	in := input(tone(t, 100))
	show := sync.OnceFunc(func() { close(shown) })
	in.OnSegments = func([]transcript.Segment) { show() }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := runnerOf(t, l, pipeline.Config{ChunksInFlight: 1}).Run(ctx, in); err != nil {
		t.Errorf("%v: the first chunk's segments were not shown before the others were done", err)
	}
}

func TestFirstHardErrorEndsTheRest(t *testing.T) {
	boom := errors.New("boom")
	l := &loader{run: func(ctx context.Context, call int, r models.Request) (models.Result, error) {
		if call == 2 {
			return models.Result{}, boom
		}
		<-ctx.Done() // only an end of the context lets the others return
		return models.Result{}, ctx.Err()
	}}
	_, err := runner(t, l, nil).Run(t.Context(), input(tone(t, 200)))
	var je *job.Error
	if !errors.Is(err, boom) || !errors.As(err, &je) || je.Class != job.Internal {
		t.Errorf("error %v, want the chunk's, of class INTERNAL", err)
	}
}

func TestEngineDeathCostsOneRetry(t *testing.T) {
	var deaths atomic.Int64
	l := &loader{}
	l.run = func(ctx context.Context, call int, r models.Request) (models.Result, error) {
		if deaths.CompareAndSwap(0, 1) {
			return models.Result{}, fmt.Errorf("%w: signal: killed", models.ErrEngineDied)
		}
		return says(ctx, call, r)
	}
	tr, err := runner(t, l, nil).Run(t.Context(), input(tone(t, 100)))
	if err != nil || len(tr.Segments) != 4 {
		t.Fatalf("%d segments, %v: want 4", len(tr.Segments), err)
	}
	if n := l.loads.Load(); n != 2 {
		t.Errorf("%d loads, want 2: the dead engine was replaced once", n)
	}
}

func TestPoisonedChunkFailsTheJob(t *testing.T) {
	l := &loader{run: func(context.Context, int, models.Request) (models.Result, error) {
		return models.Result{}, fmt.Errorf("%w: signal: aborted", models.ErrEngineDied)
	}}
	_, err := runner(t, l, nil).Run(t.Context(), input(tone(t, 10)))
	var je *job.Error
	if !errors.As(err, &je) || je.Class != job.Engine || je.Code != "ENGINE_CRASH" {
		t.Errorf("error %v, want ENGINE_CRASH", err)
	}
	if n := l.loads.Load(); n > 3 {
		t.Errorf("%d loads: a chunk that killed three engines, the last one alone, must not meet a fourth", n)
	}
}

func TestKillsFromOutsideAreNotTheChunksFault(t *testing.T) {
	l := &loader{run: func(context.Context, int, models.Request) (models.Result, error) {
		return models.Result{}, fmt.Errorf("%w: %w", models.ErrEngineDied, models.ErrEngineKilled)
	}}
	_, err := runner(t, l, nil).Run(t.Context(), input(tone(t, 10)))
	var je *job.Error
	if !errors.As(err, &je) || je.Class != job.Resource || je.Permanent() {
		t.Errorf("error %v, want one of class RESOURCE, so that the job goes back to the queue", err)
	}
}

// TestSecondDeathIsSurvived lets two engines die one after the other: a chunk that met both is tried once more, alone.
func TestSecondDeathIsSurvived(t *testing.T) {
	var deaths atomic.Int64
	l := &loader{}
	l.run = func(ctx context.Context, call int, r models.Request) (models.Result, error) {
		time.Sleep(50 * time.Millisecond)
		if n := deaths.Load(); n < 2 && deaths.CompareAndSwap(n, n+1) {
			return models.Result{}, fmt.Errorf("%w: signal: killed", models.ErrEngineDied)
		}
		return says(ctx, call, r)
	}
	tr, err := runner(t, l, nil).Run(t.Context(), input(tone(t, 200)))
	if err != nil || len(tr.Segments) != tr.Chunks {
		t.Fatalf("%d segments of %d chunks, %v", len(tr.Segments), tr.Chunks, err)
	}
}

// TestDeathsWhileLoading lets engines die before they have their model: as over a chunk, two are survived, and after three the job
// goes back to the queue.
func TestDeathsWhileLoading(t *testing.T) {
	path := tone(t, 10)
	if tr, err := runner(t, &loader{run: says, dies: 2}, nil).Run(t.Context(), input(path)); err != nil || len(tr.Segments) != 1 {
		t.Errorf("after two deaths: %d segments, %v", len(tr.Segments), err)
	}
	_, err := runner(t, &loader{run: says, dies: 3}, nil).Run(t.Context(), input(path))
	var je *job.Error
	if !errors.As(err, &je) || je.Class != job.Resource || je.Code != "ENGINE_KILLED" {
		t.Errorf("after three: %v, want ENGINE_KILLED of class RESOURCE", err)
	}
}

// memory is a chunk store.
type memory struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (m *memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.data[key]
	return v, ok, nil
}

func (m *memory) Put(_ context.Context, key string, v []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		m.data = map[string][]byte{}
	}
	m.data[key] = slices.Clone(v)
	return nil
}

func TestFinishedChunksAreNotComputedAgain(t *testing.T) {
	var store memory
	path := tone(t, 200)
	ctx, cancel := context.WithCancel(t.Context())
	var computed atomic.Int64
	l := &loader{run: func(_ context.Context, call int, r models.Request) (models.Result, error) {
		if computed.Add(1) == 4 {
			cancel() // as a drain would
		}
		return says(ctx, call, r)
	}}
	r := runner(t, l, nil)
	in := input(path)
	in.Chunks = &store
	if _, err := r.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want the cancellation", err)
	}
	kept := 0
	for range store.data {
		kept++
	}
	before := computed.Load()
	in.Job.ID = job.NewID() // another job on the same content shares the work
	tr, err := r.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	again := computed.Load() - before
	if tr.ChunksReused == 0 || int(again)+tr.ChunksReused != tr.Chunks || tr.ChunksReused+1 < kept-1 {
		t.Errorf("%d of %d chunks reused, %d computed again, %d results kept", tr.ChunksReused, tr.Chunks, again, kept)
	}
	in.Job.Params.Prompt = "other parameters"
	if tr, err = r.Run(t.Context(), in); err != nil || tr.ChunksReused != 0 {
		t.Errorf("%d chunks reused under other parameters, %v: want none", tr.ChunksReused, err)
	}
}

// slow is a loader whose load ends with its context only.
type slow struct{ loader }

func (l *slow) Load(ctx context.Context, _ models.Spec) (models.Engine, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestBadFileDoesNotWaitForTheModel(t *testing.T) {
	tools, err := audio.FindTools()
	if err != nil {
		t.Fatal(err)
	}
	pool, err := models.NewPool(models.PoolConfig{Slots: 1, MaxBytes: 100}, &slow{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close(context.Background()) }()
	whole, err := os.ReadFile(tone(t, 20))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.flac")
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-i", "pipe:0", "-y", path)
	cmd.Stdin = bytes.NewReader(whole)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make a flac file: %v: %s", err, out)
	}
	if err := os.Truncate(path, 20_000); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = pipeline.New(pipeline.Config{Tools: tools, Pool: pool}).Run(t.Context(), input(path))
	var je *job.Error
	if !errors.As(err, &je) || je.Code != "TRUNCATED" || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v, want TRUNCATED at once", err, time.Since(start))
	}
}

func TestUserErrorsComeThrough(t *testing.T) {
	l := &loader{run: says}
	for name, c := range map[string]struct {
		path   string
		params job.Params
		code   string
	}{
		"absent":   {"/nowhere/a.mp3", job.Params{}, "FILE_NOT_FOUND"},
		"chunk":    {tone(t, 1), job.Params{ChunkSeconds: 1}, "BAD_PARAMETER"},
		"language": {tone(t, 1), job.Params{Language: "klingon"}, "BAD_PARAMETER"},
		"loudness": {tone(t, 1), job.Params{Loudness: "loud"}, "BAD_PARAMETER"},
	} {
		in := input(c.path)
		in.Job.Params = c.params
		_, err := runner(t, l, nil).Run(t.Context(), in)
		var je *job.Error
		if !errors.As(err, &je) || je.Code != c.code || je.Class != job.Input {
			t.Errorf("%s: error %v, want %s", name, err, c.code)
		}
	}
}
