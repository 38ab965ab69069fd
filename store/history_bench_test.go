//go:build historybench

package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"steno/internal/testpg"
	"steno/job"
)

// What is measured: the history of one user with a million tasks, in a database with a tenth as many of others between them.
const (
	benchRows  = 1_100_000
	benchMine  = "i % 11 <> 0"
	benchLimit = MaxLimit
	benchUser  = "U1"
	maxRatio   = 1.5
)

// TestHistoryBench is `make bench-history`. It fails where a page by cursor costs more at the end of a history than at its start.
func TestHistoryBench(t *testing.T) {
	fmt.Printf("%s, %d CPUs, %s\n", runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	for _, name := range []string{"sqlite", "postgres"} {
		t.Run(name, func(t *testing.T) {
			dsn := filepath.Join(t.TempDir(), "steno.db")
			if name == "postgres" {
				dsn = testpg.Start(t).Database(t)
			}
			s := must(Open(t.Context(), dsn, Config{}))(t)
			t.Cleanup(func() { _ = s.Close() })
			began := time.Now()
			fillMany(t, s, benchRows, benchMine)
			gather := map[string]string{"sqlite": "ANALYZE", "postgres": "VACUUM ANALYZE"}[name]
			if _, err := s.write.Exec(gather); err != nil {
				t.Fatal(err)
			}
			var version string
			ask := map[string]string{"sqlite": "SELECT sqlite_version()", "postgres": "SHOW server_version"}[name]
			if err := s.read.QueryRow(ask).Scan(&version); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("\n## %s %s, %d tasks, loaded in %.0f s\n\n", name, version, benchRows, time.Since(began).Seconds())
			benchPages(t, s)
			if os.Getenv("STENO_PLANS") != "" {
				printPlans(t, s)
			}
		})
	}
}

func benchPages(t *testing.T, s *Store) {
	fmt.Println("| pages of 100, p50 / p95 in ms | first tenth | second | middle | ninth | last tenth | p95 last ÷ first | worst ÷ first |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, b := range []struct {
		name   string
		filter Filter
		rounds int
	}{
		{"by cursor", Filter{}, 3},
		{"by cursor, status failed", Filter{Status: job.Failed}, 20},
		{"by cursor, broad prefix `recording-1`", Filter{Prefix: "recording-1"}, 1},
		{"by cursor, narrow prefix `recording-123`", Filter{Prefix: "recording-123"}, 20},
	} {
		tenths := cursorTimes(t, s, b.filter, b.rounds)
		worst, last := report(b.name, tenths)
		if b.filter.Prefix == "" && (worst >= maxRatio || last >= maxRatio) {
			t.Errorf("%s: p95 of the worst tenth is %.2f times that of the first, of the last %.2f; want under %.1f", b.name, worst, last, maxRatio)
		}
	}
	report("by number (with the total)", offsetTimes(t, s))
	counts := map[string]Filter{
		"all": {}, "done": {Status: job.Done}, "failed": {Status: job.Failed}, "broad prefix": {Prefix: "recording-1"},
		"narrow prefix": {Prefix: "recording-123"},
	}
	fmt.Println("\n| total alone | rows | p50 ms | p95 ms |\n| --- | --- | --- | --- |")
	for _, name := range []string{"all", "done", "failed", "broad prefix", "narrow prefix"} {
		var times []time.Duration
		total := 0
		for range 20 {
			began := time.Now()
			q, args := scope{user: benchUser, Filter: counts[name]}.count()
			if err := s.reader().row(t.Context(), q, args...).Scan(&total); err != nil {
				t.Fatal(err)
			}
			times = append(times, time.Since(began))
		}
		fmt.Printf("| %s | %d | %.1f | %.1f |\n", name, total, quantile(times, .5), quantile(times, .95))
	}
}

// cursorTimes walks the history once for its cursors, and then fetches all pages in random order, so that whatever else the
// machine does falls on all of them alike. The times come by tenths of the history.
func cursorTimes(t *testing.T, s *Store, f Filter, rounds int) [10][]time.Duration {
	cursors := []string{""}
	rows := 0
	for {
		tasks, next, err := s.History(t.Context(), benchUser, f, cursors[len(cursors)-1], benchLimit)
		if err != nil {
			t.Fatal(err)
		}
		rows += len(tasks)
		if next == "" {
			break
		}
		cursors = append(cursors, next)
	}
	if _, total, err := s.HistoryPage(t.Context(), benchUser, f, 1, 1); err != nil || total != rows {
		t.Fatalf("the walk saw %d rows of %d, %v", rows, total, err)
	}
	var tenths [10][]time.Duration
	for range rounds {
		for _, i := range rand.Perm(len(cursors)) {
			began := time.Now()
			if _, _, err := s.History(t.Context(), benchUser, f, cursors[i], benchLimit); err != nil {
				t.Fatal(err)
			}
			tenth := i * 10 / len(cursors)
			tenths[tenth] = append(tenths[tenth], time.Since(began))
		}
	}
	return tenths
}

func offsetTimes(t *testing.T, s *Store) [10][]time.Duration {
	var tenths [10][]time.Duration
	for range 100 {
		page := rand.IntN(10_000)
		began := time.Now()
		if _, _, err := s.HistoryPage(context.Background(), benchUser, Filter{}, page+1, benchLimit); err != nil {
			t.Fatal(err)
		}
		tenths[page/1000] = append(tenths[page/1000], time.Since(began))
	}
	return tenths
}

// report prints a row, and returns the p95 of the worst and of the last tenth over that of the first.
func report(name string, tenths [10][]time.Duration) (worst, last float64) {
	var p95 [10]float64
	for i, times := range tenths {
		p95[i] = quantile(times, .95)
	}
	worst, last = slices.Max(p95[:])/p95[0], p95[9]/p95[0]
	fmt.Printf("| %s |", name)
	for _, i := range []int{0, 1, 4, 8, 9} {
		fmt.Printf(" %.2f / %.2f |", quantile(tenths[i], .5), p95[i])
	}
	fmt.Printf(" %.2f | %.2f |\n", last, worst)
	return worst, last
}

// quantile is in milliseconds.
func quantile(times []time.Duration, q float64) float64 {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return float64(sorted[int(q*float64(len(sorted)-1))].Microseconds()) / 1000
}

func printPlans(t *testing.T, s *Store) {
	fmt.Println("\n```")
	for _, p := range must(s.Explain(t.Context()))(t) {
		if strings.HasPrefix(p.Name, "history.") {
			fmt.Printf("%s\n    %s\n", p.Name, strings.Join(p.Lines, "\n    "))
		}
	}
	fmt.Println("```")
}
