//go:build acceptance

package acceptance

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"steno/internal/testmedia"
)

// built is the absolute path of something that make put below the repository's root.
func built(t *testing.T, parts ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{"..", ".."}, parts...)...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run it with make acceptance", err)
	}
	return path
}

// run starts ffmpeg or another tool and fails the test if it fails.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("run %s: %v: %s", name, err, out)
	}
}

// reading is 600 s of read speech as mp3, 44.1 kHz stereo: of the corpus where there is one, else of a sample over and over.
func reading(t *testing.T) string {
	t.Helper()
	loop, source := "-1", testmedia.Sample(t, "jfk.wav")
	if dir, ok := testmedia.Corpus(); ok {
		loop, source = "0", filepath.Join(dir, "long_en_newgate.m4a")
	}
	path := filepath.Join(t.TempDir(), "reading.mp3")
	run(t, "ffmpeg", "-v", "error", "-nostdin", "-stream_loop", loop, "-i", source, "-t", "600", "-ar", "44100", "-ac", "2",
		"-c:a", "libmp3lame", "-b:a", "128k", path)
	t.Logf("600 s of %s, mp3, 44.1 kHz stereo", filepath.Base(source))
	return path
}

// cost is what a command took, its children included.
type cost struct {
	wall, cpu float64 // seconds
	foreign   float64 // cores that other processes used meanwhile
}

// quiet is how many cores others may use during both runs of a pair that counts. It is set by what disturbs, never by the ratio
// that comes out: a pair that others disturbed is logged all the same.
const quiet = 0.25

func undisturbed(a, b cost) bool { return a.foreign < quiet && b.foreign < quiet }

// busy is the CPU time that the whole machine has used, in seconds.
func busy() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	total := 0.0
	for _, i := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		total += v / 100 // USER_HZ
	}
	return total, nil
}

// command runs a program to its end; stdout may be nil.
func command(ctx context.Context, stdout io.Writer, env []string, name string, args ...string) (cost, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Env = stdout, &stderr, append(os.Environ(), env...)
	start := time.Now()
	before, err := busy()
	if err != nil {
		return cost{}, err
	}
	if err := cmd.Run(); err != nil {
		return cost{}, fmt.Errorf("run %s: %w: %s", filepath.Base(name), err, stderr.String())
	}
	ps := cmd.ProcessState
	c := cost{wall: time.Since(start).Seconds(), cpu: (ps.UserTime() + ps.SystemTime()).Seconds()}
	after, err := busy()
	c.foreign = max(0, after-before-c.cpu) / c.wall
	return c, err
}

// spread is how ratios of paired runs lie.
type spread struct{ min, median, max float64 }

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return spread{v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]}
}

func (s spread) String() string {
	return fmt.Sprintf("min %.2f, median %.2f, max %.2f", s.min, s.median, s.max)
}

// load is the machine's load average, for the log: ratios taken on a busy machine say little.
func load(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
