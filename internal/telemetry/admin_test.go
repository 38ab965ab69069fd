package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	_ "net/http/pprof" // fills the default mux, which must not be ours
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves cfg on a free port of loopback until the test ends.
func start(t *testing.T, cfg AdminConfig) (s *AdminServer, url string) {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Registry == nil {
		cfg.Registry = NewRegistry("1.2.3")
	}
	s, err := Serve(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, "http://" + s.Addr()
}

func get(t *testing.T, url, accept string) (code int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := NewRegistry("1.2.3")
	stage := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "steno_test_seconds", Help: "A test.", Buckets: []float64{1}})
	reg.MustRegister(stage)
	stage.(prometheus.ExemplarObserver).ObserveWithExemplar(0.5, prometheus.Labels{"trace_id": "abc"})
	_, url := start(t, AdminConfig{Registry: reg})

	code, _, body := get(t, url+"/metrics", "text/plain")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	for _, want := range []string{
		`version="1.2.3"} 1`, "go_goroutines ", "process_open_fds ", "promhttp_metric_handler_requests_in_flight 1",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(body, "trace_id") {
		t.Error("the text format shows an exemplar")
	}
	_, header, body := get(t, url+"/metrics", "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") || !strings.Contains(body, `trace_id="abc"`) {
		t.Errorf("OpenMetrics: %s without the exemplar", header.Get("Content-Type"))
	}
}

func TestRegistryPassesLint(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(NewRegistry("dev"))
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// A collector that fails must not hide the others.
func TestBrokenCollector(t *testing.T) {
	t.Parallel()
	reg := NewRegistry("dev")
	desc := prometheus.NewDesc("steno_broken", "Always fails.", nil, nil)
	reg.MustRegister(prometheus.CollectorFunc(func(ch chan<- prometheus.Metric) {
		ch <- prometheus.NewInvalidMetric(desc, errors.New("broken"))
	}))
	_, url := start(t, AdminConfig{Registry: reg})
	if code, _, body := get(t, url+"/metrics", ""); code != http.StatusOK || !strings.Contains(body, "steno_build_info") {
		t.Errorf("status %d: %.200s", code, body)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	down := func(context.Context) error { return errors.New("connection refused") }
	_, url := start(t, AdminConfig{Ready: map[string]Check{"nats": down}})
	code, header, body := get(t, url+"/health", "")
	if code != http.StatusOK || header.Get("Content-Type") != "application/json" || strings.TrimSpace(body) != `{"status":"ok"}` {
		t.Errorf("%d %s %s", code, header.Get("Content-Type"), body)
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	up := func(context.Context) error { return nil }
	down := func(context.Context) error { return errors.New("connection refused") }
	breaks := func(context.Context) error { panic("nil map") }
	for name, c := range map[string]struct {
		checks map[string]Check
		code   int
		want   readyReply
	}{
		"no checks": {nil, 200, readyReply{Status: "ready", Checks: map[string]string{}}},
		"all up": {map[string]Check{"nats": up, "models": up}, 200,
			readyReply{Status: "ready", Checks: map[string]string{"nats": "ok", "models": "ok"}}},
		"one down": {map[string]Check{"nats": down, "models": up}, 503,
			readyReply{Status: "unready", Checks: map[string]string{"nats": "connection refused", "models": "ok"}}},
		"one breaks": {map[string]Check{"nats": breaks}, 503,
			readyReply{Status: "unready", Checks: map[string]string{"nats": "the check itself broke: nil map"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := start(t, AdminConfig{Ready: c.checks})
			code, header, body := get(t, url+"/health/ready", "")
			var got readyReply
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if code != c.code || !reflect.DeepEqual(got, c.want) || header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %+v, want %d %+v", code, got, c.code, c.want)
			}
		})
	}
}

// Slow checks are asked together and given up together: the answer takes one time-out, not one per check.
func TestSlowChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		late := func(context.Context) error { time.Sleep(time.Second); return nil }
		h := &readiness{checks: map[string]Check{"a": slow, "b": slow, "c": late}}
		ctx, cancel := context.WithTimeout(t.Context(), checkTimeout)
		defer cancel()
		begin := time.Now()
		got := h.run(ctx)
		if took := time.Since(begin); took != checkTimeout {
			t.Errorf("took %v", took)
		}
		if got["a"] == nil || got["a"].Error() != "no answer within 2s" || got["b"] == nil || got["c"] != nil {
			t.Errorf("%v", got)
		}
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	_, plain := start(t, AdminConfig{})
	_, profiled := start(t, AdminConfig{PProf: true})
	for path, want := range map[string][2]int{ // without and with pprof
		"/debug/pprof/":                   {404, 200},
		"/debug/pprof/heap":               {404, 200},
		"/debug/pprof/cmdline":            {404, 200},
		"/debug/pprof/symbol":             {404, 200},
		"/debug/pprof/trace?seconds=0.01": {404, 200},
		"/":                               {404, 404},
		"/metrics/x":                      {404, 404},
	} {
		for i, url := range []string{plain, profiled} {
			if code, _, _ := get(t, url+path, ""); code != want[i] {
				t.Errorf("%s with pprof %v: %d, want %d", path, i == 1, code, want[i])
			}
		}
	}
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		cfg  AdminConfig
		want string
	}{
		"pprof outside":    {AdminConfig{Addr: "0.0.0.0:0", PProf: true, Registry: NewRegistry("")}, "turn pprof off"},
		"pprof everywhere": {AdminConfig{Addr: ":0", PProf: true, Registry: NewRegistry("")}, "turn pprof off"},
		"no registry":      {AdminConfig{Addr: "127.0.0.1:0"}, "no metrics registry"},
		"taken":            {AdminConfig{Addr: taken.Addr().String(), Registry: NewRegistry("")}, "address already in use"},
	} {
		s, err := Serve(t.Context(), c.cfg)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "serve admin: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is under way when Close is called is answered, and nothing new is taken after it.
func TestCloseIsGraceful(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	slow := func(ctx context.Context) error {
		close(entered)
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s, url := start(t, AdminConfig{Ready: map[string]Check{"slow": slow}})
	var wg sync.WaitGroup
	wg.Go(func() {
		if code, _, body := get(t, url+"/health/ready", ""); code != http.StatusOK {
			t.Errorf("the request under way got %d: %s", code, body)
		}
	})
	<-entered
	for range 3 { // all calls together return the same
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for { // the listener goes first; then the request may end
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addr())
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(release)
	wg.Wait()
}

// A profile of ten minutes does not hold up a shutdown.
func TestCloseEndsWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	s, err := Serve(t.Context(), AdminConfig{Addr: "127.0.0.1:0", Registry: NewRegistry(""), PProf: true})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /debug/pprof/profile?seconds=600 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for !runs("net/http/pprof.Profile(") {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	if err := s.Close(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took < closeTimeout || took > 3*closeTimeout {
		t.Errorf("took %v", took)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the connection stayed open: %v", err)
	}
}

// runs tells whether a goroutine is in the function.
func runs(function string) bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), function)
}

func TestContextEndsServer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Serve(ctx, AdminConfig{Addr: "127.0.0.1:0", Registry: NewRegistry("")})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Error("still listening")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
