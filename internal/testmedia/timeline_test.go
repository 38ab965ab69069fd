package testmedia_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"steno/internal/testmedia"
)

// duration is how long the file at path lasts, in seconds, by what ffprobe reads of its packets.
func duration(t *testing.T, path string) float64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	d, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sounds decodes the file at path and returns where something is heard: starts and ends in seconds, stretches less than 0.4 s apart
// taken together.
func sounds(t *testing.T, path string) [][2]float64 {
	t.Helper()
	raw, err := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-i", path,
		"-ac", "1", "-ar", "16000", "-f", "s16le", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	var found [][2]float64
	for i := 0; i+1 < len(raw); i += 2 {
		if v := int16(binary.LittleEndian.Uint16(raw[i:])); v < 60 && v > -60 {
			continue
		}
		at := float64(i/2) / 16000
		if n := len(found); n > 0 && at-found[n-1][1] < 0.4 {
			found[n-1][1] = at
		} else {
			found = append(found, [2]float64{at, at})
		}
	}
	return found
}

func TestTimelinePlacesSpeech(t *testing.T) {
	clips := testmedia.Speech(t)
	clips = clips[len(clips)-3:]
	gaps := []float64{0.5, 4.2, 0.7, 1.25}
	for _, format := range []string{"wav", "flac", "mp3", "m4a", "opus"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			path, placed, err := testmedia.Timeline(t.Context(), t.TempDir(), clips, gaps, format)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Ext(path) != "."+format {
				t.Errorf("the file is called %s", path)
			}
			heard := sounds(t, path)
			if len(heard) != len(placed) {
				t.Fatalf("sound is heard in %v, want %d stretches", heard, len(placed))
			}
			for i, p := range placed {
				if p.Text != clips[i].Text {
					t.Errorf("clip %d says %q, want %q", i, p.Text, clips[i].Text)
				}
				// An encoder rings a little before and after a sound.
				if math.Abs(heard[i][0]-p.Start) > 0.05 || math.Abs(heard[i][1]-p.End) > 0.15 {
					t.Errorf("clip %d is heard in %v, placed at %.3f to %.3f", i, heard[i], p.Start, p.End)
				}
			}
			last := placed[len(placed)-1].End + gaps[len(gaps)-1]
			if d := duration(t, path); d < last || d > last+0.2 {
				t.Errorf("the file lasts %.3f s, want about %.3f", d, last)
			}
		})
	}
}

func TestTimelineTrimsRecordings(t *testing.T) {
	clip := testmedia.Clip{Path: testmedia.Sample(t, "jfk.wav"), From: 0, To: 2.5, Text: "And so my fellow Americans"}
	_, placed, err := testmedia.Timeline(t.Context(), t.TempDir(), []testmedia.Clip{clip}, []float64{1, 1}, "wav")
	if err != nil {
		t.Fatal(err)
	}
	// The recording begins with 0.33 s of background noise; 50 ms of it stay.
	if got := placed[0]; math.Abs(got.Start-1.05) > 0.011 || got.End < 2 || got.End > 3.2 {
		t.Errorf("the speech is placed at %+v, want from 1.05 s", got)
	}
}

func TestTimelineRefuses(t *testing.T) {
	clip := testmedia.Clip{Path: testmedia.Sample(t, "jfk.wav")}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		clip   testmedia.Clip
		gaps   []float64
		format string
		want   string
	}{
		{"too few silences", t.Context(), clip, []float64{1}, "wav", "1 silences for 1 clips"},
		{"unknown format", t.Context(), clip, []float64{1, 1}, "ra", `format "ra"`},
		{"absent clip", t.Context(), testmedia.Clip{Path: "/no/such.wav"}, []float64{1, 1}, "wav", "No such file"},
		{"empty stretch", t.Context(), testmedia.Clip{Path: clip.Path, From: 99}, []float64{1, 1}, "wav", "no audio from 99 s"},
		{"stopped", stopped, clip, []float64{1, 1}, "wav", context.Canceled.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := testmedia.Timeline(tt.ctx, t.TempDir(), []testmedia.Clip{tt.clip}, tt.gaps, tt.format)
			if err == nil || !strings.Contains(err.Error(), tt.want) && !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestLayout(t *testing.T) {
	clips, gaps := testmedia.Layout(testmedia.Speech(t), 600)
	if len(gaps) != len(clips)+1 {
		t.Fatalf("%d silences for %d clips", len(gaps), len(clips))
	}
	_, placed, err := testmedia.Timeline(t.Context(), t.TempDir(), clips, gaps, "flac")
	if err != nil {
		t.Fatal(err)
	}
	if end := placed[len(placed)-1].End; end < 540 || end > 700 {
		t.Errorf("the last word ends at %.0f s, want about 600", end)
	}
	var shortest, longest = math.Inf(1), 0.0
	for i := 1; i < len(placed); i++ {
		silence := placed[i].Start - placed[i-1].End
		shortest, longest = min(shortest, silence), max(longest, silence)
	}
	if shortest < 0.5 || shortest > 0.7 || longest < 90 || longest > 90.2 {
		t.Errorf("silences last from %.2f to %.2f s, want 0.5 to 90", shortest, longest)
	}
}

func TestRepeat(t *testing.T) {
	clips := testmedia.Synthetic(t)
	for _, format := range []string{"wav", "flac", "mp3"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, _, err := testmedia.Timeline(t.Context(), dir, clips[:1], []float64{0.5, 0.5}, format)
			if err != nil {
				t.Fatal(err)
			}
			long, err := testmedia.Repeat(t.Context(), dir, path, 2*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			heard := sounds(t, long)
			if last := heard[len(heard)-1][1]; last < 115 || last > 125 {
				t.Errorf("speech is heard until %.1f s, want 120", last)
			}
			if want := int(120 / duration(t, path)); len(heard) < want {
				t.Errorf("speech is heard %d times, want %d", len(heard), want)
			}
		})
	}
}
