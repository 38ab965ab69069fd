package queue

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"steno/job"
)

func TestEmbeddedWithoutASocket(t *testing.T) {
	s := startServer(t, EmbeddedConfig{})
	if s.URL() != "" {
		t.Errorf("it listens on %s", s.URL())
	}
	_, err := Local(s.cfg.Dir)
	wantCode(t, err, job.Input, "NOT_RUNNING")
	if err := s.Health(); err != nil {
		t.Error(err)
	}
	if err := open(t, s).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLocalAccess(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0"})
	open(t, s)
	info, err := os.Stat(filepath.Join(dir, accessFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("access file: %v, %v; want 0600", info, err)
	}
	cfg, err := Local(dir)
	if err != nil || !strings.HasPrefix(cfg.URL, "nats://127.0.0.1:") || len(s.token) != 64 {
		t.Fatalf("local config %+v, %v", cfg, err)
	}
	q, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	submit(t, q, 1<<20)
	q.Close()
	_, err = Connect(t.Context(), Config{URL: cfg.URL, Token: "wrong", Attach: true})
	wantCode(t, err, job.Input, "QUEUE_REFUSED")
	s.Shutdown()
	_, err = Local(dir)
	wantCode(t, err, job.Input, "NOT_RUNNING")
}

func TestOneServerPerFolder(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, EmbeddedConfig{Dir: dir})
	_, err := Embedded(t.Context(), EmbeddedConfig{Dir: dir})
	wantCode(t, err, job.Input, "DATA_FOLDER_IN_USE")
	s.Shutdown()
	startServer(t, EmbeddedConfig{Dir: dir})
}

func TestEmbeddedRefusesOpenAddresses(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:4222", ":4222", "192.0.2.1:0", "localhost", "example.org:1"} {
		if s, err := Embedded(t.Context(), EmbeddedConfig{Dir: t.TempDir(), Listen: addr}); err == nil {
			s.Shutdown()
			t.Errorf("it listens on %s", addr)
		}
	}
}

func TestSetUp(t *testing.T) {
	s := startServer(t, EmbeddedConfig{})
	_, err := Connect(t.Context(), Config{Server: s, Attach: true})
	wantCode(t, err, job.Input, "QUEUE_NOT_SET_UP")
	open(t, s)
	open(t, s) // again, the same
	q := open(t, s, func(c *Config) { c.Limits.Jobs, c.Limits.ChunkAge = 7, time.Hour })
	info, err := q.jobs.Info(t.Context())
	if err != nil || info.Config.MaxMsgs != 7 {
		t.Errorf("limits were not brought in line: %d jobs, %v", info.Config.MaxMsgs, err)
	}
	chunks, err := q.chunks.Status(t.Context())
	if err != nil || chunks.TTL() != time.Hour {
		t.Errorf("limits were not brought in line: chunks for %v, %v", chunks, err)
	}
	open(t, s, func(c *Config) { c.Attach = true })
	if info, err = q.jobs.Info(t.Context()); err != nil || info.Config.MaxMsgs != 7 {
		t.Errorf("a client changed the limits to %d jobs, %v", info.Config.MaxMsgs, err)
	}
}

func TestConfigErrors(t *testing.T) {
	s := startServer(t, EmbeddedConfig{})
	for name, cfg := range map[string]Config{
		"nowhere":     {},
		"replicas":    {Server: s, Replicas: 9},
		"small":       {Server: s, Limits: Limits{Bytes: 1}},
		"no jobs":     {Server: s, Limits: Limits{Jobs: -1}},
		"young audio": {Server: s, Limits: Limits{AudioAge: -1}},
		"bad creds":   {Server: s, CredsFile: "absent"},
	} {
		if q, err := Connect(t.Context(), cfg); err == nil {
			q.Close()
			t.Errorf("%s: no error", name)
		}
	}
	q := open(t, s)
	for name, cfg := range map[string]WorkerConfig{
		"slots":     {Slots: -1},
		"attempts":  {MaxAttempts: -1},
		"heartbeat": {AckWait: time.Second, HeartbeatEvery: time.Second},
		"backoff":   {RetryBase: time.Hour},
		"stall":     {StallAfter: -1},
		"pool":      {Pools: []string{"GPU.*"}},
	} {
		if err := q.Work(t.Context(), cfg, echo); err == nil || !strings.HasPrefix(err.Error(), "worker config: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Embedded(t.Context(), EmbeddedConfig{}); err == nil {
		t.Error("no error without a data folder")
	}
}

func TestLocalReadsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, accessFile)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var syntax *json.SyntaxError
	if _, err := Local(dir); !errors.As(err, &syntax) {
		t.Errorf("half a file: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	q := newQueue(t, func(c *Config) { c.Metrics = reg })
	waiting := submit(t, q, 10)
	bad := submit(t, q, 11)
	families := []string{
		"steno_queue_pending_jobs", "steno_queue_oldest_job_age_seconds", "steno_queue_in_flight_jobs", "steno_queue_dead_jobs",
		"steno_jobs_completed_total", "steno_job_failures_total", "steno_job_retries_total", "steno_queue_redelivered_total",
		"steno_queue_wait_seconds", "steno_jobs_in_flight", "steno_job_slots", "steno_queue_ack_seconds",
		"steno_queue_chunk_results_total", "steno_queue_leases_lost_total",
	}
	lint, err := testutil.GatherAndLint(reg)
	if err != nil || len(lint) > 0 {
		t.Errorf("lint: %v, %v", lint, err)
	}
	for _, name := range families {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n == 0 {
			t.Errorf("%s: %d series, %v", name, n, err)
		}
	}
	if got := gauge(t, reg, "steno_queue_pending_jobs"); got != 2 {
		t.Errorf("%v pending jobs, want 2", got)
	}
	if got := gauge(t, reg, "steno_queue_oldest_job_age_seconds"); got <= 0 {
		t.Errorf("the oldest job is %v s old", got)
	}
	work(t, q, quick(), failOn(bad.ID))
	await(t, q, waiting.ID, job.Done)
	await(t, q, bad.ID, job.Failed)
	drained(t, q)
	if got := gauge(t, reg, "steno_queue_dead_jobs"); got != 1 {
		t.Errorf("%v dead jobs, want 1", got)
	}
	eventually(t, "the ends are counted", func() bool {
		return testutil.ToFloat64(q.metrics.completed.WithLabelValues("done")) == 1 &&
			testutil.ToFloat64(q.metrics.completed.WithLabelValues("failed")) == 1 &&
			testutil.ToFloat64(q.metrics.failures.WithLabelValues("INPUT")) == 1 &&
			testutil.ToFloat64(q.metrics.inFlight) == 0
	})
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestReplicasNeedACluster: one server keeps one copy, and says what to do about it.
func TestReplicasNeedACluster(t *testing.T) {
	t.Parallel()
	_, err := Connect(t.Context(), Config{Server: startServer(t, EmbeddedConfig{}), Replicas: 3, Retry: true})
	wantCode(t, err, job.Input, "NO_CLUSTER")
}
