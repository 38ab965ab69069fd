//go:build cgo

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"steno/internal/faultsize"
	"steno/internal/mutate"
	"steno/internal/proc"
	"steno/internal/testmedia"
	"steno/models"
	"steno/models/engine"
)

// modelTime bounds the load and a request of one mutant each, and hangTime what the parent lets an engine be still for.
const modelTime, hangTime = time.Minute, 5 * time.Second

// modelMutators are the ways in which weights are broken, most of them before the first weight and where tensors begin.
var modelMutators = []struct {
	name string
	way  mutate.Way
	at   func(m *modelTrial) int
}{
	{"hyperparameters", mutate.Any(mutate.Number, mutate.Bits), func(m *modelTrial) int { return 4 * m.rnd.IntN(12) }},
	{"filters", mutate.Any(mutate.Number, mutate.Bits, mutate.Bytes, mutate.Swap), func(m *modelTrial) int {
		return 48 + m.rnd.IntN(1<<16)
	}},
	{"vocabulary", mutate.Any(mutate.Number, mutate.Bits, mutate.Bytes, mutate.Zeros), func(m *modelTrial) int {
		return 1<<16 + m.rnd.IntN(m.tensors[0]-1<<16)
	}},
	{"tensor's header", mutate.Any(mutate.Number, mutate.Bits), (*modelTrial).tensor},
	{"tensor's header and weights", mutate.Any(mutate.Bytes, mutate.Swap, mutate.Zeros), (*modelTrial).tensor},
	{"cut at a tensor", mutate.Cut, (*modelTrial).tensor},
	{"first MiB", mutate.Any(mutate.Cut, mutate.Repeat, mutate.Swap), func(m *modelTrial) int { return m.rnd.IntN(1 << 20) }},
	{"anywhere", mutate.Any(mutate.Bits, mutate.Bytes, mutate.Zeros, mutate.Cut, mutate.Repeat), func(m *modelTrial) int {
		return m.rnd.IntN(len(m.good))
	}},
}

// modelTrial gives broken weights to real engines. One goroutine uses it.
type modelTrial struct {
	t       *testing.T // the one that runs
	rnd     *rand.Rand
	cfg     engine.Config // its path is where broken files lie
	good    []byte
	tensors []int // where the tensors' headers begin
	words   string
	speech  models.Request
	longest time.Duration
}

// newModelTrial puts the weights in place and transcribes with them as they should be.
func newModelTrial(t *testing.T) *modelTrial {
	t.Helper()
	good, err := os.ReadFile(testmedia.Model(t, small+"-q8_0"))
	if err != nil {
		t.Fatal(err)
	}
	vad := testmedia.Model(t, "silero-v6.2.0")
	vadData, err := os.ReadFile(vad)
	if err != nil {
		t.Fatal(err)
	}
	m := &modelTrial{t: t, good: good}
	for at := 0; ; {
		i := bytes.Index(good[at:], []byte("coder.")) // encoder and decoder
		if i < 0 {
			break
		}
		at += i + 6
		m.tensors = append(m.tensors, at-8-20) // before its name: dimensions, length of the name, type, two or three sizes
	}
	if len(m.tensors) < 100 {
		t.Fatalf("found %d tensors in the weights", len(m.tensors))
	}
	pcm := samples(t, testmedia.Sample(t, "jfk.wav"))
	m.speech = models.Request{Language: "en", Threads: 1}
	for _, v := range pcm[:2*16000] {
		m.speech.PCM = append(m.speech.PCM, int16(v*32767))
	}
	shelf := modelShelf{engine.File{Path: testmedia.Model(t, small+"-q8_0"), Size: int64(len(good))}}
	loader := engine.Loader{Files: shelf, States: func(string) int { return modelStates }, Cores: 2}
	bytes, err := loader.Estimate(models.Spec{Model: small, Device: "cpu"})
	if err != nil {
		t.Fatal(err)
	}
	m.cfg = engine.Config{
		Load: engine.LoadRequest{
			Model: small, Path: filepath.Join(t.TempDir(), "ggml-tiny.en.bin"), VADPath: vad, VADSHA256: sumOf(vadData),
			Device: "cpu", States: modelStates, Cores: 2,
		},
		Bytes: bytes, Version: version, Command: []string{binary.path(t), "engine"}, Env: engineEnv(os.Environ()),
	}
	m.put(good)
	var end string
	if end, m.words = m.run(); end != works || !strings.Contains(m.words, "fellow") {
		t.Fatalf("the weights as they should be: %s, %q", end, m.words)
	}
	m.cfg.Limits = engine.Limits{Load: hangTime, Stall: hangTime, Pace: 0.05}
	return m
}

