// Package pipeline is the main line: one recording in, one transcript out.
//
//	probe → plan → prepare → split → transcribe (bounded fan-out), diarize beside it → merge
//
// The order is fixed and the types between the stages are plain; a Stage is a name that gives a step its timing, its log
// line and its error, not an interface. The package knows no broker, no database and no HTTP: the queue and the command
// line both hand it a file and get a transcript.
package pipeline

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"steno/audio"
	"steno/internal/failpoint"
	"steno/job"
	"steno/models"
	"steno/transcript"
)

// Pool lends loaded models; *models.Pool is one.
type Pool interface {
	Acquire(ctx context.Context, spec models.Spec) (*models.Lease, error)
}

// ChunkStore keeps finished chunks until the job is recorded, so that work is never done twice. Implementations must be
// safe for concurrent use.
type ChunkStore interface {
	Get(ctx context.Context, key string) (data []byte, found bool, err error)
	Put(ctx context.Context, key string, data []byte) error
}

// Config is what a Runner needs. Tools and Pool are required.
type Config struct {
	Tools audio.Tools
	Pool  Pool
	// Voices tells speakers apart who have no channel each. nil: nobody does.
	Voices Voices
	// Resolve finds the model file that serves a name or alias, and why that one. Default: the name itself.
	Resolve func(model string) (name, reason string, err error)
	// ChunksInFlight bounds the chunks of one job in memory and in decode. Default 4: what a decode state per core of the
	// smallest machine takes with one chunk waiting for each.
	ChunksInFlight int
	// Threads is the number of decode states that work side by side, and so the most threads that a chunk of a job's incomplete
	// last round may use. Default 1.
	Threads int
	// MaxDuration is the longest audio taken. Default 24 h.
	MaxDuration time.Duration
	Metrics     *Metrics     // nil: not measured
	Log         *slog.Logger // nil: slog.Default
}

// WithDefaults returns c with every empty field set to its documented default.
func (c Config) WithDefaults() Config {
	if c.ChunksInFlight == 0 {
		c.ChunksInFlight = 4
	}
	if c.Threads == 0 {
		c.Threads = 1
	}
	if c.MaxDuration == 0 {
		c.MaxDuration = 24 * time.Hour
	}
	if c.Resolve == nil {
		c.Resolve = func(model string) (string, string, error) { return model, "asked for", nil }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	return c
}

// Runner runs jobs. It is safe for concurrent use: each Run has its own state.
type Runner struct {
	cfg Config
	// isolation is held for writing by a chunk that two engines died under, and for reading by all others: only what ran
	// alone can be blamed. It is held for one chunk at most, a few seconds.
	isolation sync.RWMutex
}

// New makes a Runner.
func New(cfg Config) *Runner { return &Runner{cfg: cfg.WithDefaults()} }

// Input is one job with its audio on local disk.
type Input struct {
	Job  job.Job
	Path string // absolute
	// QueueWait is how long the job waited before Run, for the timings.
	QueueWait time.Duration
	// Chunks keeps finished chunks over a restart; nil keeps none.
	Chunks ChunkStore
	// Elsewhere, if set, begins to look for other machines with these weights, by their SHA-256; nil where there can be none. A
	// job that has Elsewhere has Chunks.
	Elsewhere func(ctx context.Context, weights string) Elsewhere
	// OnProgress and OnSegments may be nil. They are called one at a time and must not block. OnSegments gets segments as they
	// will stand in the transcript, in its order, as soon as all speech before them is transcribed. Where speakers are told apart by
	// voice, the transcript has them besides, and segments that are taken apart where the speaker changes.
	OnProgress func(job.Progress)
	OnSegments func([]transcript.Segment)
}

// run is the state of one Run call.
type run struct {
	*Runner
	in     Input
	params job.Params
	log    *slog.Logger
	times  times
	report *reporter

	model   string // what Resolve found
	info    audio.Info
	plan    audio.Plan
	streams []*audio.Stream         // one, or one for each speaker
	cancel  context.CancelCauseFunc // ends the streams
	held    *models.Lease           // keeps the model loaded while the job runs
	cold    bool
	key     chunkKey
	places  *places
	chunks  int // of the whole job
	reused  int
	away    int // decoded by other machines
	warns   []string
	// incomplete says that something that was asked for is left out; warns tells why.
	incomplete bool
}

// Run turns one recording into a transcript. An error is a *job.Error, or the context's when it ended. Everything that Run
// started has ended when it returns.
func (r *Runner) Run(ctx context.Context, in Input) (transcript.Transcript, error) {
	start := time.Now()
	j := &run{
		Runner: r, in: in, params: in.Job.Params.WithDefaults(),
		log: r.cfg.Log.With("job", in.Job.ID, "file", in.Job.FileName),
	}
	if j.params.Diarize && r.cfg.Voices != nil {
		j.params.Words = true // to know whose each is
	}
	j.times.set(job.StageQueue, in.QueueWait)
	j.report = &reporter{progress: in.OnProgress, segments: in.OnSegments}
	// The pool is fair between flows: everything that this job acquires belongs to one.
	ctx = models.WithFlow(ctx, string(in.Job.ID))
	t, err := j.line(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return transcript.Transcript{}, context.Cause(ctx)
		}
		return transcript.Transcript{}, job.AsError(err)
	}
	t.Timings = j.times.timings(time.Since(start))
	r.cfg.Metrics.finished(t)
	j.log.Info("transcribed", "audio_seconds", t.Duration, "seconds", t.Timings.Total, "segments", len(t.Segments),
		"chunks", t.Chunks, "chunks_reused", t.ChunksReused, "chunks_elsewhere", t.ChunksElsewhere, "language", t.Language,
		"cold", t.ColdStart)
	if t.Duration >= worthTelling && t.Timings.Total > t.Duration {
		j.log.Warn("slower than speech", "audio_seconds", t.Duration, "timings", t.Timings)
	}
	return t, nil
}

