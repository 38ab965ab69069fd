package pipeline

import (
	"context"
	"sync"
	"time"

	"steno/audio"
	"steno/job"
	"steno/transcript"
)

// stage runs one step under its name: it times it, tells the user where the job is, and logs how it ended.
func (j *run) stage(ctx context.Context, name job.Stage, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	start := time.Now()
	if name != job.StageLoad && name != job.StageDiarize { // they overlap another one, which is what the user should see
		j.report.stage(name)
	}
	err := f(ctx)
	took := time.Since(start)
	j.times.add(name, took)
	j.cfg.Metrics.stage.WithLabelValues(string(name)).Observe(took.Seconds())
	j.log.Debug("stage", "stage", name, "seconds", took.Seconds(), "error", err)
	return err
}

// times are the seconds of each stage. Safe for concurrent use.
type times struct {
	mu sync.Mutex
	d  map[job.Stage]time.Duration
}

func (t *times) set(s job.Stage, d time.Duration) { t.add(s, d) }

func (t *times) add(s job.Stage, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.d == nil {
		t.d = make(map[job.Stage]time.Duration)
	}
	t.d[s] += d
}

func (t *times) timings(total time.Duration) transcript.Timings {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := func(st job.Stage) float64 { return t.d[st].Seconds() }
	return transcript.Timings{
		QueueWait: s(job.StageQueue), Probe: s(job.StageProbe), Plan: s(job.StagePlan), Prepare: s(job.StagePrepare),
		Split: s(job.StageSplit), ModelLoad: s(job.StageLoad), Transcribe: s(job.StageTranscribe),
		Diarize: s(job.StageDiarize), Merge: s(job.StageMerge), Total: total.Seconds(),
	}
}

// reporter joins what the chunks say and tells the user how far the job is, one call at a time. Safe for concurrent use.
type reporter struct {
	progress func(job.Progress)
	segments func([]transcript.Segment)

	mu       sync.Mutex
	now      job.Progress
	tracks   *transcript.Tracks
	speech   float64 // seconds of speech to transcribe
	finished float64 // of those, done
}

func (r *reporter) lock(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *reporter) stage(s job.Stage) {
	r.lock(func() {
		r.now.Stage = s
		r.tell()
	})
}

// expect says what there is to do. It comes before the first chunk.
func (r *reporter) expect(split *audio.Splitter, streams []*audio.Stream) {
	r.lock(func() {
		var tracks []transcript.Track
		for _, s := range streams {
			tl := s.Timeline()
			tracks = append(tracks, transcript.Track{Speaker: speaker(s), Pauses: pauses(tl), Starts: seconds(split.Starts(s))})
			r.speech += speech(tl)
			r.now.Total = max(r.now.Total, audio.Seconds(tl.Total))
		}
		r.tracks = transcript.NewTracks(tracks...)
		r.tell()
	})
}

// trackOf is the track of a chunk: its channel's, or the only one.
func trackOf(c audio.Chunk) int { return max(0, c.Channel-1) }

// speaker is the name of whoever has the stream's channel; "" where all channels are mixed.
func speaker(s *audio.Stream) string {
	if s.Channel() == 0 {
		return ""
	}
	return transcript.SpeakerName(s.Channel())
}

func seconds(samples []int64) []float64 {
	at := make([]float64, len(samples))
	for i, s := range samples {
		at[i] = audio.Seconds(s)
	}
	return at
}

// speech is the number of seconds that will be transcribed.
func speech(tl audio.Timeline) float64 {
	var n int64
	for _, s := range tl.Speech {
		n += s.Len()
	}
	return audio.Seconds(n)
}

func pauses(tl audio.Timeline) []transcript.Pause {
	ps := make([]transcript.Pause, len(tl.Pauses))
	for i, s := range tl.Pauses {
		ps[i] = transcript.Pause{Start: audio.Seconds(s.Start), End: audio.Seconds(s.End)}
	}
	return ps
}

// chunk counts a finished chunk of a track and hands out the segments that are final with it.
func (r *reporter) chunk(track int, p transcript.Part) (err error) {
	r.lock(func() {
		r.finished += p.End - p.Start
		if r.speech > 0 {
			r.now.Done = min(1, r.finished/r.speech) * r.now.Total
		}
		r.tell()
		var final []transcript.Segment
		if final, err = r.tracks.Add(track, p); r.segments != nil && len(final) > 0 {
			r.segments(final)
		}
	})
	return err
}

// all returns the segments of all chunks.
func (r *reporter) all() (segs []transcript.Segment, err error) {
	r.lock(func() { segs, err = r.tracks.Segments() })
	return segs, err
}

// tell must be called with mu held.
func (r *reporter) tell() {
	if r.progress != nil {
		r.progress(r.now)
	}
}
