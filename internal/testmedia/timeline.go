package testmedia

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rate is the sample rate in Hz at which files are laid out, before an encoder resamples.
const rate = 16000

// Placement is where a clip's speech stands in a file: seconds from its first sound to its last, and the words. It is the
// same type as bench.Placement, so that neither package needs the other.
type Placement = struct {
	Start, End float64
	Text       string
}

// encodings are the ffmpeg arguments for each format, with the settings such files commonly have.
var encodings = map[string][]string{
	"wav":  {"-c:a", "pcm_s16le"},
	"flac": {"-c:a", "flac"},
	"mp3":  {"-ar", "44100", "-ac", "2", "-c:a", "libmp3lame", "-b:a", "96k"},
	"m4a":  {"-ar", "44100", "-ac", "2", "-c:a", "aac", "-b:a", "96k"},
	"opus": {"-ar", "48000", "-c:a", "libopus", "-b:a", "32k"},
}

// Layout repeats clips until they and the digital silences between them fill about the given seconds. The silences, of 0.5 to
// 90 s, stand before, between and after the clips, so there is one more of them.
func Layout(clips []Clip, seconds float64) ([]Clip, []float64) {
	cycle := []float64{0.5, 3, 0.7, 30, 1, 12, 0.5, 5, 90, 2, 0.8, 45, 1.5, 20, 0.6, 8, 60, 4}
	var laid []Clip
	var gaps []float64
	const clipSeconds = 5 // about what the clips last; the end need not be exact
	for total := 0.0; total < seconds; {
		gap := cycle[len(gaps)%len(cycle)]
		gaps = append(gaps, gap)
		laid = append(laid, clips[len(laid)%len(clips)])
		total += gap + clipSeconds
	}
	return laid, append(gaps, 2.5)
}

// Timeline lays clips between digital silences of the given seconds to a file in dir, and returns its path and where the
// speech stands in it, to 20 ms. gaps has one more entry than clips: gaps[i] is the silence before clip i. format is "wav",
// "flac", "mp3", "m4a" or "opus". Each clip is trimmed to its speech.
func Timeline(ctx context.Context, dir string, clips []Clip, gaps []float64, format string) (string, []Placement, error) {
	if len(gaps) != len(clips)+1 {
		return "", nil, fmt.Errorf("lay timeline: %d silences for %d clips, want one more than clips", len(gaps), len(clips))
	}
	encoding, ok := encodings[format]
	if !ok {
		return "", nil, fmt.Errorf("lay timeline: no encoding for format %q", format)
	}
	var pcm []int16
	var placements []Placement
	trimmed := map[Clip]speech{}
	silence := func(seconds float64) { pcm = append(pcm, make([]int16, int(math.Round(seconds*rate)))...) }
	for i, clip := range clips {
		s, done := trimmed[clip]
		if !done {
			decoded, err := decode(ctx, clip)
			if err != nil {
				return "", nil, fmt.Errorf("lay timeline: %w", err)
			}
			s = trim(decoded)
			trimmed[clip] = s
		}
		silence(gaps[i])
		at := len(pcm)
		pcm = append(pcm, s.pcm...)
		placements = append(placements, Placement{
			Start: float64(at+s.onset) / rate, End: float64(at+s.end) / rate, Text: clip.Text,
		})
	}
	silence(gaps[len(clips)])
	path := filepath.Join(dir, "timeline."+format)
	if err := encode(ctx, path, pcm, encoding); err != nil {
		return "", nil, fmt.Errorf("lay timeline: %w", err)
	}
	return path, placements, nil
}

// Repeat writes the audio of the file at path over and over to a file of the same format in dir, until it lasts about
// length: an hour of speech from minutes of it. Nothing is encoded again, so hours take seconds. It works for wav and mp3, and
// for flac with a header that lies: it keeps the duration of the original.
func Repeat(ctx context.Context, dir, path string, length time.Duration) (string, error) {
	out := filepath.Join(dir, fmt.Sprintf("repeated-%s%s", length, filepath.Ext(path)))
	_, err := ffmpeg(ctx, nil, "-stream_loop", "-1", "-i", "file:"+path, "-map", "0:a:0", "-map_metadata", "-1",
		"-t", seconds(length.Seconds()), "-c", "copy", "-y", "file:"+out)
	if err != nil {
		return "", fmt.Errorf("repeat %s: %w", filepath.Base(path), err)
	}
	return out, nil
}

// speech is audio trimmed to what is said in it; onset and end are the samples of the first and the last sound.
type speech struct {
	pcm        []int16
	onset, end int
}

// trim cuts what is before and after the speech, but for 50 ms, so that no soft consonant is lost. Speech is what stands out of
// the background, which is the tenth percentile of the power, by 10 dB for 30 ms; nothing under 30 dB below the loudest counts.
func trim(pcm []int16) speech {
	const frame, sustained, margin = rate / 100, 3, rate / 20
	var level []float64
	for part := range slices.Chunk(pcm, frame) {
		var sum float64
		for _, v := range part {
			sum += float64(v) * float64(v)
		}
		level = append(level, 10*math.Log10(sum/float64(len(part))+1e-3))
	}
	sorted := slices.Sorted(slices.Values(level))
	threshold := max(sorted[len(sorted)-1]-30, sorted[len(sorted)/10]+10)
	loud := func(from int) bool {
		for i := from; i < from+sustained; i++ {
			if i >= len(level) || level[i] < threshold {
				return false
			}
		}
		return true
	}
	first, last := len(level), 0
	for i := range level {
		if loud(i) {
			first, last = min(first, i), i+sustained
		}
	}
	onset, end := first*frame, min(last*frame, len(pcm))
	from, to := max(0, onset-margin), min(len(pcm), end+margin)
	return speech{pcm: pcm[from:to], onset: onset - from, end: end - from}
}

func decode(ctx context.Context, clip Clip) ([]int16, error) {
	args := []string{"-i", "file:" + clip.Path, "-ss", seconds(clip.From)}
	if clip.To > 0 {
		args = append(args, "-to", seconds(clip.To))
	}
	raw, err := ffmpeg(ctx, nil, append(args, "-vn", "-ac", "1", "-ar", strconv.Itoa(rate), "-f", "s16le", "pipe:1")...)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", filepath.Base(clip.Path), err)
	}
	pcm := make([]int16, len(raw)/2)
	if len(pcm) == 0 {
		return nil, fmt.Errorf("decode %s: no audio from %v s to %v s", filepath.Base(clip.Path), clip.From, clip.To)
	}
	_, err = binary.Decode(raw, binary.LittleEndian, pcm)
	return pcm, err
}

func encode(ctx context.Context, path string, pcm []int16, encoding []string) error {
	raw, err := binary.Append(nil, binary.LittleEndian, pcm)
	if err != nil {
		return err
	}
	args := []string{"-f", "s16le", "-ar", strconv.Itoa(rate), "-ac", "1", "-i", "pipe:0"}
	if _, err := ffmpeg(ctx, raw, append(append(args, encoding...), "-y", "file:"+path)...); err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return nil
}

func ffmpeg(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "ffmpeg", append([]string{"-v", "error", "-nostdin"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run ffmpeg: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', -1, 64) }
