package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// host serves the VAD model as a model host does, with ranges, and counts what it is asked.
type host struct {
	*httptest.Server
	data  []byte
	asked atomic.Int32
	sent  atomic.Int64
	mu    sync.Mutex
	ask   []string // the Range header of each request
}

// newHost starts a host; wrap may be nil, or stand before the files.
func newHost(t *testing.T, wrap func(n int32, w http.ResponseWriter, r *http.Request, files http.Handler)) *host {
	t.Helper()
	h := &host{data: vadFile(t)}
	files := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ggml-org/whisper-vad/resolve/main/ggml-silero-v6.2.0.bin" {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(&counting{w, &h.sent}, r, "", time.Time{}, bytes.NewReader(h.data))
	})
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := h.asked.Add(1)
		h.mu.Lock()
		h.ask = append(h.ask, r.Header.Get("Range"))
		h.mu.Unlock()
		if wrap == nil {
			files.ServeHTTP(w, r)
			return
		}
		wrap(n, w, r, files)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *host) mirror() string { return h.URL + "/{repo}/resolve/main" }

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// cut sends only the first part of an answer and breaks the connection.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func puller(t *testing.T, mirrors ...string) *Store {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return NewStore(Config{
		Dir: filepath.Join(t.TempDir(), "models"), Mirrors: mirrors, Client: &http.Client{Transport: transport},
		Stall: 5 * time.Second, Retry: time.Millisecond,
	})
}

// sound checks that the model is in place, verified, and that nothing else is in the folder.
func sound(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.Verify(t.Context(), VADName); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(s.cfg.Dir); err != nil || len(left) != 1 {
		t.Errorf("in the folder: %v, %v; want only the model", left, err)
	}
}

func TestPull(t *testing.T) {
	h := newHost(t, nil)
	s := puller(t, h.mirror())
	var last, calls int64
	e, err := s.Pull(t.Context(), "silero-v6.2.0", func(done, total int64) {
		if done < last || total != 885098 {
			t.Errorf("progress from %d to %d of %d", last, done, total)
		}
		last = done
		calls++
	})
	if err != nil || e.Name != VADName || last != 885098 || calls < 3 {
		t.Errorf("%s, %v, %d of 885098 in %d calls", e.Name, err, last, calls)
	}
	sound(t, s)
	if _, err := s.Pull(t.Context(), VADName, nil); err != nil || h.asked.Load() != 1 {
		t.Errorf("a second pull: %v, %d requests in all, want 1", err, h.asked.Load())
	}
}

func TestPullReplacesADamagedFile(t *testing.T) {
	h := newHost(t, nil)
	s := puller(t, h.mirror())
	if err := os.Mkdir(s.cfg.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.cfg.Dir, fileOf(VADName)), h.data[:1000])
	if _, err := s.Pull(t.Context(), VADName, nil); err != nil {
		t.Error(err)
	}
	sound(t, s)
}

func TestPullResumes(t *testing.T) {
	const half = 400_000
	for _, c := range []struct {
		name string
		part func(data []byte) []byte
		sent int64 // bytes that the host should send
	}{
		{"what is there", func(d []byte) []byte { return d[:half] }, 885098 - half},
		{"a full part", func(d []byte) []byte { return d }, 0},
		{"too long a part", func(d []byte) []byte { return append(bytes.Clone(d), 'x') }, 885098},
		{"a part of something else", func([]byte) []byte { return []byte("<html>") }, 885098},
		{"a part of another model", func(d []byte) []byte { return append(bytes.Clone(d[:8]), make([]byte, half)...) },
			885098 - 8 - half + 885098},
		{"all of another model", func(d []byte) []byte { return append(bytes.Clone(d[:8]), make([]byte, 885098-8)...) }, 885098},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, nil)
			s := puller(t, h.mirror())
			if err := os.Mkdir(s.cfg.Dir, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(s.cfg.Dir, fileOf(VADName)+partSuffix), c.part(h.data))
			if _, err := s.Pull(t.Context(), VADName, nil); err != nil {
				t.Error(err)
			}
			sound(t, s)
			if got := h.sent.Load(); got != c.sent {
				t.Errorf("the host sent %d bytes, want %d; ranges %q", got, c.sent, h.ask)
			}
		})
	}
}

