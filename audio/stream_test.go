package audio

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"steno/job"
	"steno/transcript"
)

// prepared opens a file for reading.
func prepared(t testing.TB, ctx context.Context, tl Tools, path string, want Want) (*Stream, *Splitter) {
	t.Helper()
	info, err := Probe(ctx, tl, path)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(info, want, Resources{Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Prepare(ctx, tl, path, info, plan)
	if err != nil {
		t.Fatal(err)
	}
	return s, Split(plan, s)
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	t.Parallel()
	path := media(t, "a.wav", speech(t, "0")...)
	for name, c := range map[string]struct {
		path string
		want Want
		held int // descriptors while the stream is open
	}{
		"read from disk":        {path, Want{}, 1},
		"decoded a second time": {path, Want{Loudness: "classic"}, 0},
		"silent":                {media(t, "b.wav", "-f", "lavfi", "-i", "anullsrc=r=16000:d=65"), Want{}, 0},
	} {
		tl := keeping(t)
		s, split := prepared(t, t.Context(), tl, c.path, c.want)
		if open := held(t, tl.Scratch); len(open) != c.held || c.held > 0 && !strings.HasSuffix(open[0], " (deleted)") {
			t.Errorf("%s: open %q, want %d without a name", name, open, c.held)
		}
		if split.Len() > 0 {
			if _, err := split.Next(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		}
		if left := held(t, tl.Scratch); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
		if err := s.read(make([]int16, 1), 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: read after close: %v", name, err)
		}
	}
}

// turnstile is a limit that does something when a program starts or has ended.
type turnstile struct{ enter, leave func() }

func (g turnstile) Acquire(context.Context, int64) error { g.enter(); return nil }
func (g turnstile) Release(int64)                        { g.leave() }

func TestNothingIsLeftAfterAnError(t *testing.T) {
	t.Parallel()
	path := media(t, "a.m4a", append(speech(t, "0"), "-movflags", "faststart")...)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("the job was called off")
	nothing := func() {}
	for name, c := range map[string]struct {
		path  string
		limit func(tl Tools, cancel func()) turnstile
		plan  Plan
		is    func(error) bool
	}{
		"truncated": {path: write(t, "b.m4a", whole[:len(whole)/2]), is: is("TRUNCATED")},
		"too long":  {path: path, plan: Plan{MaxSeconds: 3}, is: is("DURATION_LIMIT")},
		"no ffmpeg": {path: path, limit: func(tl Tools, _ func()) turnstile {
			return turnstile{enter: func() { wantOpen(t, tl) }, leave: nothing}
		}, is: func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		"cancelled before the decode": {path: path, limit: func(tl Tools, cancel func()) turnstile {
			return turnstile{enter: func() { wantOpen(t, tl); cancel() }, leave: nothing}
		}, is: func(err error) bool { return errors.Is(err, context.Canceled) }},
		"cancelled in the decode": {path: path, limit: func(tl Tools, cancel func()) turnstile {
			return turnstile{enter: nothing, leave: func() { wantOpen(t, tl); cancel() }}
		}, is: func(err error) bool { return errors.Is(err, cause) }},
	} {
		tl := keeping(t)
		info, err := Probe(t.Context(), tl, c.path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		if c.limit != nil {
			tl.Limit = c.limit(tl, func() { cancel(cause) })
		}
		if name == "no ffmpeg" {
			tl.FFmpeg += "-absent"
		}
		c.plan.ChunkSeconds = 30
		if _, err := Prepare(ctx, tl, c.path, info, c.plan); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
		cancel(nil)
		if left := held(t, tl.Scratch); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
}

// wantOpen makes sure that there is something that could be left.
func wantOpen(t testing.TB, tl Tools) {
	t.Helper()
	if open := held(t, tl.Scratch); len(open) != 1 {
		t.Errorf("open %q, want one spool", open)
	}
}

// is looks for an error of class INPUT with a code.
func is(code string) func(error) bool {
	return func(err error) bool {
		var je *job.Error
		return errors.As(err, &je) && je.Class == job.Input && je.Code == code
	}
}

// Reading from disk ends with the context, too.
func TestCancelEndsReading(t *testing.T) {
	t.Parallel()
	cause := errors.New("the job was called off")
	ctx, cancel := context.WithCancelCause(t.Context())
	s, split := prepared(t, ctx, keeping(t), media(t, "a.wav", speech(t, "0")...), Want{ChunkSeconds: 5})
	defer s.Close()
	if _, err := split.Next(t.Context()); err != nil || s.decoder != nil {
		t.Fatal("no chunk from disk", err)
	}
	cancel(cause)
	if _, err := split.Next(t.Context()); !errors.Is(err, cause) || errors.Is(err, io.EOF) {
		t.Errorf("error %v, want the cause", err)
	}
}

// A file that changes after it was measured is told from one that ends early.
func TestSecondDecodeEndsEarly(t *testing.T) {
	t.Parallel()
	tl := keeping(t)
	tl.MaxScratch = -1
	path := media(t, "a.wav", speech(t, "0")...)
	s, _ := prepared(t, t.Context(), tl, path, Want{})
	defer s.Close()
	s.decoder.total += Rate
	var je *job.Error
	if err := s.read(make([]int16, Rate+tolerance), s.m.Samples-tolerance/2); !errors.As(err, &je) || je.Code != "DECODE" {
		t.Errorf("error %v, want DECODE", err)
	}
}

func TestWaveform(t *testing.T) {
	e := envelope{0, level(1), level(0.5), level(0.25), 0}
	if got, want := e.waveform(0, 100), (transcript.Waveform{Step: 0.01, Peaks: []byte{0, 255, 128, 64, 0}}); !near(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := e.waveform(6.02, 3), (transcript.Waveform{Step: 0.02, Peaks: []byte{255, 255, 0}}); !near(got, want) {
		t.Errorf("raised, in three steps: got %v, want %v", got, want)
	}
	if got := (envelope{}).waveform(0, 10); len(got.Peaks) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// near allows for the envelope's half decibels.
func near(a, b transcript.Waveform) bool {
	return a.Step == b.Step && slices.EqualFunc(a.Peaks, b.Peaks, func(x, y byte) bool { return x-y < 8 || y-x < 8 })
}

// Whole gives what the chunks give, at its place, and the silence between: from what is kept, and decoded again where nothing is.
func TestWholeIsAllOfTheRecording(t *testing.T) {
	for name, scratch := range map[string]int64{"kept": 0, "decoded again": -1} {
		tl := tools(t)
		tl.MaxScratch = scratch
		s, split := prepared(t, t.Context(), tl, media(t, "a.mp3", beeps(65, 0.7, 30, 61.2)...), Want{})
		w := s.Whole()
		first, err := split.Next(t.Context()) // both are read at a time
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(w)
		if err != nil || int64(len(raw)) != 2*s.Timeline().Total {
			t.Fatalf("%s: %d bytes of %d samples, %v", name, len(raw), s.Timeline().Total, err)
		}
		for c, err := first, error(nil); err == nil; c, err = split.Next(t.Context()) {
			for i, v := range c.PCM {
				if at := 2 * (c.Span.Start + int64(i)); v != int16(binary.LittleEndian.Uint16(raw[at:])) {
					t.Fatalf("%s: sample %d of the chunk at %d differs", name, i, c.Span.Start)
				}
			}
		}
		if err := errors.Join(w.Close(), w.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
}
