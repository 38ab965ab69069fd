package engine

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"steno/models"
	"steno/transcript"
)

// The test binary is its own child: a first argument that is a role makes it play it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role := roles[os.Args[1]]; role != nil {
			os.Exit(role())
		}
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("steno/internal/proc.spawn"))
}

var roles = map[string]func() int{
	"role:engine": playEngine,
	"role:mute":   func() int { time.Sleep(time.Minute); return 0 },
	"role:exit":   func() int { fmt.Fprintln(os.Stderr, "no such subcommand"); return 7 },
	"role:noise":  playNoise,
	"role:leave":  playLeave,
	"role:parent": playParent,
}

func playEngine() int {
	conn, err := OpenChild()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if err := Serve(context.Background(), conn, "test", loadScripted); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// playNoise is a process that took the socket and speaks another protocol.
func playNoise() int {
	conn, err := OpenChild()
	if err != nil {
		return 2
	}
	fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
	time.Sleep(time.Minute)
	return 0
}

// playLeave closes the connection and lives on.
func playLeave() int {
	conn, err := OpenChild()
	if err != nil {
		return 2
	}
	conn.Close()
	time.Sleep(time.Minute)
	return 0
}

// playParent starts an engine, says its process id, keeps it busy and waits to be killed.
func playParent() int {
	p, err := Start(context.Background(), testConfig(os.Args[2], os.Args[3], "ok"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(p.Info().PID)
	_, _ = p.Transcribe(context.Background(), chunk("deaf"), nil)
	return 0
}

// scripted is a backend that does what the prompt says; its loading does what the model's name says.
type scripted struct {
	info models.Info
	junk [][]byte
}

func loadScripted(ctx context.Context, r LoadRequest) (Backend, error) {
	switch r.Model {
	case "exit":
		os.Exit(3)
	case "abort":
		fmt.Fprintln(os.Stderr, "ggml.c:42: GGML_ASSERT(n_dims <= 4) failed")
		signalSelf(syscall.SIGABRT)
	case "oom":
		return nil, fmt.Errorf("make states: %w", models.ErrOutOfMemory)
	case "oom-text":
		fmt.Fprintln(os.Stderr, "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory")
		return nil, errors.New("the engine refused the file")
	case "oom-abort":
		fmt.Fprintln(os.Stderr, "terminate called after throwing an instance of 'std::bad_alloc'")
		signalSelf(syscall.SIGABRT)
	case "hang":
		time.Sleep(time.Minute)
	case "grow":
		take(400)
		time.Sleep(time.Minute)
	}
	b, err := os.ReadFile(r.Path)
	if err != nil {
		return nil, err
	}
	return &scripted{info: models.Info{
		Model: r.Model, Device: r.Device, SHA256: r.SHA256, States: r.States, Bytes: int64(len(b)), Multilingual: true,
	}}, nil
}

func signalSelf(s syscall.Signal) {
	_ = syscall.Kill(os.Getpid(), s)
	time.Sleep(time.Minute)
}

// take makes n MiB resident.
func take(n int) []byte {
	b := make([]byte, n<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return b
}

func (s *scripted) Info() models.Info { return s.info }
func (s *scripted) Close() error      { return nil }

func (s *scripted) Transcribe(ctx context.Context, r models.Request, emit func([]transcript.Segment)) (models.Result, error) {
	res := models.Result{Language: r.Language, LanguageProb: 1, Stats: models.Stats{Passes: len(r.PCM)}}
	verb, arg, _ := strings.Cut(r.Prompt, " ")
	n, _ := strconv.Atoi(arg)
	switch verb {
	case "echo": // n segments, one for each time
		for i := range n {
			seg := transcript.Segment{ID: i, Start: float64(i), End: float64(i + 1), Text: fmt.Sprintf("%s %d", r.Language, r.PCM[0])}
			emit([]transcript.Segment{seg})
			res.Segments = append(res.Segments, seg)
		}
	case "then": // a segment, and then the signal
		emit([]transcript.Segment{{Text: "before"}})
		signalSelf(syscall.Signal(n))
	case "assert":
		fmt.Fprint(os.Stderr, "whisper.cpp:7: GGML_ASSERT(wctx.state) failed\n")
		signalSelf(syscall.SIGABRT)
	case "panic":
		var p *models.Info
		_ = p.States
	case "wait": // until cancelled
		<-ctx.Done()
		return res, ctx.Err()
	case "deaf": // to a cancel
		time.Sleep(time.Minute)
	case "slow": // n milliseconds that move
		for range n {
			time.Sleep(time.Millisecond)
			r.Activity.Add(1)
		}
	case "still": // n milliseconds that do not
		time.Sleep(time.Duration(n) * time.Millisecond)
	case "raw": // bytes on the socket
		b, _ := hex.DecodeString(arg)
		_, _ = syscall.Write(childFD, b)
		time.Sleep(time.Minute)
	case "nan":
		var zero float64
		res.LanguageProb = 0 / zero
	case "oom":
		return res, fmt.Errorf("make a decode state: %w", models.ErrOutOfMemory)
	case "fail":
		return res, errors.New("not a language of this model")
	case "leak": // n MiB
		s.junk = append(s.junk, take(n))
	case "grow": // and not come back
		s.junk = append(s.junk, take(n))
		time.Sleep(time.Minute)
	case "pid":
		res.Language = strconv.Itoa(os.Getpid())
	case "env":
		res.Language = strings.Join(os.Environ(), "\n")
	}
	return res, nil
}

func chunk(prompt string) models.Request {
	return models.Request{PCM: make([]int16, 1600), Language: "en", Prompt: prompt, Threads: 1}
}

func modelFile(t testing.TB) (path, sum string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "model.bin")
	data := []byte("weights of " + t.Name())
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, sumOf(data)
}

func sumOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func testConfig(path, sum, model string) Config {
	return Config{
		Load:    LoadRequest{Model: model, Path: path, SHA256: sum, Device: "cpu", States: 2},
		Version: "test",
		Command: []string{os.Args[0], "role:engine"},
		Env:     []string{"GORACE=atexit_sleep_ms=0"}, // the race detector's exit takes a second otherwise
		Limits:  Limits{Silence: 2 * time.Second, Stall: 3 * time.Second, Cancel: time.Second, Handshake: 10 * time.Second},
	}
}

func config(t testing.TB, model string) Config {
	path, sum := modelFile(t)
	return testConfig(path, sum, model)
}

func start(t testing.TB, cfg Config) *Process {
	t.Helper()
	p, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// gone tells whether a process has ended; a zombie that nobody waits for has.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// openFDs counts this process's descriptors.
func openFDs(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func firstLine(t *testing.T, f *os.File) string {
	t.Helper()
	s, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(s)
}