func TestPullGoesOnAfterCuts(t *testing.T) {
	h := newHost(t, func(n int32, w http.ResponseWriter, r *http.Request, files http.Handler) {
		if n <= 5 {
			w = &cut{w, 100_000}
		}
		files.ServeHTTP(w, r)
	})
	s := puller(t, h.mirror())
	if _, err := s.Pull(t.Context(), VADName, nil); err != nil {
		t.Error(err)
	}
	sound(t, s)
	if h.asked.Load() != 6 || h.ask[0] != "" || h.ask[1] != "bytes=100000-" || h.ask[5] != "bytes=500000-" {
		t.Errorf("asked for %q", h.ask)
	}
}

func TestPullFromAHostWithoutRanges(t *testing.T) {
	h := newHost(t, func(n int32, w http.ResponseWriter, r *http.Request, files http.Handler) {
		r.Header.Del("Range")
		if n == 1 {
			w = &cut{w, 100_000}
		}
		files.ServeHTTP(w, r)
	})
	s := puller(t, h.mirror())
	if _, err := s.Pull(t.Context(), VADName, nil); err != nil {
		t.Error(err)
	}
	sound(t, s)
}

func TestPullFallsBack(t *testing.T) {
	page := func(_ int32, w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!DOCTYPE html><title>Please log in</title>")
	}
	for name, bad := range map[string]func(int32, http.ResponseWriter, *http.Request, http.Handler){
		"not found": func(_ int32, w http.ResponseWriter, r *http.Request, _ http.Handler) { http.NotFound(w, r) },
		"down": func(_ int32, w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"web page": page,
		"web page of unknown length": func(n int32, w http.ResponseWriter, r *http.Request, files http.Handler) {
			w.(http.Flusher).Flush()
			page(n, w, r, files)
		},
		"cuts at once": func(_ int32, _ http.ResponseWriter, _ *http.Request, _ http.Handler) {
			panic(http.ErrAbortHandler)
		},
		"wrong content": func(_ int32, w http.ResponseWriter, r *http.Request, _ http.Handler) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 885098)))
		},
		"endless": func(_ int32, w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			for range 100 {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"wrong range": func(_ int32, w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Range", "bytes 5-885097/885098")
			w.WriteHeader(http.StatusPartialContent)
		},
	} {
		t.Run(name, func(t *testing.T) {
			broken, good := newHost(t, bad), newHost(t, nil)
			s := puller(t, broken.mirror(), good.mirror()+"/")
			if _, err := s.Pull(t.Context(), VADName, nil); err != nil {
				t.Error(err)
			}
			sound(t, s)
			if broken.asked.Load() == 0 || broken.asked.Load() > idleTries || good.asked.Load() != 1 {
				t.Errorf("%d requests to the bad mirror, %d to the good", broken.asked.Load(), good.asked.Load())
			}

			alone := puller(t, broken.mirror())
			_, err := alone.Pull(t.Context(), VADName, nil)
			wantCode(t, err, "MODEL_HOST", broken.mirror(), "name another mirror")
			if _, err := os.Stat(filepath.Join(alone.cfg.Dir, fileOf(VADName))); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file is in place after a pull without result: %v", err)
			}
		})
	}
}

// Whatever goes wrong, the password of a mirror and the signed address that it leads on to are not shown.
func TestPullShowsNoSecrets(t *testing.T) {
	host := newHost(t, func(_ int32, w http.ResponseWriter, r *http.Request, _ http.Handler) {
		http.Redirect(w, r, "http://127.0.0.1:1/x?signature=Zsecret", http.StatusFound)
	})
	address := strings.TrimPrefix(host.mirror(), "http://")
	for _, mirror := range []string{
		"http://steno:Zsecret@" + address, "http://Zsecret@" + address, "http://a:Zsecret@127.0.0.1:1", "http://a:Zsecret%zz@127.0.0.1:1",
		"http://a:Zsecret@ignored@127.0.0.1:1", "http://a:Zsecret@127.0.0.1:none/", "http://a:b/Zsecret@127.0.0.1:1/",
	} {
		s := puller(t, mirror)
		s.cfg.Client = &http.Client{}
		_, err := s.Pull(t.Context(), VADName, nil)
		if err == nil || strings.Contains(err.Error(), "Zsecret") || !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", mirror, err)
		}
		s.cfg.Client.CloseIdleConnections()
	}
}

