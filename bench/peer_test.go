package bench_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"steno/bench"
)

// cli is a stand-in for whisper-cli: it takes the same flags, checks that it was given 16 kHz audio, and writes a result as the
// real one does, with a character that a token cut in two.
const cli = `#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    -m) model=$2 ;; -l) lang=$2 ;; -f) wav=$2 ;; -of) out=$2 ;; -fail) echo "error: no such model" >&2; exit 3 ;;
    esac
    shift
done
[ "$(ffprobe -v error -show_entries stream=sample_rate,channels -of csv=p=0 "$wav")" = 16000,1 ] || exit 4
printf '{"result": {"language": "%s"}, "transcription": [
  {"offsets": {"from": 0, "to": 1500}, "text": " Hello there,"},
  {"offsets": {"from": 1500, "to": 3250}, "text": " world\303 of %s."}]}' "$lang" "${model##*/}" >"$out.json"
`

func TestWhisperCLI(t *testing.T) {
	dir := t.TempDir()
	bin, media := filepath.Join(dir, "whisper-cli"), filepath.Join(dir, "tone.flac")
	if err := os.WriteFile(bin, []byte(cli), 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "sine=d=0.2:r=44100", "-ac", "2", media)

	peer := bench.WhisperCLI{Bin: bin, Model: "/models/ggml-base.bin"}
	got, err := peer.Transcribe(t.Context(), media, "de")
	if err != nil {
		t.Fatal(err)
	}
	if want := "Hello there, world\uFFFD of ggml-base.bin."; got.Text != want || got.Language != "de" {
		t.Errorf("transcript in %s: %q, want de and %q", got.Language, got.Text, want)
	}
	if s := got.Segments[1]; s.ID != 1 || s.Start != 1.5 || s.End != 3.25 {
		t.Errorf("second segment: %+v", s)
	}

	peer.Args = []string{"-fail"}
	if _, err = peer.Transcribe(t.Context(), media, "de"); err == nil || !strings.Contains(err.Error(), "no such model") {
		t.Errorf("error of a peer that fails: %v", err)
	}
	if _, err = peer.Transcribe(t.Context(), filepath.Join(dir, "absent.mp3"), "de"); err == nil ||
		!strings.Contains(err.Error(), "No such file") {
		t.Errorf("error for an absent file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = peer.Transcribe(ctx, media, "de"); !errors.Is(err, context.Canceled) {
		t.Errorf("error after a cancel: %v", err)
	}
}
