//go:build cgo

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"steno/internal/testmedia"
)

// badFile is one that users really submit, and what they are told.
type badFile struct {
	name string
	says string // part of the one sentence; empty where the file is sound, but says nothing
}

// badFiles makes them in dir.
func badFiles(t *testing.T, dir string) []badFile {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, data string) {
		if err := os.WriteFile(at(name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("empty.wav", "")
	write("text.mp3", "These are the minutes of a meeting, not its recording.\n")
	// A player would fetch what the list names, from wherever it is.
	write("playlist.mp3", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
	ffmpeg(t, "-f", "lavfi", "-i", "testsrc=d=3:s=160x120", "-c:v", "mpeg4", at("picture.mp4"))
	ffmpeg(t, "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "5", at("silent.wav"))
	ffmpeg(t, "-i", testmedia.Sample(t, "jfk.wav"), "-c:a", "aac", at("whole.m4a"))
	whole, err := os.ReadFile(at("whole.m4a"))
	if err != nil {
		t.Fatal(err)
	}
	write("truncated.m4a", string(whole[:len(whole)/2])) // its index was at the end
	if err := os.Remove(at("whole.m4a")); err != nil {
		t.Fatal(err)
	}
	return []badFile{
		{"empty.wav", "empty"}, {"text.mp3", "not audio"}, {"playlist.mp3", "playlist"}, {"picture.mp4", "no audio"},
		{"truncated.m4a", "whole file"}, {"silent.wav", ""},
	}
}

func ffmpeg(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"-v", "error", "-nostdin", "-y"}, args...)
	if out, err := exec.CommandContext(t.Context(), "ffmpeg", args...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, out)
	}
}

// long is a recording of read speech of about this length.
func long(t *testing.T, length time.Duration) string {
	t.Helper()
	path, err := testmedia.Repeat(t.Context(), t.TempDir(), testmedia.Sample(t, "sense.wav"), length)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
