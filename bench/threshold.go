package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Threshold is a limit for the requests of a name. What it leaves out is not limited.
//
//	thresholds:
//	  - request: /api/v1/user/history # as Locust names it; Aggregated stands for all together
//	    method: GET                   # left out: any
//	    median: 200                   # milliseconds
//	    p95: 500                      # milliseconds
//	    failure_rate: 0.01            # a share of the requests, in 0..1
type Threshold struct {
	Request     string   `yaml:"request" json:"request"`
	Method      string   `yaml:"method" json:"method,omitempty"`
	Median      *float64 `yaml:"median" json:"median_ms,omitempty"`
	P95         *float64 `yaml:"p95" json:"p95_ms,omitempty"`
	FailureRate *float64 `yaml:"failure_rate" json:"failure_rate,omitempty"`
}

// ReadThresholds reads a YAML file of limits. A limit that says nothing is an error: it would always hold.
func ReadThresholds(r io.Reader) ([]Threshold, error) {
	var file struct{ Thresholds []Threshold }
	dec := yaml.NewDecoder(r)
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("read thresholds: %w", err)
	}
	if len(file.Thresholds) == 0 {
		return nil, errors.New("read thresholds: there is none")
	}
	for i, t := range file.Thresholds {
		switch {
		case t.Request == "":
			return nil, fmt.Errorf("read thresholds: number %d names no request", i+1)
		case t.Median == nil && t.P95 == nil && t.FailureRate == nil:
			return nil, fmt.Errorf("read thresholds: %s has no limit: give median, p95 or failure_rate", t)
		}
		for _, v := range []*float64{t.Median, t.P95, t.FailureRate} {
			if v != nil && !(*v >= 0) {
				return nil, fmt.Errorf("read thresholds: %s has the limit %v", t, *v)
			}
		}
		if t.FailureRate != nil && *t.FailureRate > 1 {
			return nil, fmt.Errorf("read thresholds: %s has the failure rate %v, which is a share in 0..1", t, *t.FailureRate)
		}
	}
	return file.Thresholds, nil
}

func (t Threshold) String() string { return strings.TrimSpace(t.Method + " " + t.Request) }

func (t Threshold) matches(q LoadRequest) bool {
	return q.Name == t.Request && (t.Method == "" || strings.EqualFold(q.Method, t.Method))
}

// breaches says which limits do not hold for q. Nothing can be said of requests that were never made, so none holds.
func (t Threshold) breaches(q LoadRequest) []string {
	if q.Requests == 0 {
		return []string{"no request was made"}
	}
	var why []string
	over := func(what string, got float64, limit *float64, unit string) {
		if limit != nil && got > *limit {
			why = append(why, fmt.Sprintf("%s is %v%s, more than %v%s", what, got, unit, *limit, unit))
		}
	}
	over("median", q.Median, t.Median, " ms")
	over("p95", q.P95, t.P95, " ms")
	over("failure rate", q.FailureShare(), t.FailureRate, "")
	return why
}

// WriteJSON writes the whole report.
func (r LoadReport) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write load report: %w", err)
	}
	return nil
}

// WriteMarkdown writes the report for readers.
func (r LoadReport) WriteMarkdown(w io.Writer) error {
	p := printer{w: w}
	p.line("# Load test %s\n", r.TestID)
	if !r.Start.IsZero() {
		p.line("- from %s to %s, %s", r.Start.Format(time.DateTime), r.End.Format(time.DateTime), seconds(r.Duration))
	}
	p.line("- users: %d, %v more per second; host: %s\n", r.Users, r.SpawnRate, r.Host)
	p.head("request", "requests", "failures", "median, ms", "average", "min", "max", "p50", "p95", "p99", "size, bytes",
		"requests/s", "failures/s")
	for _, q := range r.Requests {
		p.line("| %s | %d | %d | %s | %s | %s | %s | %s | %s | %s | %.0f | %s | %s |",
			strings.TrimSpace(q.Method+" "+q.Name), q.Requests, q.Failures, number(q.Median), number(q.Average), number(q.Min),
			number(q.Max), number(q.P50), number(q.P95), number(q.P99), q.Size, number(q.PerSecond), number(q.FailRate))
	}
	if len(r.Errors) > 0 {
		p.line("")
		p.head("request", "error", "times")
	}
	for _, e := range r.Errors {
		p.line("| %s %s | %s | %d |", e.Method, e.Name, strings.ReplaceAll(e.Error, "|", `\|`), e.Occurrences)
	}
	p.line("")
	for _, f := range r.Failures {
		p.line("- BREACH: %s", f)
	}
	if r.Passed {
		p.line("All %d thresholds hold.", len(r.Thresholds))
	}
	return p.err
}
