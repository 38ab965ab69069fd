package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"steno/audio"
	"steno/internal/failpoint"
	"steno/job"
	"steno/models"
	"steno/transcript"
)

// language is what the job is spoken in.
type language struct {
	code string
	prob float64
}

const (
	// sureLanguage ends the search for the language: below it the next chunk is heard too.
	sureLanguage = 0.5
	// maxDetect chunks are heard at most; the likeliest answer is taken then.
	maxDetect = 3
)

// transcribe splits the stream and fans the chunks out. The first hard error cancels the rest.
func (j *run) transcribe(ctx context.Context) (language, error) {
	lang := language{code: j.params.Language, prob: 1}
	if !j.held.Info().Multilingual {
		lang.code = "en"
	}
	err := j.stage(ctx, job.StageTranscribe, func(ctx context.Context) error {
		split := audio.Split(j.plan, j.streams...)
		j.chunks = split.Len()
		head, err := j.heads(ctx, split, &lang)
		if err != nil {
			return err
		}
		j.report.expect(split, j.streams)
		g, gctx := errgroup.WithContext(ctx)
		// Places bound memory: a chunk is read from the decoder only when there is somebody to take it.
		j.places = &places{here: make(chan struct{}, j.cfg.ChunksInFlight), first: (j.cfg.ChunksInFlight + 1) / 2}
		if j.in.Elsewhere != nil && j.in.Chunks != nil && j.chunks > j.places.first {
			if j.places.other = j.in.Elsewhere(gctx, j.held.Info().SHA256); j.places.other != nil {
				defer j.places.other.Close()
			}
		}
		for {
			elsewhere, err := j.places.take(gctx)
			if err != nil {
				return first(g.Wait(), err)
			}
			chunk, err := j.next(gctx, split, &head)
			if errors.Is(err, io.EOF) {
				if !elsewhere {
					j.places.give() // to one that comes back
				}
				break
			}
			if err != nil {
				return first(g.Wait(), err)
			}
			g.Go(func() error { return j.chunk(gctx, chunk, lang, elsewhere) })
		}
		return g.Wait()
	})
	return lang, err
}

// first prefers the error that cancelled the group over the cancellation that followed from it.
func first(cause, err error) error {
	if cause != nil {
		return cause
	}
	return err
}

// heads finds the language, where it is not known, in the first chunks, and returns the chunks that it took from split.
func (j *run) heads(ctx context.Context, split *audio.Splitter, lang *language) (head []audio.Chunk, err error) {
	if lang.code != "auto" {
		return nil, nil
	}
	best := language{code: "en"}
	for range maxDetect {
		chunk, err := j.next(ctx, split, nil)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		head = append(head, chunk)
		res, err := j.decode(ctx, chunk, models.Request{
			PCM: chunk.PCM, Language: "auto", DetectOnly: true, Threads: j.cfg.Threads,
		}, "lang")
		if err != nil {
			return nil, err
		}
		if res.LanguageProb > best.prob {
			best = language{res.Language, res.LanguageProb}
		}
		if best.prob >= sureLanguage {
			break
		}
	}
	*lang = best
	return head, nil
}

// next takes a chunk from head if there is one, else from split.
func (j *run) next(ctx context.Context, split *audio.Splitter, head *[]audio.Chunk) (audio.Chunk, error) {
	if head != nil && len(*head) > 0 {
		c := (*head)[0]
		*head = (*head)[1:]
		return c, nil
	}
	start := time.Now()
	defer func() { j.times.add(job.StageSplit, time.Since(start)) }()
	return split.Next(ctx)
}

// chunk transcribes one chunk, on another machine or here, and reports it.
func (j *run) chunk(ctx context.Context, c audio.Chunk, lang language, elsewhere bool) error {
	j.cfg.Metrics.inFlight.Inc()
	defer j.cfg.Metrics.inFlight.Dec()
	t := Task{
		Key: j.key.of(c, lang.code), Language: lang.code, Translate: j.params.Task == job.Translate,
		Words: j.params.Words, Prompt: j.params.Prompt,
	}
	var res models.Result
	done := false
	if elsewhere {
		if res, done = j.sendAway(ctx, c, t); !done {
			if err := j.places.come(ctx); err != nil {
				return err
			}
		}
	}
	if !done {
		defer j.places.give()
		r := t.request()
		r.PCM, r.Threads = c.PCM, threads(j.chunks, j.cfg.Threads)
		var err error
		if res, err = j.decode(ctx, c, r, lang.code); err != nil {
			return err
		}
	}
	return j.report.chunk(trackOf(c), transcript.Part{
		Index: c.Index, Start: audio.Seconds(c.Span.Start), End: audio.Seconds(c.Span.End), Segments: res.Segments,
	})
}

// sendAway has another machine decode a chunk, unless its result is kept, and says whether it was done.
func (j *run) sendAway(ctx context.Context, c audio.Chunk, t Task) (res models.Result, done bool) {
	if res, done, err := j.kept(ctx, t.Key, true); done || err != nil {
		return res, done // after an error it is asked for again here
	}
	data, err := j.places.other.Decode(ctx, t, pack(c.PCM))
	if err != nil {
		return res, false
	}
	if err := json.Unmarshal(data, &res); err != nil {
		j.log.Warn("read what another machine says of a chunk", "chunk", c.Index, "error", err)
		return models.Result{}, false
	}
	j.report.lock(func() { j.away++ })
	j.cfg.Metrics.chunks.WithLabelValues("elsewhere").Inc()
	return res, true
}

