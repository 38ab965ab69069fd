//go:build cgo

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"steno/api"
	"steno/internal/config"
	"steno/models"
	"steno/models/files"
	"steno/transcript"
)

// TestReadyTakesTheWayOfAJob breaks the way to a model in each of the ways in which it can, and asks over HTTP.
func TestReadyTakesTheWayOfAJob(t *testing.T) {
	const standard, other = "base-q8_0", "tiny.en-q8_0"
	full := &blockingLog{taken: make(chan struct{}), free: make(chan struct{})}
	loader := &shells{}
	pool, err := models.NewPool(models.PoolConfig{
		MaxModels: 1, MaxBytes: 1 << 30, StallTimeout: 100 * time.Millisecond, AnswerTimeout: 100 * time.Millisecond,
		BreakerDeaths: 1, Quarantine: time.Hour, Log: slog.New(slog.NewTextHandler(full, nil)),
	}, loader, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{standard, other} {
		emptyModel(t, dir, name)
	}
	log := &logBuffer{}
	a := &app{
		cfg: config.Config{Model: "base", Models: dir, Admin: "127.0.0.1:0"}, reg: prometheus.NewRegistry(),
		log: slog.New(slog.NewTextHandler(log, nil)),
	}
	m := &machine{pool: pool, store: a.store()}
	check := func(ctx context.Context) error { return m.ready(ctx, a.cfg.Model) }
	stop, err := a.admin(t.Context(), map[string]api.Check{"models": check}, pool.Quarantined)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	url := adminURL.FindStringSubmatch(log.String())[1]
	want := func(status int, words ...string) {
		t.Helper()
		code, body := readiness(t, url)
		if code != status {
			t.Errorf("status %d, want %d: %s", code, status, body)
		}
		for _, w := range words {
			if !strings.Contains(body, w) {
				t.Errorf("%s does not say %q", body, w)
			}
		}
	}

	want(200, `"models":"ok"`)
	if n := loader.loads.Load(); n != 0 {
		t.Errorf("asking an idle node made %d loads", n)
	}

	idle, err := pool.Acquire(t.Context(), models.Spec{Model: standard})
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if err := pool.Preload(context.Background(), models.Spec{Model: other}); err != nil {
			t.Error(err)
		}
	})
	eventually(t, 5*time.Second, "a request waits", func() bool { return pool.Report().Waiting == 1 })
	time.Sleep(150 * time.Millisecond) // StallTimeout
	want(503, "model "+other+" on cpu waits since", "nothing has moved", "lent: "+standard)
	idle.Release()
	waiting.Wait()
	want(200, `"models":"ok"`)

	loader.dies.Store(true)
	_ = pool.Preload(t.Context(), models.Spec{Model: other, Words: true}) // dies
	want(200, `"models":"ok"`, `"quarantined":{"`+other+`"`)
	_ = pool.Preload(t.Context(), models.Spec{Model: standard})
	want(503, "the default model "+standard+" rests", `"`+other+`"`)
	a.cfg.Model = "small" // which is not here
	want(503, "each model that is here rests")
	emptyModel(t, dir, "tiny")
	want(200)

	full.stop.Store(true)
	loader.dies.Store(false)
	waiting.Go(func() { _ = pool.Preload(context.Background(), models.Spec{Model: "tiny"}) })
	<-full.taken
	want(503, "has had no answer for")
	close(full.free)
	waiting.Wait()
	want(200)
	if err := pool.Close(t.Context()); err != nil {
		t.Error(err)
	}
	want(503, "shutting down")
}

func readiness(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/health/ready", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || !json.Valid(data) {
		t.Fatalf("%v: %s", err, data)
	}
	return res.StatusCode, string(data)
}

// emptyModel puts a file of a model's size into a folder.
func emptyModel(t *testing.T, dir, name string) {
	t.Helper()
	e, err := files.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	path := dir + "/" + e.File
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, e.Size); err != nil {
		t.Fatal(err)
	}
}

// shells is a loader of engines with nothing in them.
type shells struct {
	dies  atomic.Bool
	loads atomic.Int32
}

func (*shells) Estimate(models.Spec) (int64, error) { return 1 << 20, nil }

func (s *shells) Load(_ context.Context, spec models.Spec) (models.Engine, error) {
	s.loads.Add(1)
	if s.dies.Load() {
		return nil, fmt.Errorf("%w: signal: aborted", models.ErrEngineDied)
	}
	return &shell{info: models.Info{Model: spec.Model, Device: spec.Device}, done: make(chan struct{})}, nil
}

type shell struct {
	info models.Info
	done chan struct{}
}

func (s *shell) Info() models.Info     { return s.info }
func (s *shell) Done() <-chan struct{} { return s.done }
func (s *shell) Err() error            { return nil }
func (s *shell) Close() error          { close(s.done); return nil }

func (s *shell) Transcribe(context.Context, models.Request, func([]transcript.Segment)) (models.Result, error) {
	return models.Result{}, nil
}

// blockingLog is a log whose reader stops for a while.
type blockingLog struct {
	stop        atomic.Bool
	taken, free chan struct{}
}

func (l *blockingLog) Write(b []byte) (int, error) {
	if l.stop.CompareAndSwap(true, false) {
		close(l.taken)
		<-l.free
	}
	return len(b), nil
}
