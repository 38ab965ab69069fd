//go:build cgo

package whisper_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"steno/internal/testmedia"
	"steno/models"
	"steno/models/whisper"
	"steno/transcript"
)

func load(t *testing.T, name string, o whisper.Options) *whisper.Model {
	t.Helper()
	o.Path, o.VADPath = testmedia.Model(t, name), testmedia.Model(t, "silero-v6.2.0")
	o.Name, o.Device = name, "cpu"
	o.States = max(o.States, 1)
	m, err := whisper.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// jfk is the sample as 16 kHz mono PCM: the file has that form, after a header of 44 bytes and a list chunk.
func jfk(t *testing.T) []int16 {
	t.Helper()
	b, err := os.ReadFile(testmedia.Sample(t, "jfk.wav"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "data") + 8
	pcm := make([]int16, (len(b)-at)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[at+2*i:]))
	}
	return pcm
}

func text(segs []transcript.Segment) string {
	var ts []string
	for _, s := range segs {
		ts = append(ts, s.Text)
	}
	return strings.Join(ts, " ")
}

func TestJFKWordForWord(t *testing.T) {
	m := load(t, "base-q8_0", whisper.Options{})
	var emitted []transcript.Segment
	res, err := m.Transcribe(t.Context(), models.Request{PCM: jfk(t), Language: "en", Threads: 2},
		func(s []transcript.Segment) { emitted = append(emitted, s...) })
	if err != nil {
		t.Fatal(err)
	}
	if got := text(res.Segments); got != testmedia.JFK {
		t.Errorf("text %q, want %q", got, testmedia.JFK)
	}
	if text(emitted) != text(res.Segments) {
		t.Errorf("emitted %q, result %q: want the same", text(emitted), text(res.Segments))
	}
	if res.Stats.Passes != 1 || res.Stats.Tokens < 20 {
		t.Errorf("%d passes, %d tokens, want 1 and more than 20", res.Stats.Passes, res.Stats.Tokens)
	}
	if s := res.Segments[0]; s.AvgLogprob > 0 || s.AvgLogprob < -1 || s.CompressionRatio <= 0 || s.Start > 0.6 ||
		s.NoSpeechProb <= 0 || s.NoSpeechProb > 0.1 {
		t.Errorf("segment %+v: want a likely one near the start", s)
	}
}