// modelStates are more than there are cores, as a worker makes them: its own kernels read the weights, too.
const modelStates = 3

// modelShelf has one file.
type modelShelf struct{ file engine.File }

func (s modelShelf) Model(string) (engine.File, error) { return s.file, nil }
func (s modelShelf) VAD() (engine.File, error)         { return engine.File{}, nil }

func sumOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func (m *modelTrial) tensor() int { return m.tensors[m.rnd.IntN(len(m.tensors))] + m.rnd.IntN(24) }

// put makes a file with data, whose checksum is what is expected.
func (m *modelTrial) put(data []byte) {
	m.t.Helper()
	m.cfg.Load.SHA256 = sumOf(data)
	m.write(m.cfg.Load.Path, data)
}

// write makes a file anew, so that nobody who has the old one open sees it.
func (m *modelTrial) write(path string, data []byte) {
	m.t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// How a run may end, beside the death of the engine.
const (
	works   = "accepted"
	refused = "refused"
	failed  = "accepted, and the request failed"
	stalled = "did not end in time and were killed"
	greedy  = "took too much memory and were killed"
)

// run loads what lies there and transcribes with it, and tells how that ended and what was heard, or the error's text. Whatever
// happens, this process goes on as before, and soon.
func (m *modelTrial) run() (end, text string) {
	m.t.Helper()
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(m.t)
	began := time.Now()
	end, text = m.transcribe()
	m.longest = max(m.longest, time.Since(began))
	if time.Since(began) > 2*modelTime {
		m.t.Errorf("it took %s", time.Since(began))
	}
	if left := childrenOf(m.t, os.Getpid()); len(left) > 0 {
		m.t.Errorf("processes remain: %v", left)
	}
	eventually(m.t, 5*time.Second, "goroutines and descriptors are back", func() bool {
		return runtime.NumGoroutine() <= goroutines && openFiles(m.t) <= descriptors
	})
	return end, text
}

func (m *modelTrial) transcribe() (end, text string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), modelTime)
	defer cancel()
	p, err := engine.Start(ctx, m.cfg)
	if err != nil {
		return m.judge(err, refused), err.Error()
	}
	defer p.Close()
	ctx, cancel = context.WithTimeout(m.t.Context(), modelTime)
	defer cancel()
	res, err := p.Transcribe(ctx, m.speech, nil)
	if err != nil {
		return m.judge(err, failed), err.Error()
	}
	for _, s := range res.Segments {
		text += s.Text
	}
	return works, text
}

// died finds the signal in what Go says of one that C brought about.
var died = regexp.MustCompile(`\bSIG[A-Z]+\b`)

// judge names the end that an error tells of: otherwise is that of an engine that lives.
func (m *modelTrial) judge(err error, otherwise string) string {
	m.t.Helper()
	var exit *proc.ExitError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		m.t.Errorf("no end within %s: %v", modelTime, err)
	case strings.Count(err.Error(), models.ErrEngineDied.Error()) > 1:
		m.t.Errorf("the death is told more than once: %v", err)
	case errors.Is(err, engine.ErrStalled):
		return stalled
	case errors.Is(err, models.ErrOutOfMemory):
		return greedy
	case !errors.Is(err, models.ErrEngineDied):
		return otherwise
	case !errors.As(err, &exit):
		m.t.Errorf("a death without its exit status: %v", err)
	case proc.Signal(err) != 0:
		return "died of " + unix.SignalName(proc.Signal(err))
	}
	if signal := died.FindString(err.Error()); signal != "" {
		return "died of " + signal
	}
	return "ended by themselves"
}

// openFiles is the number of descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	links, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(links)
}

// tally counts how runs ended.
type tally map[string]int

func (c tally) String() string {
	var ends []string
	for _, end := range slices.SortedFunc(maps.Keys(c), func(a, b string) int { return c[b] - c[a] }) {
		ends = append(ends, fmt.Sprint(c[end], " ", end))
	}
	return strings.Join(ends, ", ")
}

