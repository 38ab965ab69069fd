package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"steno/job"
	"steno/models"
	"steno/pipeline"
	"steno/transcript"
)

// call is a recording of 80 s whose two sides, 440 Hz and 700 Hz, sound in turn for 2 s each.
func call(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "call.wav")
	out, err := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i",
		`aevalsrc=0.3*sin(2*PI*440*t)*lt(mod(t\,4)\,2)|0.1*sin(2*PI*700*t)*gte(mod(t\,4)\,2):s=16000:d=80`, path).CombinedOutput()
	if err != nil {
		t.Fatalf("make a call: %v: %s", err, out)
	}
	return path
}

// pitch answers with the tone that it hears, once in each second with sound.
func pitch(_ context.Context, _ int, r models.Request) (models.Result, error) {
	res := models.Result{Language: r.Language}
	for at := 0; at+16000 <= len(r.PCM); at += 16000 {
		last, waves, samples := 0, 0, 0
		for i := at + 1; i < at+16000; i++ {
			if r.PCM[i-1] < 0 && r.PCM[i] >= 0 {
				if i-last < 50 { // not over silence
					waves, samples = waves+1, samples+i-last
				}
				last = i
			}
		}
		if waves > 10 {
			start := float64(at) / 16000
			hertz := (16000*waves/samples + 25) / 50 * 50
			res.Segments = append(res.Segments, transcript.Segment{Start: start, End: start + 1, Text: fmt.Sprint(hertz)})
		}
	}
	return res, nil
}

// Each side of a call is transcribed by itself, also where both have chunks of the same times, and what is kept of one is not
// taken for the other.
func TestSpeakersByChannel(t *testing.T) {
	l := &loader{run: pitch}
	in := input(call(t))
	in.Job.Params.Diarize, in.Job.Params.Silence = true, "keep"
	var live []transcript.Segment
	in.OnSegments = func(s []transcript.Segment) { live = append(live, s...) }
	var last job.Progress
	in.OnProgress = func(p job.Progress) { last = p }
	in.Chunks = &memory{}
	tr, err := runner(t, l, nil).Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	voice := map[string]string{"Speaker 1": "450", "Speaker 2": "700"}
	turns := 0
	for i, s := range tr.Segments {
		if s.Text != voice[s.Speaker] || s.ID != i || i > 0 && s.Start < tr.Segments[i-1].Start {
			t.Errorf("segment %+v", s)
		}
		if i == 0 || s.Speaker != tr.Segments[i-1].Speaker {
			turns++
		}
	}
	if turns < 39 || turns > 41 || !reflect.DeepEqual(live, tr.Segments) || tr.Chunks < 6 || last.Done != last.Total || tr.Duration != 80 {
		t.Errorf("%d turns, %d segments, %d live, %d chunks, %+v, %g s", turns, len(tr.Segments), len(live), tr.Chunks, last, tr.Duration)
	}
	if !chose(tr, "speakers", "by channel") || len(tr.Warnings) > 0 || tr.Incomplete {
		t.Errorf("plan %+v, warnings %q", tr.Plan, tr.Warnings)
	}
	in.OnSegments, in.OnProgress = nil, nil
	again, err := runner(t, l, nil).Run(t.Context(), in)
	if err != nil || again.ChunksReused != tr.Chunks || !reflect.DeepEqual(again.Segments, tr.Segments) {
		t.Errorf("the second time %d of %d chunks were reused, %v", again.ChunksReused, tr.Chunks, err)
	}
}

// Where nothing tells speakers apart the words are there all the same.
func TestNoSpeakersInOneChannel(t *testing.T) {
	in := input(tone(t, 20))
	in.Job.Params.Diarize = true
	tr, err := runner(t, &loader{run: pitch}, nil).Run(t.Context(), in)
	if err != nil || len(tr.Segments) == 0 || tr.Segments[0].Speaker != "" {
		t.Fatalf("%d segments, %v", len(tr.Segments), err)
	}
	if !chose(tr, "speakers", "none") || len(tr.Warnings) != 1 || !strings.Contains(tr.Warnings[0], "speakers") || !tr.Incomplete {
		t.Errorf("plan %+v, warnings %q, incomplete %t", tr.Plan, tr.Warnings, tr.Incomplete)
	}
}

func chose(tr transcript.Transcript, name, value string) bool {
	return slices.ContainsFunc(tr.Plan, func(c transcript.Choice) bool { return c.Name == name && c.Value == value })
}

// heard is a Voices that is told what to hear.
type heard struct {
	turns []transcript.Turn
	err   error
	hangs bool
	asked atomic.Int64
	pcm   atomic.Int64 // bytes that it was given
}

func (h *heard) Find(ctx context.Context, pcm io.Reader, length time.Duration, speakers int) ([]transcript.Turn, error) {
	h.asked.Add(1)
	n, err := io.Copy(io.Discard, pcm)
	h.pcm.Add(n)
	if h.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err == nil && (n != int64(length.Seconds()*32000) || speakers != 2) {
		err = fmt.Errorf("%d bytes for %v, %d speakers", n, length, speakers)
	}
	return h.turns, errors.Join(err, h.err)
}

