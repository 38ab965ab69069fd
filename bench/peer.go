package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"steno/transcript"
)

// WhisperCLI is whisper.cpp's own command line, to measure against on the same weights. It is safe for concurrent use.
type WhisperCLI struct {
	Bin   string // the program; default "whisper-cli", from the path
	Model string // a ggml file
	// Args are added to the command line, such as "-bs", "1".
	Args []string
}

// Transcribe is a Transcriber. The file is decoded with ffmpeg first, since whisper-cli reads few formats; the timings of
// the transcript are those of whisper-cli alone, with the load of its model.
func (p WhisperCLI) Transcribe(ctx context.Context, path, lang string) (transcript.Transcript, error) {
	dir, err := os.MkdirTemp("", "steno-peer-")
	if err != nil {
		return transcript.Transcript{}, fmt.Errorf("make folder for whisper-cli: %w", err)
	}
	defer os.RemoveAll(dir)

	path, err = filepath.Abs(path)
	if err != nil {
		return transcript.Transcript{}, fmt.Errorf("find %s: %w", path, err)
	}
	wav, out := filepath.Join(dir, "audio.wav"), filepath.Join(dir, "out")
	err = runTool(ctx, "ffmpeg", "-nostdin", "-v", "error", "-i", "file:"+path, "-vn", "-ac", "1", "-ar", "16000",
		"-c:a", "pcm_s16le", "file:"+wav)
	if err != nil {
		return transcript.Transcript{}, err
	}
	bin := p.Bin
	if bin == "" {
		bin = "whisper-cli"
	}
	args := append([]string{"-m", p.Model, "-l", lang, "-f", wav, "-oj", "-of", out, "-np"}, p.Args...)
	begin := time.Now()
	if err := runTool(ctx, bin, args...); err != nil {
		return transcript.Transcript{}, err
	}
	took := time.Since(begin).Seconds()

	data, err := os.ReadFile(out + ".json")
	if err != nil {
		return transcript.Transcript{}, fmt.Errorf("read result of %s: %w", bin, err)
	}
	t, err := parseWhisperCLI(data)
	if err != nil {
		return transcript.Transcript{}, fmt.Errorf("read result of %s: %w", bin, err)
	}
	t.Model = filepath.Base(p.Model)
	t.Timings.Transcribe, t.Timings.Total = took, took
	return t, nil
}

// parseWhisperCLI reads what whisper-cli writes with -oj.
func parseWhisperCLI(data []byte) (transcript.Transcript, error) {
	var out struct {
		Result        struct{ Language string }
		Transcription []struct {
			Offsets struct{ From, To int64 } // milliseconds
			Text    string
		}
	}
	// A token may end within a character, and whisper-cli writes it as it is.
	if err := json.Unmarshal(bytes.ToValidUTF8(data, []byte("\uFFFD")), &out); err != nil {
		return transcript.Transcript{}, err
	}
	t := transcript.Transcript{Language: out.Result.Language, Task: "transcribe"}
	var texts []string
	for i, s := range out.Transcription {
		text := strings.TrimSpace(s.Text)
		texts = append(texts, text)
		t.Segments = append(t.Segments, transcript.Segment{
			ID: i, Start: float64(s.Offsets.From) / 1000, End: float64(s.Offsets.To) / 1000, Text: text,
		})
	}
	t.Text = strings.Join(texts, " ")
	return t, nil
}

// runTool runs a program to its end and puts the last words it wrote on standard error into the error.
func runTool(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String())
		return fmt.Errorf("run %s: %w: %s", filepath.Base(name), err, said[max(0, len(said)-500):])
	}
	return nil
}
