//go:build cgo

package main

import (
	"context"
	le "encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	peer "github.com/ggerganov/whisper.cpp/bindings/go/pkg/whisper" //nolint:depguard // the control: no code of ours

	"steno/bench"
	"steno/internal/config"
	"steno/internal/telemetry"
	"steno/internal/testmedia"
	"steno/job"
	"steno/pipeline"
	"steno/transcript"
)

// testMachine is the real machine with the real engine in this process, one decode state per core.
func testMachine(t *testing.T, settings map[string]string) *machine {
	t.Helper()
	set := map[string]string{
		"data": t.TempDir(), "models": filepath.Dir(testmedia.Model(t, "base-q8_0")), "in-process": "true",
	}
	for k, v := range settings {
		set[k] = v
	}
	cfg, origins, err := config.Load(config.Sources{Flags: set})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{cfg: cfg, origins: origins, reg: telemetry.NewRegistry("test")}
	if a.log, err = telemetry.NewLogger(t.Output(), "warn", "text"); err != nil {
		t.Fatal(err)
	}
	m, err := a.machine("", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestTimeline lays speech at known times between silences of 0.5 to 90 s and holds the transcript to it: every segment
// starts within 0.3 s of the truth, none lies in a silence, no word is lost or doubled at a cut. `make acceptance` runs it over
// all formats and 10 minutes; by default it is 4 minutes of mp3.
func TestTimeline(t *testing.T) {
	formats, seconds := []string{"mp3"}, 240.0
	if os.Getenv("ACCEPTANCE") != "" {
		formats, seconds = []string{"mp3", "m4a", "opus", "flac", "wav"}, 600
	}
	m := testMachine(t, nil)
	clips, gaps := testmedia.Layout(testmedia.Speech(t), seconds)
	if misheard(t, clips, gaps, 0, "wav") {
		t.Fatal("the control loses a word of a clear sentence: it would excuse anything")
	}
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			path, placed, err := testmedia.Timeline(t.Context(), t.TempDir(), clips, gaps, format)
			if err != nil {
				t.Fatal(err)
			}
			tr := english(t, m, path)
			t.Logf("%.1f s of %s: %d clips, %d segments, %d chunks", tr.Duration, format, len(placed), len(tr.Segments), tr.Chunks)
			for _, v := range bench.CheckTimeline(tr, placed) {
				if v.Kind == bench.Lost && misheard(t, clips, gaps, v.Clip, format) {
					t.Logf("not the cut's fault, since the library alone loses it without any: %s", v.Detail)
					continue
				}
				t.Errorf("%+v", v)
			}
		})
	}
}

func english(t *testing.T, m *machine, path string) transcript.Transcript {
	t.Helper()
	tr, err := m.runner.Run(t.Context(), pipeline.Input{
		Path: path, Job: job.Job{ID: job.NewID(), FileName: filepath.Base(path), Params: job.Params{Model: "base", Language: "en"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// misheard tells whether the library's own decoder, with its full window and its own seeking, loses a word of the clip as well
// where nothing is cut and no silence is removed: in the stretch of clips that share a chunk, with five seconds around.
func misheard(t *testing.T, clips []testmedia.Clip, gaps []float64, clip int, format string) bool {
	t.Helper()
	const removed = 2 // seconds; shorter pauses stay inside a chunk
	from, to := clip, clip
	for from > 0 && gaps[from] < removed {
		from--
	}
	for to+1 < len(clips) && gaps[to+1] < removed {
		to++
	}
	inner := append(append([]float64{5}, gaps[from+1:to+1]...), 5)
	path, placed, err := testmedia.Timeline(t.Context(), t.TempDir(), clips[from:to+1], inner, format)
	if err != nil {
		t.Fatal(err)
	}
	found := bench.CheckTimeline(byLibrary(t, path), placed)
	return slices.ContainsFunc(found, func(v bench.Violation) bool { return v.Kind == bench.Lost && v.Clip == clip-from })
}

// byLibrary transcribes a file with whisper.cpp's Go binding alone: no code of ours runs between the samples and the text.
func byLibrary(t *testing.T, path string) transcript.Transcript {
	t.Helper()
	model, err := peer.New(testmedia.Model(t, "base-q8_0"))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	decoder, err := model.NewContext()
	if err != nil {
		t.Fatal(err)
	}
	if err := decoder.SetLanguage("en"); err != nil {
		t.Fatal(err)
	}
	if err := decoder.Process(samples(t, path), nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	tr := transcript.Transcript{Language: "en"}
	for {
		s, err := decoder.NextSegment()
		if errors.Is(err, io.EOF) {
			return tr
		}
		if err != nil {
			t.Fatal(err)
		}
		tr.Segments = append(tr.Segments, transcript.Segment{Start: s.Start.Seconds(), End: s.End.Seconds(), Text: s.Text})
	}
}

// samples decodes a file to 16 kHz mono.
func samples(t *testing.T, path string) []float32 {
	t.Helper()
	raw, err := exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-nostdin", "-i", path, "-ac", "1", "-ar", "16000", "-f", "f32le", "-").Output()
	if err != nil {
		t.Fatalf("decode %s: %v", path, err)
	}
	pcm := make([]float32, len(raw)/4)
	for i := range pcm {
		pcm[i] = math.Float32frombits(le.LittleEndian.Uint32(raw[4*i:]))
	}
	return pcm
}
