package audio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/goleak"

	"steno/internal/faultsize"
	"steno/internal/mutate"
	"steno/job"
)

// mutantSources are what mutants are made of: 8 s of three tones and silence, which are two chunks, in what people send.
var mutantSources = []struct {
	name     string
	encoding []string
}{
	{"16k.wav", []string{"-ar", "16000", "-c:a", "pcm_s16le"}},
	{"stereo.wav", []string{"-ar", "44100", "-ac", "2", "-c:a", "pcm_s16le"}},
	{"a.mp3", []string{"-ar", "44100", "-c:a", "libmp3lame", "-b:a", "64k"}},
	{"a.flac", []string{"-ar", "16000", "-c:a", "flac"}},
	{"a.ogg", []string{"-ar", "44100", "-ac", "2", "-c:a", "libvorbis"}},
	{"a.opus", []string{"-ar", "48000", "-c:a", "libopus", "-b:a", "32k"}},
	{"a.m4a", []string{"-ar", "44100", "-c:a", "aac", "-b:a", "64k", "-movflags", "faststart"}},
	{"a.webm", []string{"-ar", "48000", "-c:a", "libopus", "-b:a", "32k"}},
	{"a.mkv", []string{"-ar", "44100", "-ac", "2", "-c:a", "ac3", "-b:a", "128k"}},
}

// mutators are the ways in which media are broken.
var mutators = []string{"bits", "bytes", "cut", "blocks", "splice"}

const (
	mutantAudio = time.Minute      // the longest that the service takes, as the plan is told
	mutantTime  = 10 * time.Second // for all of a mutant's way
)

// mutant is one broken file: the same seed and number give the same bytes and the same way through the package.
type mutant struct {
	seed   uint64
	number int
	data   []byte
	want   Want
	kept   bool // audio on disk; else it is decoded a second time
}

func (m mutant) source() int  { return m.number % len(mutantSources) }
func (m mutant) mutator() int { return m.number / len(mutantSources) % len(mutators) }

func (m mutant) String() string {
	return fmt.Sprintf("seed %d, mutant %d (%s, %s, round %d; loudness %q, kept %t)", m.seed, m.number,
		mutantSources[m.source()].name, mutators[m.mutator()], m.number/len(mutantSources)/len(mutators), m.want.Loudness, m.kept)
}

// newMutant breaks one of the sources. Half of the places are in the first KiB, where headers are, and a quarter in the last.
func newMutant(seed uint64, number int, sources [][]byte) mutant {
	rnd := rand.New(rand.NewPCG(seed, uint64(number)))
	m := mutant{seed: seed, number: number, want: Want{ChunkSeconds: 5}, kept: true}
	switch rnd.IntN(8) { // most jobs ask for nothing
	case 0:
		m.want.Loudness = string(Classic)
	case 1:
		m.kept = false
	}
	whole := sources[m.source()]
	part := min(1024, len(whole))
	at := rnd.IntN(part)
	switch rnd.IntN(4) {
	case 0:
		at = rnd.IntN(len(whole))
	case 1:
		at = len(whole) - 1 - at
	}
	ways := map[string]mutate.Way{
		"bits": mutate.Bits, "bytes": mutate.Any(mutate.Bytes, mutate.Number, mutate.Zeros), "cut": mutate.Cut,
		"blocks": mutate.Any(mutate.Repeat, mutate.Swap), "splice": mutate.Splice(sources[rnd.IntN(len(sources))]),
	}
	m.data = mutate.Apply(rnd, ways[mutators[m.mutator()]], whole, at)
	return m
}

// TestMutatedMedia is RELIABILITY's F10: whatever is wrong with a file, it becomes chunks or one error of class INPUT that says
// what to do, and nothing remains of it.
func TestMutatedMedia(t *testing.T) {
	// 0.4 s of a core each, nearly all of it the start of ffprobe and ffmpeg.
	size, seed := faultsize.Size(t, 60), faultsize.Seed(t)
	var sources [][]byte
	for _, s := range mutantSources {
		// Without bitexact some containers get a random number.
		exact := []string{"-fflags", "+bitexact", "-flags:a", "+bitexact"}
		path := media(t, s.name, slices.Concat(beeps(8, 0.5, 1.5, 6), s.encoding, exact)...)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, data)
	}
	before, open := goleak.IgnoreCurrent(), descriptors(t)
	trial := mutantTrial{t: t, codes: map[string]int{}}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 2 {
		tl, dir := keeping(t), t.TempDir()
		workers.Go(func() {
			for n := int(next.Add(1)) - 1; n < size; n = int(next.Add(1)) - 1 {
				trial.run(tl, dir, newMutant(seed, n, sources))
			}
		})
	}
	workers.Wait()
	if left := children(t); len(left) > 0 {
		t.Errorf("processes remain: %v", left)
	}
	if now := descriptors(t); now > open {
		t.Errorf("%d descriptors are open, before there were %d", now, open)
	}
	goleak.VerifyNone(t, before, goleak.IgnoreTopFunction("steno/internal/proc.spawn"))
	if each := len(mutantSources) * len(mutators); size >= each && (trial.decoded < size/4 || trial.refused < size/10) {
		t.Errorf("of %d mutants %d were decoded and %d refused: the run has not tried enough", size, trial.decoded, trial.refused)
	}
	t.Attr("injected", strconv.Itoa(size))
	t.Attr("noted", trial.String())
}

