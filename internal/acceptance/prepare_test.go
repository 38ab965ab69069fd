//go:build acceptance

package acceptance

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"steno/audio"
)

// classic is the chain that others run before Whisper.
const classic = "loudnorm=I=-16:TP=-1.5:LRA=11,silenceremove=start_periods=1:start_threshold=-50dB:" +
	"stop_periods=-1:stop_duration=2:stop_threshold=-50dB"

// TestPreparationIsEightTimesFaster holds probe, measuring, decoding and splitting of a whole file to an eighth of the classic
// chain's time, in pairs that alternate.
func TestPreparationIsEightTimesFaster(t *testing.T) {
	const pairs, want = 6, 8
	path := reading(t)
	tools, err := audio.FindTools()
	if err != nil {
		t.Fatal(err)
	}
	var wall, cpu []float64
	for i := range pairs {
		before := load(t)
		ours := prepare(t, tools, path)
		theirs, err := command(t.Context(), io.Discard, nil, tools.FFmpeg, "-nostdin", "-v", "error", "-i", path, "-af", classic,
			"-ar", "16000", "-ac", "1", "-f", "s16le", "pipe:1")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("pair %d: %.2f s against %.2f s (CPU %.2f against %.2f), others used %.2f cores, load before %s",
			i, ours.wall, theirs.wall, ours.cpu, theirs.cpu, theirs.foreign, before)
		wall = append(wall, theirs.wall/ours.wall)
		cpu = append(cpu, theirs.cpu/ours.cpu)
	}
	t.Logf("classic chain over ours: wall %s; CPU %s", spreadOf(wall), spreadOf(cpu))
	if got := spreadOf(wall).median; got < want {
		t.Errorf("preparation is %.2f times faster than the classic chain, want at least %d", got, want)
	}
}

// prepare takes the file to its last chunk. The CPU is this process's and its children's.
func prepare(t *testing.T, tools audio.Tools, path string) cost {
	t.Helper()
	start, before := time.Now(), usage(t)
	info, err := audio.Probe(t.Context(), tools, path)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := audio.NewPlan(info, audio.Want{}, audio.Resources{Slots: 4, MaxDuration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := audio.Prepare(ctx, tools, path, info, plan)
	if err != nil {
		t.Fatal(err)
	}
	samples := int64(0)
	for split := audio.Split(plan, s); ; {
		c, err := split.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		samples += int64(len(c.PCM))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var speech int64
	for _, span := range s.Timeline().Speech {
		speech += span.Len()
	}
	if samples != speech || audio.Seconds(samples) < 300 {
		t.Fatalf("chunks hold %.1f s of %.1f s of speech: a fast preparation that loses audio counts for nothing",
			audio.Seconds(samples), audio.Seconds(speech))
	}
	return cost{wall: time.Since(start).Seconds(), cpu: usage(t) - before}
}

func usage(t *testing.T) float64 {
	t.Helper()
	total := 0.0
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		total += float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
	}
	return total
}

// TestClassicChainIsThere keeps the comparison honest: the chain must decode all of the speech.
func TestClassicChainIsThere(t *testing.T) {
	var n counter
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "error", "-i", reading(t), "-af", classic, "-ar", "16000",
		"-ac", "1", "-f", "s16le", "pipe:1")
	cmd.Stdout = &n
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got := audio.Seconds(int64(n / 2)); got < 300 || got > 601 {
		t.Errorf("the classic chain gives %.1f s of 600 s", got)
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
