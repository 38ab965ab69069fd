package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"steno/models"
	"steno/transcript"
)

func TestTranscribe(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	p := start(t, cfg)
	if i := p.Info(); i.Model != "ok" || i.SHA256 != cfg.Load.SHA256 || i.States != 2 || i.PID == os.Getpid() || i.PID == 0 {
		t.Errorf("info %+v", i)
	}
	r := chunk("echo 3")
	r.PCM[0] = -12345
	var got []transcript.Segment
	res, err := p.Transcribe(t.Context(), r, func(s []transcript.Segment) { got = append(got, s...) })
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || len(res.Segments) != 3 || res.Stats.Passes != len(r.PCM) {
		t.Fatalf("emitted %v, result %+v", got, res)
	}
	for i := range got {
		if got[i].Text != "en -12345" || got[i].ID != i || res.Segments[i].Text != got[i].Text {
			t.Errorf("segment %d: emitted %+v, result %+v", i, got[i], res.Segments[i])
		}
	}
	if err := p.Err(); err != nil {
		t.Errorf("a living engine has error %v", err)
	}
}

// More callers than states wait for each other, and answers do not mix.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	p := start(t, config(t, "ok"))
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			r := chunk("echo 5")
			r.PCM[0] = int16(i)
			n := 0
			res, err := p.Transcribe(t.Context(), r, func(s []transcript.Segment) { n += len(s) })
			want := fmt.Sprintf("en %d", i)
			if err != nil || n != 5 || len(res.Segments) != 5 || res.Segments[4].Text != want {
				t.Errorf("caller %d: %d segments, %+v, %v", i, n, res, err)
			}
		})
	}
	wg.Wait()
}

func TestLargeChunk(t *testing.T) {
	t.Parallel()
	p := start(t, config(t, "ok"))
	r := chunk("")
	r.PCM = make([]int16, maxSamples)
	res, err := p.Transcribe(t.Context(), r, nil)
	if err != nil || res.Stats.Passes != maxSamples {
		t.Errorf("%+v, %v", res, err)
	}
}

// How an engine can end under a request, and what the caller gets to know.
func TestDeath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, prompt string
		is           error
		signal       syscall.Signal
		text         string
	}{
		{name: "kill -9", prompt: "then 9", signal: syscall.SIGKILL},
		{name: "assertion", prompt: "assert", text: "GGML_ASSERT(wctx.state) failed"},
		{name: "abort", prompt: "then 6", text: "SIGABRT"},
		{name: "segmentation fault", prompt: "then 11", text: "SIGSEGV"},
		{name: "nil pointer", prompt: "panic", text: "nil pointer dereference"},
		{name: "stopped", prompt: "then 19", is: ErrStalled},
		{name: "hung", prompt: "still 60000", is: ErrStalled},
		{name: "text on the socket", prompt: raw("Segmentation fault (core dumped)"), is: ErrProtocol},
		{name: "frame over its limit", prompt: raw("\xff\xff\xff\xff\x05\x01\x00\x00\x00"), is: ErrProtocol},
		{name: "answer nobody asked for", prompt: raw("\x02\x00\x00\x00\x06\x63\x00\x00\x00{}"), is: ErrProtocol},
		{name: "broken JSON", prompt: raw("\x01\x00\x00\x00\x05\x01\x00\x00\x00{"), is: ErrProtocol},
		{name: "frame of the other side", prompt: raw("\x00\x00\x00\x00\x0a\x00\x00\x00\x00"), is: ErrProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, "ok")
			cfg.Limits.Silence, cfg.Limits.Stall, cfg.Limits.Pace = time.Second, 1200*time.Millisecond, 0.001
			p := start(t, cfg)
			var got []transcript.Segment
			_, err := p.Transcribe(t.Context(), chunk(c.prompt), func(s []transcript.Segment) { got = append(got, s...) })
			if !errors.Is(err, models.ErrEngineDied) {
				t.Fatalf("error %v", err)
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v", err)
			}
			if s := signalOf(err); s != c.signal {
				t.Errorf("signal %v, want %v: %v", s, c.signal, err)
			}
			if strings.HasPrefix(c.prompt, "then") && len(got) != 1 {
				t.Errorf("segments before the death: %v", got)
			}
			<-p.Done()
			if !errors.Is(p.Err(), models.ErrEngineDied) || !gone(p.Info().PID) {
				t.Errorf("after death: %v, process gone: %t", p.Err(), gone(p.Info().PID))
			}
			if _, err := p.Transcribe(t.Context(), chunk(""), nil); !errors.Is(err, models.ErrEngineDied) {
				t.Errorf("request to a dead engine: %v", err)
			}
		})
	}
}

