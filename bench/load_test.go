package bench_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"steno/bench"
)

// The files in testdata/locust are as Locust 2.47 writes them.
func load(t *testing.T) bench.LoadReport {
	t.Helper()
	r, err := bench.ReadLoad(filepath.Join("testdata", "locust", "run_stats.csv"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReadLoad(t *testing.T) {
	t.Parallel()
	r := load(t)
	if want := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC); !r.Start.Equal(want) || r.Duration != 60 || r.Users != 20 {
		t.Errorf("from %v, %v s, %d users; want %v, 60 s, 20", r.Start, r.Duration, r.Users, want)
	}
	want := bench.LoadRequest{
		Method: "POST", Name: "/api/v1/task, with audio", Requests: 100, Median: 90, Average: 110.125, Min: 60.5, Max: 480, Size: 256,
		PerSecond: 1.6666, P50: 90, P95: 310, P99: 460,
	}
	if len(r.Requests) != 4 || r.Requests[1] != want {
		t.Errorf("%d requests, the second is %+v, want %+v", len(r.Requests), r.Requests[1], want)
	}
	if last := r.Requests[3]; last.Name != bench.Aggregated || last.Failures != 3 || last.FailureShare() != 3.0/400 {
		t.Errorf("the sum is %+v", last)
	}
	if len(r.Errors) != 1 || r.Errors[0].Occurrences != 3 || !strings.Contains(r.Errors[0].Error, "503 Server Error") {
		t.Errorf("errors %+v", r.Errors)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, yaml string
		want       []string
	}{
		{"all hold, limits included", `
  - {request: "/api/v1/task/[id]", method: GET, median: 12, p95: 45, failure_rate: 0.01}
  - {request: Aggregated, p95: 190.0, failure_rate: 0.0075}`, nil},
		{"median", `
  - {request: "/api/v1/task/[id]", median: 11}`, []string{"/api/v1/task/[id]: median is 12 ms, more than 11 ms"}},
		{"p95 and failures", `
  - {request: "/api/v1/task/[id]", method: get, p95: 44, failure_rate: 0.009}`, []string{
			"get /api/v1/task/[id]: p95 is 45 ms, more than 44 ms", "get /api/v1/task/[id]: failure rate is 0.01, more than 0.009",
		}},
		{"one of two", `
  - {request: Aggregated, p95: 200}
  - {request: Aggregated, p95: 100}`, []string{"Aggregated: p95 is 190 ms, more than 100 ms"}},
		{"another method", `
  - {request: "/api/v1/task/[id]", method: POST, p95: 1000}`, []string{"POST /api/v1/task/[id]: there was no such request"}},
		{"a request that was never made", `
  - {request: /api/v1/never, p95: 1000}`, []string{"/api/v1/never: no request was made"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limits, err := bench.ReadThresholds(strings.NewReader("thresholds:" + tt.yaml))
			if err != nil {
				t.Fatal(err)
			}
			r := load(t)
			r.Check(limits)
			if !slices.Equal(r.Failures, tt.want) || r.Passed != (tt.want == nil) {
				t.Errorf("passed: %v, failures %q, want %q", r.Passed, r.Failures, tt.want)
			}
		})
	}
}

func TestReadThresholdsErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, yaml, want string }{
		{"none", "thresholds: []", "there is none"},
		{"nothing", "", "EOF"},
		{"a name that is not known", "thresholds: [{request: a, p96: 1}]", "field p96 not found"},
		{"no request", "thresholds: [{p95: 1}]", "number 1 names no request"},
		{"no limit", "thresholds: [{request: /a, method: GET}]", "GET /a has no limit"},
		{"negative", "thresholds: [{request: /a, p95: -1}]", "the limit -1"},
		{"not a number", "thresholds: [{request: /a, median: .nan}]", "the limit NaN"},
		{"percent", "thresholds: [{request: /a, failure_rate: 5}]", "a share in 0..1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := bench.ReadThresholds(strings.NewReader(tt.yaml)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestReadLoadErrors(t *testing.T) {
	t.Parallel()
	const head = "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,Min Response Time,Max Response Time," +
		"Average Content Size,Requests/s,Failures/s,50%,95%,99%\n"
	for _, tt := range []struct{ name, file, csv, want string }{
		{"another name", "run.csv", head, "does not end in stats.csv"},
		{"empty", "stats.csv", "", "it is empty"},
		{"no rows", "stats.csv", head, "has no rows"},
		{"a column is missing", "stats.csv", strings.Replace(head, "95%", "94%", 1) + "GET,/,1,0,1,1,1,1,1,1,0,1,1,1\n", `no column "95%"`},
		{"no number", "stats.csv", head + "GET,/,many,0,1,1,1,1,1,1,0,1,1,1\n", `column "Request Count"`},
		{"a row is cut", "stats.csv", head + "GET,/,1\n", "wrong number of fields"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), tt.file)
			if err := os.WriteFile(path, []byte(tt.csv), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := bench.ReadLoad(path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestWriteLoad(t *testing.T) {
	t.Parallel()
	r := load(t)
	r.TestID, r.Host, r.SpawnRate = "night", "http://gateway", 2
	limit := 100.0
	r.Check([]bench.Threshold{{Request: bench.Aggregated, P95: &limit}})
	var markdown, asJSON bytes.Buffer
	if err := r.WriteMarkdown(&markdown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Load test night", "users: 20, 2 more per second; host: http://gateway", "| POST /api/v1/task, with audio | 100 | 0 | 90.0 | 110 |",
		"BREACH: Aggregated: p95 is 190 ms", "| GET /api/v1/task/[id] | HTTPError('503",
	} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, markdown.String())
		}
	}
	if err := r.WriteJSON(&asJSON); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(asJSON.Bytes(), &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"test_id", "start", "end", "duration_s", "users", "spawn_rate", "host", "requests", "errors", "thresholds", "passed", "failures",
	} {
		if _, ok := fields[name]; !ok {
			t.Errorf("JSON lacks %s", name)
		}
	}
}