// kept is the result of before under a key, if there is one. count says whether it stands for a chunk.
func (j *run) kept(ctx context.Context, key string, count bool) (res models.Result, found bool, err error) {
	data, found, err := j.in.Chunks.Get(ctx, key)
	if err != nil || !found || json.Unmarshal(data, &res) != nil {
		return models.Result{}, false, err
	}
	if !count {
		return res, true, nil
	}
	j.report.lock(func() { j.reused++ })
	j.cfg.Metrics.chunks.WithLabelValues("reused").Inc()
	return res, true, nil
}

// threads is what each of n chunks may decode with on a machine of most threads: 1, since states in parallel beat threads within
// one (docs/adr/0003-one-pass.md), except where some cores would idle from the beginning.
func threads(n, most int) int { return max(1, most/max(1, n)) }

// decode gives the kept result of a chunk, or computes and keeps it.
func (j *run) decode(ctx context.Context, c audio.Chunk, r models.Request, variant string) (models.Result, error) {
	key := j.key.of(c, variant)
	if j.in.Chunks != nil {
		res, found, err := j.kept(ctx, key, !r.DetectOnly)
		if err != nil {
			return models.Result{}, job.Errorf(job.Transient, "CHUNK_STORE", "read kept chunk %d: %w", c.Index, err)
		}
		if found {
			return res, nil
		}
	}
	res, err := j.compute(ctx, c, r)
	if err != nil || j.in.Chunks == nil {
		return res, err
	}
	data, err := json.Marshal(res)
	if err != nil {
		return models.Result{}, fmt.Errorf("encode chunk %d: %w", c.Index, err)
	}
	if err := j.in.Chunks.Put(ctx, key, data); err != nil {
		return models.Result{}, job.Errorf(job.Transient, "CHUNK_STORE", "keep chunk %d: %w", c.Index, err)
	}
	if failpoint.On {
		failpoint.Hit(failpoint.ChunkKept)
	}
	return res, nil
}

// chunkAttempts is how often a chunk meets an engine. A death is charged to every chunk that the engine held, though one at
// most caused it. So the last attempt is made alone, and a chunk that kills then is poison beyond doubt.
const chunkAttempts = 3

func (j *run) compute(ctx context.Context, c audio.Chunk, r models.Request) (models.Result, error) {
	for attempt := 1; ; attempt++ {
		start := time.Now()
		res, err := j.attempt(ctx, r, attempt == chunkAttempts)
		if err == nil {
			j.cfg.Metrics.computed(r, res, time.Since(start))
			return res, nil
		}
		if ctx.Err() != nil {
			return models.Result{}, ctx.Err()
		}
		if !errors.Is(err, models.ErrEngineDied) {
			return models.Result{}, err
		}
		j.log.Warn("engine died under a chunk", "chunk", c.Index, "attempt", attempt, "error", err)
		j.cfg.Metrics.retries.Inc()
		if attempt == chunkAttempts && errors.Is(err, models.ErrEngineKilled) {
			return models.Result{}, errKilled(err)
		}
		if attempt == chunkAttempts {
			return models.Result{}, job.Errorf(job.Engine, "ENGINE_CRASH",
				"the engine died %d times on the audio from %.1f s to %.1f s, the last time on it alone: report it with this file (%w)",
				attempt, audio.Seconds(c.Span.Start), audio.Seconds(c.Span.End), err)
		}
	}
}

// load lends the job its model for as long as it runs. An engine that dies while it loads is replaced, as one that dies over a
// chunk is.
func (j *run) load(ctx context.Context) (*models.Lease, error) {
	for attempt := 1; ; attempt++ {
		lease, err := j.cfg.Pool.Acquire(ctx, j.spec())
		if err == nil || ctx.Err() != nil || !errors.Is(err, models.ErrEngineDied) {
			return lease, err
		}
		j.log.Warn("engine died while it loaded", "model", j.model, "attempt", attempt, "error", err)
		switch {
		case attempt < chunkAttempts:
		case errors.Is(err, models.ErrEngineKilled):
			return nil, errKilled(err)
		default:
			return nil, job.Errorf(job.Engine, "ENGINE_CRASH",
				"the engine died %d times while it loaded model %s: check the file with `steno models verify`, and report it (%w)",
				attempt, j.model, err)
		}
	}
}

// errKilled hands the job back without having spent an attempt.
func errKilled(err error) error {
	return job.Errorf(job.Resource, "ENGINE_KILLED",
		"something on this machine kills the engine: see who does, the job goes on from its finished chunks (%w)", err)
}

// attempt runs the request beside others, or alone among all chunks of this runner.
func (j *run) attempt(ctx context.Context, r models.Request, alone bool) (models.Result, error) {
	if alone {
		j.isolation.Lock()
		defer j.isolation.Unlock()
	} else {
		j.isolation.RLock()
		defer j.isolation.RUnlock()
	}
	if err := ctx.Err(); err != nil {
		return models.Result{}, err
	}
	return j.once(ctx, r)
}

// once runs the request on whatever engine holds the model now.
func (j *run) once(ctx context.Context, r models.Request) (models.Result, error) {
	lease, err := j.cfg.Pool.Acquire(ctx, j.spec())
	if err != nil {
		return models.Result{}, err
	}
	defer lease.Release()
	return lease.Transcribe(ctx, string(j.in.Job.ID), r, nil)
}
