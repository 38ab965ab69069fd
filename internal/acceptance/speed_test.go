//go:build acceptance

package acceptance

import (
	"bytes"
	"fmt"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// stamp is what whisper-cli writes before each line.
var stamp = regexp.MustCompile(`(?m)^\[[^\]]*\]`)

// TestTwiceAsFastAsWhisperCLI runs the whole of `steno transcribe` on an mp3, cold start and decoding included, against
// whisper-cli on the same audio already decoded, in pairs that alternate. whisper-cli's threads wait for one another at spinning
// barriers, so it suffers from a busy machine more than steno does, and a pair that others disturbed flatters steno: only
// undisturbed pairs decide, and all are logged.
func TestTwiceAsFastAsWhisperCLI(t *testing.T) {
	const pairs, want = 3, 2
	mp3 := reading(t)
	wav := t.TempDir() + "/reading.wav"
	run(t, "ffmpeg", "-v", "error", "-nostdin", "-i", mp3, "-ar", "16000", "-ac", "1", wav)
	steno, cli := built(t, "bin", "steno"), built(t, ".build", "engine", "bin", "whisper-cli")
	env := []string{"STENO_MODELS=" + built(t, ".build", "models")}
	type peer struct {
		name, model string
		args        []string
		wall, cpu   []float64 // of all pairs
		quietWall   []float64 // of those that nobody disturbed
		quietCPU    []float64
	}
	threads := min(4, runtime.NumCPU()) // what it chooses by itself
	half := max(1, threads/2)
	peers := []*peer{
		{name: fmt.Sprintf("f16, %d threads (its defaults)", threads), model: "base", args: []string{"-t", strconv.Itoa(threads)}},
		{name: fmt.Sprintf("q8_0, %d threads", threads), model: "base-q8_0", args: []string{"-t", strconv.Itoa(threads)}},
		{
			name: fmt.Sprintf("f16, %d threads by 2 processors", half), model: "base",
			args: []string{"-t", strconv.Itoa(half), "-p", "2"},
		},
	}
	for i := range pairs {
		for _, p := range peers {
			var text bytes.Buffer
			ours, err := command(t.Context(), &text, env, steno, "transcribe", "-m", "base", "-l", "en", mp3)
			if err != nil {
				t.Fatal(err)
			}
			var other bytes.Buffer
			weights := built(t, ".build", "models", "ggml-"+p.model+".bin")
			args := append([]string{"-m", weights, "-l", "en", "-bs", "1", "-np", "-f", wav}, p.args...)
			theirs, err := command(t.Context(), &other, nil, cli, args...)
			if err != nil {
				t.Fatal(err)
			}
			words, theirWords := len(strings.Fields(text.String())), len(strings.Fields(stamp.ReplaceAllString(other.String(), "")))
			t.Logf("pair %d, %s: %.1f s against %.1f s (CPU %.1f against %.1f), %d against %d words, others used %.2f and %.2f cores",
				i, p.name, ours.wall, theirs.wall, ours.cpu, theirs.cpu, words, theirWords, ours.foreign, theirs.foreign)
			if float64(words) < 0.97*float64(theirWords) {
				t.Errorf("steno wrote %d words and whisper-cli %d: speed that leaves words out counts for nothing", words, theirWords)
			}
			p.wall, p.cpu = append(p.wall, theirs.wall/ours.wall), append(p.cpu, theirs.cpu/ours.cpu)
			if undisturbed(ours, theirs) {
				p.quietWall, p.quietCPU = append(p.quietWall, theirs.wall/ours.wall), append(p.quietCPU, theirs.cpu/ours.cpu)
			}
		}
	}
	for _, p := range peers {
		t.Logf("whisper-cli, %s, over steno: all %d pairs: wall %s; CPU %s; %d undisturbed: wall %s; CPU %s", p.name,
			len(p.wall), spreadOf(p.wall), spreadOf(p.cpu), len(p.quietWall), spreadOf(p.quietWall), spreadOf(p.quietCPU))
	}
	if len(peers[0].quietWall) == 0 {
		t.Fatal("others used the machine during every pair: measure again when it is quiet")
	}
	if got := spreadOf(peers[0].quietWall).median; got < want {
		t.Errorf("steno is %.2f times faster than whisper-cli's defaults, want at least %d", got, want)
	}
}
