package bench

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Aggregated is the name of the row that sums up all requests, as Locust calls it.
const Aggregated = "Aggregated"

// LoadReport is what came of a load test, with the limits it was held to.
type LoadReport struct {
	TestID string `json:"test_id"`
	// Start and End are those of the first and last line of the history; zero where there is none.
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	Duration  float64   `json:"duration_s"`
	Users     int       `json:"users"`      // the most at a time
	SpawnRate float64   `json:"spawn_rate"` // users per second
	Host      string    `json:"host"`
	// Requests are by method and name, the sum of all last.
	Requests   []LoadRequest `json:"requests"`
	Errors     []LoadError   `json:"errors"`
	Thresholds []Threshold   `json:"thresholds"`
	Passed     bool          `json:"passed"`
	Failures   []string      `json:"failures"` // each limit that does not hold
}

// LoadRequest is a row of statistics. Times are milliseconds.
type LoadRequest struct {
	Method    string  `json:"method"`
	Name      string  `json:"name"`
	Requests  int     `json:"requests"`
	Failures  int     `json:"failures"`
	Median    float64 `json:"median_ms"`
	Average   float64 `json:"average_ms"`
	Min       float64 `json:"min_ms"`
	Max       float64 `json:"max_ms"`
	Size      float64 `json:"size_bytes"` // average of an answer
	PerSecond float64 `json:"requests_per_s"`
	FailRate  float64 `json:"failures_per_s"`
	P50       float64 `json:"p50_ms"`
	P95       float64 `json:"p95_ms"`
	P99       float64 `json:"p99_ms"`
}

// FailureShare is the share of requests that failed, in 0..1.
func (r LoadRequest) FailureShare() float64 { return float64(r.Failures) / float64(max(1, r.Requests)) }

// LoadError is an error with how often it came.
type LoadError struct {
	Method      string `json:"method"`
	Name        string `json:"name"`
	Error       string `json:"error"`
	Occurrences int    `json:"occurrences"`
}

// ReadLoad reads what Locust 2 writes with --csv: the file PREFIX_stats.csv at path, and where they are there
// PREFIX_failures.csv and PREFIX_stats_history.csv beside it.
func ReadLoad(path string) (LoadReport, error) {
	var r LoadReport
	prefix, ok := strings.CutSuffix(path, "stats.csv")
	if !ok {
		return r, fmt.Errorf("read load statistics: the name of %s does not end in stats.csv", path)
	}
	rows, err := readTable(path)
	if err != nil {
		return r, err
	}
	for _, row := range rows {
		r.Requests = append(r.Requests, row.request())
		if *row.err != nil {
			return r, fmt.Errorf("read load statistics %s: %w", path, *row.err)
		}
	}
	if len(r.Requests) == 0 {
		return r, fmt.Errorf("read load statistics: %s has no rows", path)
	}
	if err := r.readErrors(prefix + "failures.csv"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if err := r.readHistory(prefix + "stats_history.csv"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	return r, nil
}

func (r *LoadReport) readErrors(path string) error {
	rows, err := readTable(path)
	if err != nil {
		return err
	}
	for _, row := range rows {
		e := LoadError{row.text("Method"), row.text("Name"), row.text("Error"), int(row.number("Occurrences"))}
		if *row.err != nil {
			return fmt.Errorf("read load errors %s: %w", path, *row.err)
		}
		r.Errors = append(r.Errors, e)
	}
	return nil
}

func (r *LoadReport) readHistory(path string) error {
	rows, err := readTable(path)
	if err != nil {
		return err
	}
	for _, row := range rows {
		at := time.Unix(int64(row.number("Timestamp")), 0).UTC()
		users := int(row.number("User Count"))
		if *row.err != nil {
			return fmt.Errorf("read load history %s: %w", path, *row.err)
		}
		if r.Start.IsZero() {
			r.Start = at
		}
		r.End, r.Users = at, max(r.Users, users)
	}
	r.Duration = r.End.Sub(r.Start).Seconds()
	return nil
}

// tableRow is a row of a CSV file with its columns by name. Its first fault stays in err.
type tableRow struct {
	columns map[string]int
	values  []string
	err     *error
}

func readTable(path string) ([]tableRow, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a table: %w", err)
	}
	defer f.Close()
	return parseTable(f)
}

func parseTable(r io.Reader) ([]tableRow, error) {
	records, err := csv.NewReader(r).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read a table: %w", err)
	}
	if len(records) == 0 {
		return nil, errors.New("read a table: it is empty")
	}
	columns := map[string]int{}
	for i, name := range records[0] {
		columns[name] = i
	}
	var rows []tableRow
	for _, record := range records[1:] {
		rows = append(rows, tableRow{columns, record, new(error)})
	}
	return rows, nil
}

func (t tableRow) text(column string) string {
	i, ok := t.columns[column]
	if !ok {
		if *t.err == nil {
			*t.err = fmt.Errorf("there is no column %q", column)
		}
		return ""
	}
	return t.values[i]
}

// number reads a column. N/A, which Locust writes where no request was made, is 0.
func (t tableRow) number(column string) float64 {
	text := t.text(column)
	if text == "N/A" || *t.err != nil {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		*t.err = fmt.Errorf("column %q: %w", column, err)
	}
	return v
}

func (t tableRow) request() LoadRequest {
	return LoadRequest{
		Method: t.text("Type"), Name: t.text("Name"),
		Requests: int(t.number("Request Count")), Failures: int(t.number("Failure Count")),
		Median: t.number("Median Response Time"), Average: t.number("Average Response Time"),
		Min: t.number("Min Response Time"), Max: t.number("Max Response Time"), Size: t.number("Average Content Size"),
		PerSecond: t.number("Requests/s"), FailRate: t.number("Failures/s"),
		P50: t.number("50%"), P95: t.number("95%"), P99: t.number("99%"),
	}
}

// Check holds the report to the limits and notes which hold.
func (r *LoadReport) Check(thresholds []Threshold) {
	r.Thresholds, r.Failures = thresholds, nil
	for _, t := range thresholds {
		rows := slices.DeleteFunc(slices.Clone(r.Requests), func(q LoadRequest) bool { return !t.matches(q) })
		if len(rows) == 0 {
			r.Failures = append(r.Failures, t.String()+": there was no such request")
		}
		for _, q := range rows {
			for _, why := range t.breaches(q) {
				r.Failures = append(r.Failures, t.String()+": "+why)
			}
		}
	}
	r.Passed = len(r.Failures) == 0
}