func TestPullFromAFlatMirror(t *testing.T) {
	data := vadFile(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whisper/ggml-silero-v6.2.0.bin" {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}
	}))
	defer srv.Close()
	s := puller(t, srv.URL+"/whisper/")
	if _, err := s.Pull(t.Context(), VADName, nil); err != nil {
		t.Error(err)
	}
	sound(t, s)
}

func TestPullLeavesAStandstill(t *testing.T) {
	release := make(chan struct{})
	still := newHost(t, func(_ int32, w http.ResponseWriter, r *http.Request, files http.Handler) {
		w.Header().Set("Content-Length", "885098")
		_, _ = w.Write(make([]byte, 1000))
		w.(http.Flusher).Flush()
		<-release
	})
	good := newHost(t, nil)
	t.Cleanup(func() { close(release) }) // before the hosts close
	s := puller(t, still.mirror(), good.mirror())
	s.cfg.Stall = 50 * time.Millisecond
	if _, err := s.Pull(t.Context(), VADName, nil); err != nil {
		t.Error(err)
	}
	sound(t, s)
}

func TestPullCancelledKeepsThePart(t *testing.T) {
	release := make(chan struct{})
	h := newHost(t, func(n int32, w http.ResponseWriter, r *http.Request, files http.Handler) {
		if n > 1 {
			files.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", "885098")
		_, _ = w.Write(vadFile(t)[:300_000])
		w.(http.Flusher).Flush()
		<-release
	})
	t.Cleanup(func() { close(release) })
	s := puller(t, h.mirror())
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Pull(ctx, VADName, func(done, _ int64) {
		if done == 300_000 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
	list, err := s.List()
	if vad := list[33]; err != nil || vad.Name != VADName || vad.Present || vad.Partial != 300_000 {
		t.Errorf("after the cut: %+v, %v", vad, err)
	}
	if _, err := s.Pull(t.Context(), VADName, nil); err != nil {
		t.Error(err)
	}
	sound(t, s)
	if h.ask[1] != "bytes=300000-" {
		t.Errorf("asked for %q", h.ask)
	}
}

func TestConcurrentPullsFetchOnce(t *testing.T) {
	h := newHost(t, nil)
	s := puller(t, h.mirror())
	other := NewStore(s.cfg) // as another process, which shares only the folder
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			if _, err := []*Store{s, other}[i%2].Pull(t.Context(), VADName, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sound(t, s)
	if h.asked.Load() != 1 {
		t.Errorf("%d requests, want 1", h.asked.Load())
	}
}

func TestPullWaitsWithItsContext(t *testing.T) {
	s := puller(t, "http://127.0.0.1:0")
	if err := os.Mkdir(s.cfg.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	held, err := openLocked(t.Context(), filepath.Join(s.cfg.Dir, fileOf(VADName)+partSuffix))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	if _, err := s.Pull(ctx, VADName, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
}

func TestPullRefuses(t *testing.T) {
	h := newHost(t, nil)
	s := puller(t, h.mirror())
	_, err := s.Pull(t.Context(), "huge", nil)
	wantCode(t, err, "MODEL_UNKNOWN")
	s.free = func(string) (int64, error) { return 60 << 20, nil }
	_, err = s.Pull(t.Context(), VADName, nil)
	wantCode(t, err, "DISK_FULL", s.cfg.Dir, "make room")
	if h.asked.Load() != 0 {
		t.Error("a host was asked although there was no room")
	}
	s.free = freeBytes
	if _, err := s.Convert(t.Context(), newCT2(tinyShape, ctFloat16).write(t), "mine", F16, nil); err != nil {
		t.Fatal(err)
	}
	_, err = s.Pull(t.Context(), "mine", nil)
	wantCode(t, err, "MODEL_LOCAL", "convert it again")
}

func TestDefaultURL(t *testing.T) {
	var asked string
	client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.String()
		return nil, errors.New("no network here")
	})}
	s := NewStore(Config{Dir: t.TempDir(), Client: client, Retry: time.Millisecond})
	_, err := s.Pull(t.Context(), "turbo", nil)
	wantCode(t, err, "MODEL_HOST", "no network here")
	if want := "https://huggingface.co/ggerganov/whisper.cpp/resolve/main/ggml-large-v3-turbo.bin"; asked != want {
		t.Errorf("asked for %s, want %s", asked, want)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the message has lines: %q", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