// TestMutatedModels is RELIABILITY's F11. Weights that are broken, but have the checksum that is expected, are read by
// whisper.cpp in an engine's process: it may refuse them, work with them or die, and its parent sees one error and goes on. So it
// does where they change while they are read. Files that do not have the checksum are refused by name.
func TestMutatedModels(t *testing.T) {
	size, seed := faultsize.Size(t, 8), faultsize.Seed(t)
	m := newModelTrial(t)
	ends, swapped := tally{}, tally{}
	for i := range size {
		how := modelMutators[i%len(modelMutators)]
		m.try(fmt.Sprintf("%d %s", i, how.name), seed, i, func() {
			m.put(mutate.Apply(m.rnd, how.way, m.good, how.at(m)))
			end, text := m.run()
			if end == works && text != m.words {
				end = "accepted with other words"
			}
			ends[end]++
			m.t.Logf("%s: %.300q", end, text)
		})
	}
	bad := badWeights(m)
	swaps := size / 8
	for i := range swaps {
		m.try(fmt.Sprintf("%d another file takes its place", i), seed, size+2*i, func() { swapped[m.replaced()]++ })
		m.try(fmt.Sprintf("%d it is written over", i), seed, size+2*i+1, func() { swapped[m.overwritten()]++ })
	}
	m.t = t
	m.put(m.good)
	if end, text := m.run(); end != works || text != m.words {
		t.Errorf("the weights as they should be, after all that: %s, %q", end, text)
	}
	t.Attr("injected", strconv.Itoa(size+bad+2*swaps))
	t.Attr("noted", fmt.Sprintf("%d mutants: %v; %d missing, short or with another checksum: refused; "+
		"%d swapped while they were read: %v; the longest took %.0f s", size, ends, bad, 2*swaps, swapped, m.longest.Seconds()))
}

// try runs f as a test of its own, with choices that depend on seed and number alone.
func (m *modelTrial) try(name string, seed uint64, number int, f func()) {
	whole := m.t
	defer func() { m.t = whole }()
	whole.Run(name, func(t *testing.T) {
		m.t, m.rnd = t, rand.New(rand.NewPCG(seed, uint64(number)))
		f()
	})
}

// badWeights are files that are not what is expected. It returns how many it tried.
func badWeights(m *modelTrial) int {
	flipped := mutate.Apply(rand.New(rand.NewPCG(0, 0)), mutate.Bits, m.good, len(m.good)/2)
	all := map[string]struct {
		data []byte
		want []string // in the error
	}{
		"missing": {nil, []string{"no such file"}},
		"empty":   {[]byte{}, []string{sumOf(m.good), sumOf(nil)}},
		"short":   {m.good[:len(m.good)/2], []string{sumOf(m.good), sumOf(m.good[:len(m.good)/2])}},
		"other":   {flipped, []string{sumOf(m.good), sumOf(flipped)}},
	}
	for name, c := range all {
		m.try(name, 0, 0, func() {
			m.put(c.data)
			m.cfg.Load.SHA256 = sumOf(m.good)
			if c.data == nil {
				if err := os.Remove(m.cfg.Load.Path); err != nil {
					m.t.Fatal(err)
				}
			}
			end, text := m.run()
			for _, part := range append(c.want, m.cfg.Load.Path) {
				if end != refused || !strings.Contains(text, part) {
					m.t.Errorf("%s: %q, want %q in it", end, text, part)
				}
			}
		})
	}
	return len(all)
}

// during does something to the file at any time while an engine reads it, and returns how that run ended.
func (m *modelTrial) during(do func() error) (end, text string) {
	m.t.Helper()
	m.put(m.good)
	wait := time.Duration(m.rnd.IntN(500)) * time.Millisecond // process, checksum and load take about as long
	done := make(chan error, 1)
	time.AfterFunc(wait, func() { done <- do() })
	end, text = m.run()
	if err := <-done; err != nil {
		m.t.Error(err)
	}
	m.t.Logf("after %s: %s: %.300q", wait, end, text)
	return end, text
}

// replaced lets broken weights take the file's name: the engine reads on in the file that it has checked, or refuses the other.
func (m *modelTrial) replaced() string {
	other := m.cfg.Load.Path + ".new"
	m.write(other, mutate.Apply(m.rnd, mutate.Bytes, m.good, m.rnd.IntN(1<<20)))
	end, text := m.during(func() error { return os.Rename(other, m.cfg.Load.Path) })
	if (end != works || text != m.words) && end != refused {
		m.t.Errorf("%s, %q: want the same words, or none", end, text)
	}
	return end
}

// overwritten writes over the file itself, which may be after its checksum was taken: it is a mutant then.
func (m *modelTrial) overwritten() string {
	at := m.rnd.IntN(1 << 20)
	junk := mutate.Apply(m.rnd, mutate.Bytes, m.good[at:at+1<<16], 0)
	end, text := m.during(func() error {
		f, err := os.OpenFile(m.cfg.Load.Path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(junk, int64(at))
		return errors.Join(err, f.Close())
	})
	if end == works && text != m.words {
		end = "accepted with other words"
	}
	return end
}
