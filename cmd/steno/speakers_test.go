//go:build cgo

package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"steno/bench"
	"steno/internal/testmedia"
	"steno/job"
	"steno/pipeline"
	"steno/transcript"
)

// join makes the sound of two files the two sides of a call, where each side hears the other 45 dB softer and 0.1 s late.
func join(t *testing.T, left, right string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "call.flac")
	graph := "[0:a]asplit[l][le];[1:a]asplit[r][re];[le]adelay=100,volume=-45dB[le];[re]adelay=100,volume=-45dB[re];" +
		"[l][re]amix=duration=longest:normalize=0,aformat=sample_fmts=s16:channel_layouts=mono[l];" +
		"[r][le]amix=duration=longest:normalize=0,aformat=sample_fmts=s16:channel_layouts=mono[r];[l][r]amerge[a]"
	out, err := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-i", left, "-i", right,
		"-filter_complex", graph, "-map", "[a]", path).CombinedOutput()
	if err != nil {
		t.Fatalf("join two sides: %v: %s", err, out)
	}
	return path
}

// bySpeaker transcribes a call and returns what each speaker says.
func bySpeaker(t *testing.T, m *machine, path string) map[string]transcript.Transcript {
	t.Helper()
	tr, err := m.runner.Run(t.Context(), pipeline.Input{Path: path, Job: job.Job{
		ID: job.NewID(), FileName: filepath.Base(path), Params: job.Params{Model: "base", Language: "en", Diarize: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]transcript.Transcript{}
	for i, s := range tr.Segments {
		if i > 0 && s.Start < tr.Segments[i-1].Start {
			t.Errorf("segment at %.2f s after one at %.2f s", s.Start, tr.Segments[i-1].Start)
		}
		one := said[s.Speaker]
		one.Language = "en"
		one.Segments = append(one.Segments, s)
		said[s.Speaker] = one
	}
	for name, one := range said {
		one.Text = transcript.Text(one.Segments)
		said[name] = one
	}
	return said
}

// TestSpeakersOfACall lays speech at known times to the sides of a call, in turns that overlap by 2 s, and holds what is written
// for each side to it: no word is lost, doubled, late or the other side's.
func TestSpeakersOfACall(t *testing.T) {
	m := testMachine(t, nil)
	clips, dir := testmedia.Speech(t), t.TempDir()
	gaps := make([]float64, len(clips)+1)
	_, turns, err := testmedia.Timeline(t.Context(), dir, clips, gaps, "wav")
	if err != nil {
		t.Fatal(err)
	}
	var sides [2]struct {
		clips []testmedia.Clip
		gaps  []float64
		ends  float64
	}
	at := 0.0 // where the last turn ends
	for i, clip := range clips {
		side := &sides[i%2]
		start := max(at-2, side.ends+0.5)
		side.clips, side.gaps = append(side.clips, clip), append(side.gaps, start-side.ends)
		at = start + turns[i].End - turns[i].Start
		side.ends = at
	}
	var paths [2]string
	var placed [2][]testmedia.Placement
	for i, side := range sides {
		if paths[i], placed[i], err = testmedia.Timeline(t.Context(), t.TempDir(), side.clips, append(side.gaps, 1), "wav"); err != nil {
			t.Fatal(err)
		}
	}
	said := bySpeaker(t, m, join(t, paths[0], paths[1]))
	if len(said) != 2 {
		t.Fatalf("%d speakers", len(said))
	}
	for i, name := range []string{"Speaker 1", "Speaker 2"} {
		t.Logf("%s: %s", name, said[name].Text)
		alone := bench.CheckTimeline(english(t, m, paths[i]), placed[i])
		for _, v := range bench.CheckTimeline(said[name], placed[i]) {
			if v.Kind == bench.Lost && slices.ContainsFunc(alone, func(a bench.Violation) bool { return a.Kind == v.Kind && a.Clip == v.Clip }) {
				t.Logf("%s loses as much where nobody else speaks: %s", name, v.Detail)
				continue
			}
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestSpeakersOfTheCorpus holds the two sides of real calls to their own words: they are as right as each side is that is
// transcribed alone.
func TestSpeakersOfTheCorpus(t *testing.T) {
	dir, ok := testmedia.Corpus()
	if !ok {
		t.Log("there is no corpus: TestSpeakersOfACall is what shows it here")
		return
	}
	clips, err := bench.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := testMachine(t, nil)
	calls := 0
	for _, clip := range clips {
		if clip.File != "mfa_two_channels.wav" && clip.File != "stereo_diarization.wav" {
			continue
		}
		calls++
		words := map[string][]string{}
		for _, turn := range clip.Turns {
			name := []string{"Speaker 1", "Speaker 2"}[turn.Channel]
			words[name] = append(words[name], turn.Text)
		}
		path := filepath.Join(dir, clip.File)
		said := bySpeaker(t, m, path)
		if len(said) != 2 {
			t.Errorf("%s: %d speakers", clip.File, len(said))
		}
		for i, name := range []string{"Speaker 1", "Speaker 2"} {
			ref := bench.Normalize("en", strings.Join(words[name], " "))
			alone := filepath.Join(t.TempDir(), "alone.wav")
			out, err := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-i", path, "-af",
				[]string{"pan=mono|c0=c0", "pan=mono|c0=c1"}[i], "-y", alone).CombinedOutput()
			if err != nil {
				t.Fatalf("take one side: %v: %s", err, out)
			}
			got, want := bench.WER(ref, bench.Normalize("en", said[name].Text)), bench.WER(ref, bench.Normalize("en", english(t, m, alone).Text))
			t.Logf("%s, %s: WER %s; alone %s: %s", clip.File, name, got, want, said[name].Text)
			if got.Total() > want.Total()+1 {
				t.Errorf("%s, %s: WER %s, and %s where that side is transcribed alone", clip.File, name, got, want)
			}
		}
	}
	if calls != 2 {
		t.Errorf("%d calls in the corpus, want 2", calls)
	}
}