func TestLanguageIsDetected(t *testing.T) {
	m := load(t, "base-q8_0", whisper.Options{})
	res, err := m.Transcribe(t.Context(), models.Request{PCM: jfk(t), Language: "auto", DetectOnly: true, Threads: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Language != "en" || res.LanguageProb < 0.9 || len(res.Segments) != 0 {
		t.Errorf("language %s (%.2f), %d segments: want en, sure, none", res.Language, res.LanguageProb, len(res.Segments))
	}
}

func TestWordTimes(t *testing.T) {
	m := load(t, "base-q8_0", whisper.Options{Words: true})
	res, err := m.Transcribe(t.Context(), models.Request{PCM: jfk(t), Language: "en", Words: true, Threads: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var words []transcript.Word
	for _, s := range res.Segments {
		words = append(words, s.Words...)
	}
	// Where pocketsphinx, laid over the text, has the words begin; it is off by 0.02 s itself (docs/ACCEPTANCE.md, "Word times").
	begin := []float64{
		0.31, 0.65, 0.99, 1.26, 1.65, 3.27, 4.01, 5.39, 5.63, 5.88, 6.44, 6.68, 6.93, 7.07, 8.17, 8.55, 8.84, 9.22, 9.39, 9.65, 9.80, 10.01,
	}
	if len(words) != len(begin) {
		t.Fatalf("%d words, want %d", len(words), len(begin))
	}
	var off []float64
	for i, w := range words {
		off = append(off, math.Abs(w.Start-begin[i]))
		if off[i] > 0.25 || i > 0 && w.Start < words[i-1].Start {
			t.Errorf("word %d, %q, begins at %.2f s, want %.2f", i, w.Text, w.Start, begin[i])
		}
	}
	slices.Sort(off)
	if median := off[len(off)/2]; median > 0.08 {
		t.Errorf("words are off by %.3f s, want 0.08", median)
	}
}

// TestStatesAreDeterministic runs the same chunk between windows of other lengths on one state: what an earlier window left
// in the state's buffers must not be heard (with flash attention and sized windows it was).
func TestStatesAreDeterministic(t *testing.T) {
	m := load(t, "tiny.en-q8_0", whisper.Options{})
	pcm := jfk(t)
	var first string
	for i, n := range []int{len(pcm), len(pcm) / 3, len(pcm) * 2 / 3, len(pcm)} {
		res, err := m.Transcribe(t.Context(), models.Request{PCM: pcm[:n], Language: "en", Threads: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = text(res.Segments)
		} else if n == len(pcm) && text(res.Segments) != first {
			t.Errorf("run %d said %q, the first %q", i, text(res.Segments), first)
		}
	}
}

func TestStatesRunInParallel(t *testing.T) {
	m := load(t, "tiny.en-q8_0", whisper.Options{States: 3})
	pcm := jfk(t)
	var wg sync.WaitGroup
	got := make([]string, 6)
	for i := range got {
		wg.Go(func() {
			res, err := m.Transcribe(t.Context(), models.Request{PCM: pcm, Language: "en", Threads: 1}, nil)
			if err != nil {
				t.Error(err)
			}
			got[i] = text(res.Segments)
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] != got[0] || got[i] == "" {
			t.Errorf("state run %d said %q, the first %q", i, got[i], got[0])
		}
	}
}

// TestWindowsSideBySide holds a team to its promise: what a window says does not depend on which others are decoded beside it, nor
// on one of them being cancelled.
func TestWindowsSideBySide(t *testing.T) { whisper.WithEachColumns(t, windowsSideBySide) }

func windowsSideBySide(t *testing.T, best bool) {
	model := "base-q8_0"
	if !best {
		model = "tiny.en-q8_0" // a third of the time
	}
	m := load(t, model, whisper.Options{States: 6, Cores: 2, Words: true})
	pcm := jfk(t)
	var mu sync.Mutex
	var took models.Seconds
	say := func(ctx context.Context, from, to int) (string, error) {
		res, err := m.Transcribe(ctx, models.Request{PCM: pcm[from:to], Language: "en", Words: true, Threads: 1}, nil)
		mu.Lock()
		defer mu.Unlock()
		took.Encode, took.Decode = took.Encode+res.Stats.Seconds.Encode, took.Decode+res.Stats.Seconds.Decode
		res.Stats.Seconds = models.Seconds{}
		return fmt.Sprintf("%+v", res), err
	}
	type span struct{ from, to int }
	var spans []span
	alone := map[span]string{}
	for i := range 6 {
		sp := span{i * len(pcm) / 16, len(pcm) - (i%3)*len(pcm)/5}
		spans = append(spans, sp)
		said, err := say(t.Context(), sp.from, sp.to)
		if err != nil {
			t.Fatal(err)
		}
		alone[sp] = said
	}
	took = models.Seconds{}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			sp := spans[i%len(spans)]
			said, err := say(t.Context(), sp.from, sp.to)
			if err != nil || said != alone[sp] {
				t.Errorf("beside others %+v said %s, %v; alone %s", sp, said, err, alone[sp])
			}
		})
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(40*i)*time.Millisecond)
			defer cancel()
			if _, err := say(ctx, 0, len(pcm)); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// Each second of a thread is some window's, whoever waits beside it.
	if wall := time.Since(start).Seconds(); took.Encode <= 0 || took.Decode <= 0 || took.Encode+took.Decode > 2*wall {
		t.Errorf("the windows took %+v, which two threads cannot do in %.2f s", took, wall)
	}
}

func TestCancelEndsADecodeAndLeavesTheModelUsable(t *testing.T) {
	m := load(t, "base-q8_0", whisper.Options{})
	long := make([]int16, 0, 30*16000)
	for len(long) < 29*16000 {
		long = append(long, jfk(t)...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := m.Transcribe(ctx, models.Request{PCM: long[:29*16000], Language: "en", Threads: 1}, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
	t.Logf("ended %v after the deadline", time.Since(start)-100*time.Millisecond)
	res, err := m.Transcribe(t.Context(), models.Request{PCM: jfk(t), Language: "en", Threads: 2}, nil)
	if err != nil || text(res.Segments) != testmedia.JFK {
		t.Errorf("after a cancel: %q, %v", text(res.Segments), err)
	}
}

func TestSilenceSaysNothing(t *testing.T) {
	m := load(t, "tiny.en-q8_0", whisper.Options{})
	for _, n := range []int{1, 100, 511, 16000, 480000} {
		res, err := m.Transcribe(t.Context(), models.Request{PCM: make([]int16, n), Language: "en", Threads: 1}, nil)
		if err != nil || len(res.Segments) != 0 {
			t.Errorf("%d samples of silence: %q, %v; want nothing", n, text(res.Segments), err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	m := load(t, "base-q8_0", whisper.Options{})
	for name, r := range map[string]models.Request{
		"no samples": {Language: "en", Threads: 1},
		"language":   {PCM: make([]int16, 16000), Language: "klingon", Threads: 1},
		"words":      {PCM: make([]int16, 16000), Language: "en", Words: true, Threads: 1},
	} {
		if _, err := m.Transcribe(t.Context(), r, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := whisper.Load(whisper.Options{Path: "/nowhere", Name: "x", States: 1}); err == nil {
		t.Error("loaded a file that is not there")
	}
}

// TestNoGPU: a model for a GPU does not silently end up on the CPU.
func TestNoGPU(t *testing.T) {
	o := whisper.Options{
		Path: testmedia.Model(t, "tiny.en-q8_0"), VADPath: testmedia.Model(t, "silero-v6.2.0"), Name: "tiny.en-q8_0", Device: "cuda:0", States: 1,
	}
	for backend, want := range map[string]string{"": "make cuda", filepath.Join(t.TempDir(), "libggml-cuda.so"): "cannot be loaded"} {
		o.Backend = backend
		if m, err := whisper.Load(o); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "cuda:0") {
			t.Errorf("library %q gives %v, %v; want an error with %q", backend, m, err, want)
		}
	}
}
