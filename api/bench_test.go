//go:build apibench

package api_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"steno/api"
	"steno/internal/proc"
	"steno/internal/testhistory"
	"steno/internal/testredis"
	"steno/store"
)

// What is measured: a gateway on the history of one user with a million tasks, in a database with a tenth as many of others
// between them, over HTTP on loopback. Client, gateway and, where there is one, Redis share the machine.
const (
	benchRows = 1_100_000
	benchMine = "i % 11 <> 0"
	minRatio  = 3                     // of a MISS of a page by number to a HIT
	maxP95    = 50 * time.Millisecond // at concurrency 10, also while the machine transcribes
)

// TestAPIBench is `make bench-api`.
func TestAPIBench(t *testing.T) {
	t.Logf("%s, %d CPUs, %s", runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	var cfg api.Config
	r := newRig(t, func(c *api.Config) { cfg = *c })
	path := filepath.Join(t.TempDir(), "steno.db")
	cfg.Store = must(store.Open(t.Context(), path, store.Config{}))(t)
	t.Cleanup(func() { _ = cfg.Store.Close() })
	fillHistory(t, path)

	server := testredis.Start(t)
	gateways := map[string]*rig{
		"in process": r.onHistory(cfg, nil),
		"Redis":      r.onHistory(cfg, func(c *api.Config) { c.Cache = redisCache(t, server) }),
	}
	benchCache(t, gateways)
	benchBusy(t, gateways["in process"])
}

// fillHistory loads the history by a connection of its own; its driver comes with the store. The owner can log in.
func fillHistory(t *testing.T, path string) {
	began := time.Now()
	db := must(sql.Open("sqlite", path))(t)
	defer db.Close()
	if err := testhistory.Fill(t.Context(), db, "sqlite", benchRows, benchMine); err != nil {
		t.Fatal(err)
	}
	_, err := db.ExecContext(t.Context(), "UPDATE users SET password_hash = $1 WHERE id = 'U1'", must(hashed())(t))
	for _, text := range []string{"ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		if err == nil {
			_, err = db.ExecContext(t.Context(), text)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("SQLite with %d tasks, loaded in %.0f s", benchRows, time.Since(began).Seconds())
}

// onHistory is a gateway on the history, which no relay tells of anything. Its user ada is the owner.
func (r *rig) onHistory(cfg api.Config, change func(*api.Config)) *rig {
	var more []func(*api.Config)
	if change != nil {
		more = append(more, change)
	}
	g := r.quiet(cfg, more...)
	g.store = cfg.Store
	g.ada = user{must(g.store.User(r.Context(), "U1"))(r.T), g.login("user1")}
	return g
}

// benchClient keeps its connections, as clients do.
type benchClient struct {
	http.Client
	as user
}

func newBenchClient(t *testing.T, as user) *benchClient {
	c := &benchClient{http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: time.Minute}, as}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// get returns how long an answer took, to its last byte, and where it was from.
func (c *benchClient) get(url string, headers ...string) (took time.Duration, from string, body []byte, err error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return 0, "", nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.as.token)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	began := time.Now()
	res, err := c.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	took = time.Since(began)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", url, res.StatusCode, body)
	}
	return took, res.Header.Get("X-Cache"), body, err
}

// benchCache measures pairs of a MISS and the HIT after it, so that whatever else the machine does falls on both alike.
func benchCache(t *testing.T, gateways map[string]*rig) {
	const pairs = 300
	var table strings.Builder
	fmt.Fprint(&table, "\n| page of 100, cache | MISS p50 / p95 ms | HIT p50 / p95 ms | MISS ÷ HIT, p50 | p95 |\n")
	fmt.Fprint(&table, "| --- | --- | --- | --- | --- |\n")
	for _, cache := range []string{"in process", "Redis"} {
		g := gateways[cache]
		c := newBenchClient(t, g.ada)
		byCursor := cursorPages(t, g, c, 50)
		for _, mode := range []struct {
			name  string
			pages []string
			least float64
		}{
			{"by cursor", byCursor, 0},
			{"by number (`?page=1`)", []string{g.base + historyPath + "?page=1&limit=100"}, minRatio},
		} {
			times := map[string][]time.Duration{}
			for i := range pairs {
				g.server.InvalidateTask(g.ada.ID, "")
				for _, want := range []string{"MISS", "HIT"} {
					took, from, _, err := c.get(mode.pages[i%len(mode.pages)])
					if err != nil || from != want {
						t.Fatalf("X-Cache %q, want %s: %v", from, want, err)
					}
					times[want] = append(times[want], took)
				}
			}
			miss, hit := times["MISS"], times["HIT"]
			ratio := ms(miss, .5) / ms(hit, .5)
			fmt.Fprintf(&table, "| %s, %s | %.2f / %.2f | %.2f / %.2f | %.1f | %.1f |\n", mode.name, cache,
				ms(miss, .5), ms(miss, .95), ms(hit, .5), ms(hit, .95), ratio, ms(miss, .95)/ms(hit, .95))
			if ratio < mode.least {
				t.Errorf("%s, %s: a MISS takes %.1f times as long as a HIT, want %.0f", mode.name, cache, ratio, mode.least)
			}
		}
	}
	t.Log(table.String())
}

