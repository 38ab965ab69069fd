package pipeline_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"steno/job"
	"steno/models"
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
	if !chose(tr, "speakers", "by channel") || len(tr.Warnings) > 0 {
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
	if !chose(tr, "speakers", "none") || len(tr.Warnings) != 1 || !strings.Contains(tr.Warnings[0], "speakers") {
		t.Errorf("plan %+v, warnings %q", tr.Plan, tr.Warnings)
	}
}

func chose(tr transcript.Transcript, name, value string) bool {
	return slices.ContainsFunc(tr.Plan, func(c transcript.Choice) bool { return c.Name == name && c.Value == value })
}
