// Package testmedia makes media for tests: speech with known words, and long files that it is laid out in at known times. It
// runs ffmpeg and espeak-ng.
package testmedia

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Clip is recorded speech whose words are known: a stretch of a media file, in seconds. To 0 is the end of the file.
type Clip struct {
	Path     string
	From, To float64
	Text     string
}

// Corpus is the folder of real speech that STENO_CORPUS names, with its manifest.json; make test sets it where there is one.
// ok is false where there is none, and the samples have to do.
func Corpus() (dir string, ok bool) {
	dir = os.Getenv("STENO_CORPUS")
	return dir, dir != ""
}

// sense is what is read in the sample sense.wav, sentence by sentence, two seconds of silence after each.
var sense = []Clip{
	{From: 0, To: 7.1, Text: "and Mister John Dashwood had then leisure to consider how much there might be prudently in his " +
		"power to do for them"},
	{From: 9.1, To: 12.09, Text: "he was not an ill disposed young man"},
	{From: 14.09, To: 19.39, Text: "unless to be rather cold hearted and rather selfish is to be ill disposed"},
	{From: 21.39, To: 27.44, Text: "had he married a more amiable woman he might have been made still more respectable than he was"},
	{From: 29.44, To: 32.73, Text: "he might even have been made amiable himself"},
}

// synthetic are sentences that espeak-ng speaks and the base model understands.
var synthetic = []string{
	"The quick brown fox jumps over the lazy dog.",
	"Every morning the farmer walks to the river and counts his sheep.",
	"Please leave a message after the tone, and we will call you back.",
}

// Speech is English speech whose words are known: the recordings that `make samples` got, and synthetic sentences, which are
// made in a folder of the test.
func Speech(t testing.TB) []Clip {
	t.Helper()
	clips := []Clip{{Path: Sample(t, "jfk.wav"), Text: JFK}}
	// The machine that made the samples may have had no package of readings.
	path := filepath.Join(filepath.Dir(clips[0].Path), "sense.wav")
	if _, err := os.Stat(path); err == nil {
		for _, clip := range sense {
			clip.Path = path
			clips = append(clips, clip)
		}
	}
	return append(clips, Synthetic(t)...)
}

// Synthetic is speech that needs no sample: a few sentences by espeak-ng, made in a folder of the test.
func Synthetic(t testing.TB) []Clip {
	t.Helper()
	dir := t.TempDir()
	var clips []Clip
	for i, text := range synthetic {
		path := filepath.Join(dir, "sentence"+string(rune('0'+i))+".wav")
		cmd := exec.CommandContext(t.Context(), "espeak-ng", "-v", "en-us", "-s", "145", "-w", path, text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("run espeak-ng: %v: %s", err, out)
		}
		clips = append(clips, Clip{Path: path, Text: text})
	}
	return clips
}