// cursorPages are the first n pages.
func cursorPages(t *testing.T, g *rig, c *benchClient, n int) []string {
	var pages []string
	cursor := ""
	for range n {
		page := g.base + historyPath + "?limit=100&cursor=" + cursor
		_, _, body, err := c.get(page)
		if err != nil {
			t.Fatal(err)
		}
		var v struct {
			Next string `json:"next_cursor"`
		}
		(&reply{t: t, what: page, body: body}).json(&v)
		pages = append(pages, page)
		cursor = v.Next
	}
	return pages
}

// ms is a quantile in milliseconds.
func ms(times []time.Duration, q float64) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return float64(sorted[int(q*float64(len(sorted)-1))].Microseconds()) / 1000
}

// benchBusy measures rounds of 100 requests at concurrency 10, first on the machine as it is, then while it transcribes.
func benchBusy(t *testing.T, g *rig) {
	const rounds, requests, concurrency = 20, 100, 10
	c := newBenchClient(t, g.ada)
	var table strings.Builder
	fmt.Fprintf(&table, "\n| %d rounds of %d requests, %d at once | p50 ms | p95 ms | max ms | p95 of the worst round |\n",
		rounds, requests, concurrency)
	fmt.Fprint(&table, "| --- | --- | --- | --- | --- |\n")
	paths := []struct {
		name, path string
		headers    []string
	}{
		{"`/health`", "/health", nil},
		{"`/health/ready`", "/health/ready", nil},
		{"`/api/v1/user/history`", historyPath, nil},
		{"the same past the cache", historyPath, []string{"Cache-Control", "no-cache"}},
	}
	for _, when := range []string{"idle", "transcribing"} {
		count := func() int64 { return 0 }
		if when == "transcribing" {
			count = transcribing(t)
		}
		before := count()
		all, worst := make([][]time.Duration, len(paths)), make([]float64, len(paths))
		for range rounds {
			for i, p := range paths {
				times, err := volley(c, g.base+p.path, requests, concurrency, p.headers)
				if err != nil {
					t.Fatal(err)
				}
				all[i] = append(all[i], times...)
				worst[i] = max(worst[i], ms(times, .95))
			}
			time.Sleep(500 * time.Millisecond) // so that the rounds meet all stages of a transcription
		}
		if when == "transcribing" {
			t.Logf("%d transcriptions ended meanwhile", count()-before)
			if count() == before {
				t.Error("no transcription ended while the requests were measured")
			}
		}
		for i, p := range paths {
			p50, p95, most := ms(all[i], .5), ms(all[i], .95), ms(all[i], 1)
			fmt.Fprintf(&table, "| %s, %s | %.2f | %.2f | %.2f | %.2f |\n", p.name, when, p50, p95, most, worst[i])
			if p95 >= float64(maxP95.Milliseconds()) {
				t.Errorf("%s, %s: p95 is %.1f ms, want less than %s", p.name, when, p95, maxP95)
			}
		}
	}
	t.Log(table.String())
}

// volley sends n requests, some at once.
func volley(c *benchClient, url string, n, concurrency int, headers []string) ([]time.Duration, error) {
	times, errs := make([]time.Duration, n), make([]error, n)
	var next atomic.Int64
	var all sync.WaitGroup
	for range concurrency {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				times[i], _, _, errs[i] = c.get(url, headers...)
			}
		})
	}
	all.Wait()
	return times, firstOf(errs)
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// transcribing lets the machine transcribe real speech, again and again, in a process of its own until the test ends. It returns
// when the first has ended, so that the weights are at hand, with the number of those that have.
func transcribing(t *testing.T) (ended func() int64) {
	root := must(filepath.Abs(".."))(t)
	var n atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	first := make(chan error, 1)
	go func() {
		defer close(stopped)
		for ctx.Err() == nil {
			err := transcribe(ctx, root)
			if err == nil {
				n.Add(1)
			}
			select {
			case first <- err:
			default:
			}
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("transcribe: %v", err)
				}
				return
			}
		}
	}()
	if err := <-first; err != nil {
		t.Fatalf("transcribe: %v: run `make bench-api`, which builds what this needs", err)
	}
	return n.Load
}

func transcribe(ctx context.Context, root string) error {
	var out strings.Builder
	cmd := proc.Command(ctx, filepath.Join(root, "bin", "steno"), "transcribe", filepath.Join(root, ".build", "samples", "jfk.wav"))
	cmd.Env = append(os.Environ(), "STENO_MODELS="+filepath.Join(root, ".build", "models"))
	cmd.Stdout, cmd.Stderr = &out, &proc.Tail{}
	if err := proc.Run(ctx, cmd); err != nil {
		return err
	}
	if !strings.Contains(out.String(), "your country") {
		return fmt.Errorf("it heard %q", out.String())
	}
	return nil
}
