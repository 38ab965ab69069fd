package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"steno/audio"
	"steno/job"
	"steno/transcript"
)

// Voices tells the speakers of one channel apart; *voices.Finder is one. speakers is how many there are, or 0 where that is to be
// found. It must be safe for concurrent use.
type Voices interface {
	Find(ctx context.Context, pcm io.Reader, length time.Duration, speakers int) ([]transcript.Turn, error)
}

// diarization finds speakers by their voices, beside the transcription.
type diarization struct {
	cancel context.CancelFunc
	done   chan struct{}
	turns  []transcript.Turn
	err    error
}

// startDiarization begins to listen for speakers where the job wants them and no channel tells them apart. It must be stopped. It
// is nil where there is nothing to do.
func (j *run) startDiarization(ctx context.Context) *diarization {
	if !j.params.Diarize || j.cfg.Voices == nil || len(j.streams) > 1 || len(j.streams[0].Timeline().Speech) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	d := &diarization{cancel: cancel, done: make(chan struct{})}
	pcm := j.streams[0].Whole()
	go func() {
		defer close(d.done)
		defer pcm.Close()
		d.err = j.stage(ctx, job.StageDiarize, func(ctx context.Context) (err error) {
			d.turns, err = j.findVoices(ctx, pcm)
			return err
		})
	}()
	return d
}

// findVoices asks for turns, or takes those that are kept.
func (j *run) findVoices(ctx context.Context, pcm io.Reader) (turns []transcript.Turn, err error) {
	key := j.key.voices()
	if j.in.Chunks != nil {
		if data, found, err := j.in.Chunks.Get(ctx, key); err == nil && found && json.Unmarshal(data, &turns) == nil {
			return turns, nil
		}
	}
	length := time.Duration(j.streams[0].Timeline().Total) * time.Second / audio.Rate
	if turns, err = j.cfg.Voices.Find(ctx, pcm, length, j.params.Speakers); err != nil || j.in.Chunks == nil {
		return turns, err
	}
	data, err := json.Marshal(turns)
	if err == nil {
		err = j.in.Chunks.Put(ctx, key, data)
	}
	if err != nil {
		j.log.Warn("keep who speaks when", "error", err) // it is found again after a crash
	}
	return turns, nil
}

// stop ends it, and waits for its end.
func (d *diarization) stop() {
	if d != nil {
		d.cancel()
		<-d.done
	}
}

// awaitVoices returns who speaks when, and tells the user that this is what is waited for.
func (j *run) awaitVoices(d *diarization) ([]transcript.Turn, error) {
	if d == nil {
		return nil, nil
	}
	select {
	case <-d.done:
	default:
		j.report.stage(job.StageDiarize)
		<-d.done
	}
	return d.turns, d.err
}

// nameSpeakers gives the segments their speakers, and says in the result how they are told apart. A job whose speakers are not
// known keeps its words.
func (j *run) nameSpeakers(ctx context.Context, segs []transcript.Segment, d *diarization) ([]transcript.Segment, error) {
	if !j.params.Diarize {
		return segs, nil
	}
	turns, err := j.awaitVoices(d)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	choice := transcript.Choice{Name: "speakers", Value: "none"}
	switch {
	case len(j.streams) > 1:
		choice.Value, choice.Reason = "by channel", "each of the two channels has a voice of its own"
	case err != nil:
		choice.Reason = "voices could not be told apart"
		j.leaveOut(fmt.Sprintf("speakers are not told apart: %v", err))
	case d == nil && j.cfg.Voices == nil:
		choice.Reason = "no two channels with a voice each"
		j.leaveOut("speakers are not told apart: the recording has not one channel for each of two speakers, and " +
			"this steno does not tell voices apart")
	case len(turns) == 0:
		choice.Reason = "nobody speaks"
	default:
		choice.Value, choice.Reason = "by voice", fmt.Sprintf("%d voices were heard", voicesOf(turns))
		if j.params.Speakers > 0 {
			choice.Reason = fmt.Sprintf("%d voices were asked for and %d heard", j.params.Speakers, voicesOf(turns))
		}
		segs = transcript.Speak(segs, turns)
	}
	j.plan.Choices = append(j.plan.Choices, choice)
	return segs, nil
}

// leaveOut says why something that was asked for is not in the result.
func (j *run) leaveOut(why string) {
	j.warns, j.incomplete = append(j.warns, why), true
}

func voicesOf(turns []transcript.Turn) int {
	heard := map[int]bool{}
	for _, t := range turns {
		heard[t.Speaker] = true
	}
	return len(heard)
}

// withoutWords are segments whose words were timed for the speakers' sake alone.
func withoutWords(segs []transcript.Segment) []transcript.Segment {
	segs = slices.Clone(segs)
	for i := range segs {
		segs[i].Words = nil
	}
	return segs
}