// worthTelling is how many seconds of audio a job has whose slowness is no matter of its start alone.
const worthTelling = 30

func (j *run) line(ctx context.Context) (transcript.Transcript, error) {
	if err := j.params.Validate(); err != nil {
		return transcript.Transcript{}, err
	}
	if err := j.stage(ctx, job.StageProbe, func(ctx context.Context) (err error) {
		j.info, err = audio.Probe(ctx, j.cfg.Tools, j.in.Path)
		return err
	}); err != nil {
		return transcript.Transcript{}, err
	}
	if failpoint.On {
		failpoint.Hit(failpoint.Probed)
	}
	if err := j.stage(ctx, job.StagePlan, func(context.Context) (err error) {
		if j.plan, err = audio.NewPlan(j.info, audio.WantFrom(j.params), j.resources()); err != nil {
			return err
		}
		name, reason, err := j.cfg.Resolve(j.params.Model)
		j.model = name
		j.plan.Choices = append(j.plan.Choices, transcript.Choice{Name: "model", Value: name, Reason: reason})
		return err
	}); err != nil {
		return transcript.Transcript{}, err
	}
	if err := j.prepareAndLoad(ctx); err != nil {
		return transcript.Transcript{}, err
	}
	defer j.close()
	voices := j.startDiarization(ctx)
	defer voices.stop()
	lang, err := j.transcribe(ctx)
	if err != nil {
		return transcript.Transcript{}, err
	}
	return j.merge(ctx, lang, voices)
}

func (j *run) resources() audio.Resources {
	return audio.Resources{Slots: j.cfg.ChunksInFlight, MaxDuration: j.cfg.MaxDuration}
}

// prepareAndLoad measures the audio while the model loads: neither needs the other, and if one fails the other is called off.
func (j *run) prepareAndLoad(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	// The streams outlive the group, whose context ends with it.
	sctx, cancel := context.WithCancelCause(ctx)
	j.cancel = cancel
	g.Go(func() error {
		err := j.stage(gctx, job.StageLoad, func(ctx context.Context) (err error) {
			j.held, err = j.load(ctx)
			return err
		})
		if err != nil {
			cancel(err)
		}
		return err
	})
	g.Go(func() error {
		return j.stage(gctx, job.StagePrepare, func(context.Context) (err error) {
			j.streams, err = audio.PrepareTracks(sctx, j.cfg.Tools, j.in.Path, j.info, j.plan)
			return err
		})
	})
	if err := g.Wait(); err != nil {
		j.close()
		return err
	}
	if failpoint.On {
		failpoint.Hit(failpoint.Prepared)
	}
	j.cold = j.held.Cold()
	j.key = newChunkKey(j.in.Job, j.params, j.held.Info(), j.plan)
	for _, s := range j.streams {
		j.warns = append(j.warns, s.Measurement().Warnings...)
	}
	return nil
}

func (j *run) spec() models.Spec {
	return models.Spec{Model: j.model, Words: j.params.Words}
}

func (j *run) close() {
	j.cancel(nil)
	for _, s := range j.streams {
		_ = s.Close() // the error of a stream that ended early says nothing new
	}
	if j.held != nil {
		j.held.Release()
	}
}

// waveformSteps are more than a wide screen has columns: 11 KB in a transcript's JSON, and half a second each in an hour.
const waveformSteps = 8000

func (j *run) merge(ctx context.Context, lang language, voices *diarization) (transcript.Transcript, error) {
	segs, err := j.report.all()
	if err == nil {
		segs, err = j.nameSpeakers(ctx, segs, voices)
	}
	if err != nil {
		return transcript.Transcript{}, err
	}
	if !j.in.Job.Params.Words {
		segs = withoutWords(segs)
	}
	tl := j.streams[0].Timeline()
	t := transcript.Transcript{
		Language: lang.code, LanguageProb: lang.prob, Duration: audio.Seconds(tl.Total),
		Model: j.held.Info().Model, Device: j.held.Info().Device, Task: string(j.params.Task),
		ColdStart: j.cold, Chunks: j.chunks, ChunksReused: j.reused, ChunksElsewhere: j.away, Plan: j.plan.Choices, Warnings: j.warns,
		Incomplete: j.incomplete, Segments: segs,
	}
	err = j.stage(ctx, job.StageMerge, func(context.Context) error {
		t.Text = transcript.Text(t.Segments)
		wave := audio.Waveform(waveformSteps, j.streams...)
		t.Waveform = &wave
		return nil
	})
	if failpoint.On {
		failpoint.Hit(failpoint.Merged)
	}
	return t, err
}