// counting answers with a word for each second.
func counting(_ context.Context, _ int, r models.Request) (models.Result, error) {
	s := transcript.Segment{End: float64(len(r.PCM)) / 16000}
	for at := 0; at+16000 <= len(r.PCM); at += 16000 {
		text := fmt.Sprintf("w%d", at/16000)
		s.Text = strings.TrimSpace(s.Text + " " + text)
		if r.Words {
			start := float64(at) / 16000
			s.Words = append(s.Words, transcript.Word{Start: start, End: start + 1, Text: text})
		}
	}
	return models.Result{Language: r.Language, Segments: []transcript.Segment{s}}, nil
}

// Segments are taken apart where the voice changes, words are not shown to those who have not asked for them, and what was heard is
// kept like a chunk.
func TestSpeakersByVoice(t *testing.T) {
	h := &heard{turns: []transcript.Turn{{Start: 0, End: 8, Speaker: 0}, {Start: 8, End: 20, Speaker: 1}}}
	in := input(tone(t, 20))
	in.Job.Params.Speakers = 2
	in.Chunks = &memory{}
	for i, reused := range []int{0, 1} {
		tr, err := runnerOf(t, &loader{run: counting}, pipeline.Config{Voices: h}).Run(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range tr.Segments {
			got = append(got, fmt.Sprintf("%s %.0f-%.0f %d words", s.Speaker, s.Start, s.End, len(strings.Fields(s.Text))))
			if s.Words != nil {
				t.Errorf("segment %d has words that nobody asked for", s.ID)
			}
		}
		if want := []string{"Speaker 1 0-8 8 words", "Speaker 2 8-20 12 words"}; !reflect.DeepEqual(got, want) {
			t.Errorf("segments %q, want %q", got, want)
		}
		if !chose(tr, "speakers", "by voice") || len(tr.Warnings) > 0 || tr.Incomplete || tr.Timings.Diarize <= 0 || tr.ChunksReused != reused || h.asked.Load() != 1 {
			t.Errorf("run %d: plan %+v, warnings %q, %+v, %d chunks reused, asked %d times", i, tr.Plan, tr.Warnings, tr.Timings, tr.ChunksReused, h.asked.Load())
		}
	}
	in.Job.Params.Words = true
	tr, err := runnerOf(t, &loader{run: counting}, pipeline.Config{Voices: h}).Run(t.Context(), in)
	if err != nil || len(tr.Segments) != 2 || len(tr.Segments[0].Words) != 8 {
		t.Errorf("with words: %+v, %v", tr.Segments, err)
	}
}

// A search for speakers that fails costs the speakers, not the words.
func TestVoicesThatFail(t *testing.T) {
	h := &heard{err: errors.New("the library is not here")}
	in := input(tone(t, 20))
	in.Job.Params.Speakers = 2
	tr, err := runnerOf(t, &loader{run: counting}, pipeline.Config{Voices: h}).Run(t.Context(), in)
	if err != nil || len(tr.Segments) != 1 || tr.Segments[0].Speaker != "" || tr.Segments[0].Words != nil {
		t.Fatalf("%+v, %v", tr.Segments, err)
	}
	if !chose(tr, "speakers", "none") || len(tr.Warnings) != 1 || !strings.Contains(tr.Warnings[0], "the library is not here") ||
		!tr.Incomplete {
		t.Errorf("plan %+v, warnings %q, incomplete %t", tr.Plan, tr.Warnings, tr.Incomplete)
	}
}

// The search ends with its job, however that ends.
func TestVoicesEndWithTheJob(t *testing.T) {
	boom := errors.New("boom")
	h := &heard{hangs: true}
	in := input(tone(t, 20))
	in.Job.Params.Speakers = 2
	fails := func(context.Context, int, models.Request) (models.Result, error) { return models.Result{}, boom }
	if _, err := runnerOf(t, &loader{run: fails}, pipeline.Config{Voices: h}).Run(t.Context(), in); !errors.Is(err, boom) {
		t.Errorf("a job whose engine fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	in.OnProgress = func(p job.Progress) {
		if p.Stage == job.StageDiarize { // all is transcribed, and it is waited for
			cancel()
		}
	}
	if _, err := runnerOf(t, &loader{run: counting}, pipeline.Config{Voices: h}).Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("a job that is cancelled: %v", err)
	}
}

// Speakers that have a channel each need no voices.
func TestVoicesAreNotAskedOfACall(t *testing.T) {
	h := &heard{}
	in := input(call(t))
	in.Job.Params.Diarize, in.Job.Params.Silence = true, "keep"
	tr, err := runnerOf(t, &loader{run: pitch}, pipeline.Config{Voices: h}).Run(t.Context(), in)
	if err != nil || h.asked.Load() != 0 || !chose(tr, "speakers", "by channel") {
		t.Errorf("asked %d times, %+v, %v", h.asked.Load(), tr.Plan, err)
	}
}