// raw makes the child write bytes to its socket.
func raw(b string) string { return "raw " + hex.EncodeToString([]byte(b)) }

// A slow decode is not a hung one: what moves lives, however long it takes.
func TestSlowIsNotHung(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Limits.Silence, cfg.Limits.Stall, cfg.Limits.Pace = 500*time.Millisecond, 500*time.Millisecond, 0.001
	p := start(t, cfg)
	r := chunk("slow 1500")
	r.Activity = new(atomic.Uint64)
	if _, err := p.Transcribe(t.Context(), r, nil); err != nil {
		t.Error(err)
	}
	if r.Activity.Load() == 0 {
		t.Error("whoever asked was not shown that the decode moves")
	}
	// What does not move has four times the expected, which by now is 1.5 s for a window.
	if _, err := p.Transcribe(t.Context(), chunk("still 1500"), nil); err != nil {
		t.Error(err)
	}
}

// An error of a request is not one of the engine.
func TestRequestErrors(t *testing.T) {
	t.Parallel()
	p := start(t, config(t, "ok"))
	for prompt, want := range map[string]struct {
		is   error
		text string
	}{
		"oom":  {models.ErrOutOfMemory, "make a decode state"},
		"fail": {nil, "not a language of this model"},
		"nan":  {nil, "NaN"},
	} {
		_, err := p.Transcribe(t.Context(), chunk(prompt), nil)
		if err == nil || !strings.Contains(err.Error(), want.text) || errors.Is(err, models.ErrEngineDied) {
			t.Errorf("%s: %v", prompt, err)
		}
		if want.is != nil && !errors.Is(err, want.is) {
			t.Errorf("%s: %v is not %v", prompt, err, want.is)
		}
	}
	if _, err := p.Transcribe(t.Context(), models.Request{}, nil); err == nil {
		t.Error("a request without samples was sent")
	}
	if _, err := p.Transcribe(t.Context(), chunk(""), nil); err != nil {
		t.Errorf("after errors: %v", err)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	p := start(t, config(t, "ok"))
	for _, prompt := range []string{"wait", "still 300"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		_, err := p.Transcribe(ctx, chunk(prompt), nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
			t.Errorf("%s: %v after %s", prompt, err, time.Since(began))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Transcribe(ctx, chunk("echo 1"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	if _, err := p.Transcribe(t.Context(), chunk("echo 1"), nil); err != nil {
		t.Errorf("after cancels: %v", err)
	}
}

// A decode that ignores its cancel takes the process with it; other requests may be tried again.
func TestCancelIgnored(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Limits.Cancel = 200 * time.Millisecond
	p := start(t, cfg)
	other := make(chan error)
	go func() {
		_, err := p.Transcribe(context.Background(), chunk("wait"), nil)
		other <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := p.Transcribe(ctx, chunk("deaf"), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the cancelled request: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if err := <-other; !errors.Is(err, models.ErrEngineDied) || !errors.Is(err, ErrStalled) {
		t.Errorf("the other request: %v", err)
	}
}

// A caller that waits for a state gives up with its context, and when the engine dies.
func TestWaitForState(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Load.States = 1
	p := start(t, cfg)
	busy := make(chan error)
	go func() {
		_, err := p.Transcribe(context.Background(), chunk("wait"), nil)
		busy <- err
	}()
	waitFor(t, 5*time.Second, "a request in flight", func() bool { return len(p.slots) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Transcribe(ctx, chunk(""), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting: %v", err)
	}
	p.Close()
	if err := <-busy; !errors.Is(err, models.ErrEngineDied) || !errors.Is(err, ErrClosed) {
		t.Errorf("in flight at close: %v", err)
	}
	if _, err := p.Transcribe(t.Context(), chunk(""), nil); !errors.Is(err, models.ErrEngineDied) {
		t.Errorf("after close: %v", err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, prompt string
		limit        time.Duration
	}{
		{"idle", "", 2 * time.Second},
		{"busy", "wait", 2 * time.Second},
		{"deaf", "deaf", 3 * time.Second},
		{"stopped", "then 19", time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, "ok")
			cfg.Limits.Close = min(c.limit, 500*time.Millisecond)
			p := start(t, cfg)
			end := make(chan error, 1)
			if c.prompt != "" {
				go func() {
					_, err := p.Transcribe(context.Background(), chunk(c.prompt), nil)
					end <- err
				}()
				waitFor(t, 5*time.Second, "a request in flight", func() bool { return len(p.slots) == 1 })
				time.Sleep(20 * time.Millisecond)
			} else {
				end <- ErrClosed
			}
			began := time.Now()
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if err := p.Close(); err != nil {
						t.Error(err)
					}
					if !gone(p.Info().PID) {
						t.Error("Close returned before the process was gone")
					}
				})
			}
			wg.Wait()
			if took := time.Since(began); took > c.limit {
				t.Errorf("closing took %s", took)
			}
			if err := <-end; !errors.Is(err, ErrClosed) {
				t.Errorf("in flight: %v", err)
			}
			if !errors.Is(p.Err(), ErrClosed) || errors.Is(p.Err(), models.ErrEngineDied) {
				t.Errorf("Err is %v", p.Err())
			}
		})
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	missing := func(c *Config) { c.Load.Path += ".gone" }
	for _, c := range []struct {
		name, model string
		change      func(*Config)
		is          error
		not         error
		text        string
	}{
		{name: "no file", model: "ok", change: missing, is: ErrBadFile, not: models.ErrEngineDied, text: "no such file"},
		{name: "wrong file", model: "ok", change: func(c *Config) { c.Load.SHA256 = strings.Repeat("ab", 32) }, is: ErrBadFile,
			not: models.ErrEngineDied, text: "want abab"},
		{name: "no checksum", model: "ok", change: func(c *Config) { c.Load.SHA256 = "" }, is: ErrBadFile, text: "no SHA-256 is known"},
		{name: "a folder", model: "ok", change: func(c *Config) { c.Load.Path = "/" }, is: ErrBadFile, text: "not a regular file"},
		{name: "bad VAD file", model: "ok", change: func(c *Config) { c.Load.VADPath, c.Load.VADSHA256 = c.Load.Path, strings.Repeat("0", 64) },
			is: ErrBadFile},
		{name: "exit", model: "exit", is: models.ErrEngineDied, text: "exit status 3"},
		{name: "abort", model: "abort", is: models.ErrEngineDied, not: models.ErrOutOfMemory, text: "n_dims <= 4"},
		{name: "out of memory", model: "oom", is: models.ErrOutOfMemory, not: models.ErrEngineDied},
		{name: "out of device memory", model: "oom-text", is: models.ErrOutOfMemory},
		{name: "abort for memory", model: "oom-abort", is: models.ErrOutOfMemory, text: "bad_alloc"},
		{name: "hang", model: "hang", change: func(c *Config) { c.Limits.Load = 300 * time.Millisecond }, is: ErrStalled},
		{name: "no hello", model: "ok", change: role("mute", 300*time.Millisecond), is: ErrStalled},
		{name: "no such command", model: "ok", change: role("exit", time.Second), is: models.ErrEngineDied, text: "no such subcommand"},
		{name: "other protocol", model: "ok", change: role("noise", time.Second), is: ErrProtocol},
		{name: "closes its end", model: "ok", change: role("leave", 5*time.Second), text: "did not exit"},
		{name: "other version", model: "ok", change: func(c *Config) { c.Version = "next" }, text: "restart the worker"},
		{name: "no such file", model: "ok", change: func(c *Config) { c.Command = []string{"/nonexistent/steno"} }, is: os.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, c.model)
			if c.change != nil {
				c.change(&cfg)
			}
			p, err := Start(t.Context(), cfg)
			if p != nil || err == nil {
				t.Fatalf("started, error %v", err)
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v", err)
			}
			if c.not != nil && errors.Is(err, c.not) {
				t.Errorf("error %v is %v", err, c.not)
			}
			if strings.Count(err.Error(), models.ErrEngineDied.Error()) > 1 {
				t.Errorf("says twice that it died: %v", err)
			}
		})
	}
}

func role(name string, handshake time.Duration) func(*Config) {
	return func(c *Config) {
		c.Command = []string{os.Args[0], "role:" + name}
		c.Limits.Handshake = handshake
	}
}

func TestStartCancelled(t *testing.T) {
	t.Parallel()
	cause := errors.New("nobody waits any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(cause) })
	began := time.Now()
	_, err := Start(ctx, config(t, "hang"))
	if !errors.Is(err, cause) || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// The child gets what its libraries need and no secret.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Env = []string{"STENO_PASSWORD=hunter2", "AWS_SECRET=x", "CUDA_VISIBLE_DEVICES=1", "PATH=/bin", "PATHOLOGY=1", "=C:=x"}
	p := start(t, cfg)
	res, err := p.Transcribe(t.Context(), chunk("env"), nil)
	if err != nil || res.Language != "CUDA_VISIBLE_DEVICES=1\nPATH=/bin" {
		t.Errorf("environment %q, %v", res.Language, err)
	}
}

// A terminal or a service manager signals everybody; only the parent may end its engine.
func TestSignalsForEverybody(t *testing.T) {
	t.Parallel()
	p := start(t, config(t, "ok"))
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if err := syscall.Kill(p.Info().PID, s); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if _, err := p.Transcribe(t.Context(), chunk("echo 1"), nil); err != nil {
		t.Error(err)
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(p.Info().PID) + "/comm")
	if err != nil || string(comm) != "steno-engine\n" {
		t.Errorf("process name %q, %v", comm, err)
	}
	score, err := os.ReadFile("/proc/" + strconv.Itoa(p.Info().PID) + "/oom_score_adj")
	if err != nil || string(score) != "500\n" {
		t.Errorf("score for the out-of-memory killer %q, %v", score, err)
	}
}

func TestObserverAndLog(t *testing.T) {
	t.Parallel()
	cfg := config(t, "ok")
	cfg.Limits.Silence = 200 * time.Millisecond
	var out syncBuilder
	cfg.Log = slog.New(slog.NewTextHandler(&out, nil))
	events := make(chan string, 100)
	rss := make(chan int64, 1000)
	cfg.Observer = Observer{
		Started: func(i models.Info, d time.Duration) { events <- fmt.Sprint("started ", i.Model, d > 0) },
		Ended: func(i models.Info, err error) {
			events <- fmt.Sprint("ended ", i.Model, errors.Is(err, models.ErrEngineDied))
		},
		Memory: func(_ models.Info, n int64) { rss <- n },
	}
	p := start(t, cfg)
	if n := <-rss; n < 1<<20 {
		t.Errorf("%d resident bytes", n)
	}
	_, _ = p.Transcribe(t.Context(), chunk("assert"), nil)
	if a, b := <-events, <-events; a != "started oktrue" || b != "ended oktrue" {
		t.Errorf("events %q, %q", a, b)
	}
	if s := out.String(); !strings.Contains(s, "GGML_ASSERT") || !strings.Contains(s, "model=ok") {
		t.Errorf("log: %s", s)
	}
}