// mutantTrial counts what became of mutants. Safe for concurrent use.
type mutantTrial struct {
	t *testing.T

	mu               sync.Mutex
	decoded, refused int
	late             int // the first time
	codes            map[string]int
	longest          time.Duration
}

func (m *mutantTrial) String() string {
	var codes []string
	for _, code := range slices.SortedFunc(maps.Keys(m.codes), func(a, b string) int { return m.codes[b] - m.codes[a] }) {
		codes = append(codes, fmt.Sprint(m.codes[code], " ", code))
	}
	said := fmt.Sprintf("%d decoded, %d refused with INPUT (%s), the longest took %.1f s", m.decoded, m.refused,
		strings.Join(codes, ", "), m.longest.Seconds())
	if m.late > 0 {
		said += fmt.Sprintf(", %d took more than %s, but not when they were tried again", m.late, mutantTime)
	}
	return said
}

// run takes a mutant through the package, as a job does, and looks at what it leaves.
func (m *mutantTrial) run(tl Tools, dir string, mu mutant) {
	fail := func(format string, args ...any) {
		m.t.Errorf("%s: %s", mu, fmt.Sprintf(format, args...))
		kept := filepath.Join(m.t.ArtifactDir(), fmt.Sprintf("seed%d-%d-%s", mu.seed, mu.number, mutantSources[mu.source()].name))
		if err := os.WriteFile(kept, mu.data, 0o600); err != nil { // go test -artifacts leaves it there
			m.t.Error(err)
		}
	}
	path := filepath.Join(dir, mutantSources[mu.source()].name)
	if err := os.WriteFile(path, mu.data, 0o600); err != nil {
		m.t.Error(err)
		return
	}
	if !mu.kept {
		tl.MaxScratch = -1
	}
	s, chunks, took, err := guarded(m.t.Context(), tl, path, mu.want)
	late := took > mutantTime
	if late {
		// A machine that others use may have had no time for it. What hangs does so again.
		if s, chunks, took, err = guarded(m.t.Context(), tl, path, mu.want); took > mutantTime {
			fail("it took %s", took)
		}
	}
	code := ""
	if err == nil {
		if wrong := misfit(s, chunks); wrong != "" {
			fail("%s", wrong)
		}
	} else if code, err = refusal(err, dir); err != nil {
		fail("%v", err)
	}
	if left := held(m.t, tl.Scratch); len(left) > 0 {
		fail("left %q", left)
	}
	for pid, command := range children(m.t) {
		if strings.Contains(command, path) {
			fail("process %d remains: %q", pid, command)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.longest = max(m.longest, took)
	if late {
		m.late++
	}
	if code == "" {
		m.decoded++
		return
	}
	m.refused++
	m.codes[code]++
}

// guarded is within for as long as a mutant may take; it makes a panic an error.
func guarded(ctx context.Context, tl Tools, path string, want Want) (s *Stream, chunks []Chunk, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, mutantTime)
	defer cancel()
	began := time.Now()
	defer func() {
		took = time.Since(began)
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	s, chunks, err = within(ctx, tl, path, want, mutantAudio)
	return s, chunks, 0, err
}

// misfit says what is wrong with chunks; empty if nothing is.
func misfit(s *Stream, chunks []Chunk) string {
	total, at := s.Timeline().Total, int64(0)
	if total > int64(mutantAudio.Seconds())*Rate {
		return fmt.Sprintf("%.1f s of audio, more than the plan allows", Seconds(total))
	}
	for i, c := range chunks {
		if c.Index != i || c.Span.Start < at || c.Span.Len() < 1 || c.Span.End > total || int64(len(c.PCM)) != c.Span.Len() {
			return fmt.Sprintf("chunk %d of %d is number %d, %v with %d samples, after %d and of %d", i, len(chunks), c.Index, c.Span,
				len(c.PCM), at, total)
		}
		at = c.Span.End
	}
	return ""
}

// refusal is the code of an error that a user may be shown, who need not know the folder, or what is wrong with it.
func refusal(err error, dir string) (code string, wrong error) {
	var je *job.Error
	if !errors.As(err, &je) || je.Class != job.Input {
		return "", fmt.Errorf("error of another class than INPUT: %w", err)
	}
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if je.Code == "" || len(je.Message) < 20 || len(je.Message) > 1000 || !utf8.ValidString(je.Message) ||
		strings.ContainsFunc(je.Message, odd) || strings.Contains(je.Message, dir) {
		return "", fmt.Errorf("no message for people: %s: %q", je.Code, je.Message)
	}
	return je.Code, nil
}

// children are the command lines of the processes that this one has started and that are there, by number. One that has ended and
// that nobody waits for has an empty one.
func children(t testing.TB) map[int]string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Error("no processes to look at", err)
	}
	found := map[int]string{}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := bytes.Cut(stat, []byte(") ")) // pid (name) state ppid
		if f := bytes.Fields(after); len(f) < 2 || string(f[1]) != strconv.Itoa(os.Getpid()) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		found[pid] = string(bytes.ReplaceAll(command, []byte{0}, []byte(" ")))
	}
	return found
}

// descriptors is how many this process has open.
func descriptors(t testing.TB) int {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Error(err)
	}
	return len(links)
}
