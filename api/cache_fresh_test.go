package api_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"steno/api"
	"steno/audio"
	"steno/internal/testpg"
	"steno/job"
	"steno/queue"
	"steno/relay"
	"steno/store"
	"steno/transcript"
)

// TestFresh lets users read and write at random, over one gateway with its cache in memory, and over two with one in Redis: what
// is read after a write was answered shows the write. STENO_RANDOM_SEED repeats the choices of a run.
//
// The record is in PostgreSQL: SQLite is Go here, which the race detector makes ten times slower.
func TestFresh(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	if s := os.Getenv("STENO_RANDOM_SEED"); s != "" {
		seed = must(strconv.ParseUint(s, 10, 64))(t)
	}
	t.Logf("STENO_RANDOM_SEED=%d", seed)
	pg := testpg.Start(t, "fsync=off")
	broker := must(queue.Embedded(t.Context(), queue.EmbeddedConfig{Dir: t.TempDir(), MaxBytes: 512 << 20}))(t)
	t.Cleanup(broker.Shutdown)
	q := must(queue.Connect(t.Context(), queue.Config{Server: broker}))(t)
	t.Cleanup(q.Close)
	var released sync.Map
	(&rig{T: t}).background(func(ctx context.Context) {
		_ = q.Work(ctx, queue.WorkerConfig{
			Name: "w", Slots: 8, PollEvery: 50 * time.Millisecond, DrainTimeout: 2 * time.Second, NoMaintenance: true,
		}, func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
			return hold(release(&released, d.Job.ID))(ctx, d)
		})
	})
	cfg := api.Config{
		Objects: objects{q}, Live: live{q}, Probe: probe(must(audio.FindTools())(t)), Resolve: resolve, Scratch: t.TempDir(), Partial: t.TempDir(),
		Keys: must(api.LoadKeys(filepath.Join(t.TempDir(), "keys")))(t),
	}
	for kind, gateways := range map[string]int{"memory": 1, "redis": 2} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := &world{rig: &rig{T: t, q: q}, released: &released}
			w.open(pg.Database(t), cfg, gateways, caches[kind](t))
			w.run(seed)
		})
	}
}

// release is closed when the worker may finish a job.
func release(all *sync.Map, id job.ID) chan struct{} {
	c, _ := all.LoadOrStore(id, make(chan struct{}))
	return c.(chan struct{})
}

// world is a record with its gateways, as those who read and write share it.
type world struct {
	*rig
	gateways []*api.Server
	released *sync.Map // by job, see release
	hits     sync.Map  // of what there was one
}

// open starts the gateways, each with its cache and its relay.
func (w *world) open(dsn string, cfg api.Config, gateways int, open func() api.Cache) {
	w.store = must(store.Open(w.Context(), dsn, store.Config{}))(w.T)
	w.Cleanup(func() { _ = w.store.Close() })
	cfg.Store = w.store
	for range gateways {
		cfg.Cache = late{open()}
		w.gateways = append(w.gateways, w.another(cfg))
	}
	at := httptest.NewServer(w.gateways[0])
	w.Cleanup(at.Close)
	w.base = at.URL
	w.ada, w.eve = w.account("ada"), w.account("eve")
}

// run lets four writers make 1,000 writes.
func (w *world) run(seed uint64) {
	const writers, steps = 4, 250
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	var writing sync.WaitGroup
	for i := range writers {
		one := &writer{
			world: w, as: []user{w.ada, w.eve}[i%2], rnd: rand.New(rand.NewPCG(seed, uint64(i))), tasks: map[job.ID]*shown{},
		}
		content := w.upload(one.as, "a.wav", wav(uint32(i))) // it stays, so that files with its content can come and go
		writing.Go(func() {
			if err := one.run(ctx, content, steps); err != nil && ctx.Err() == nil {
				w.Errorf("seed %d, writer %d: %v", seed, i, err)
				cancel()
			}
		})
	}
	writing.Wait()
	for _, path := range []string{"history", "status", "download", "files"} {
		if _, hit := w.hits.Load(path); !hit && !w.Failed() {
			w.Errorf("%s was never taken from the cache: this run shows nothing", path)
		}
	}
}

// another makes a gateway with a relay of its own.
func (r *rig) another(cfg api.Config) *api.Server {
	r.Helper()
	var rel *relay.Relay
	cfg.Metrics, cfg.Notify = prometheus.NewRegistry(), func() { rel.Notify() }
	server := must(api.New(cfg))(r.T)
	r.Cleanup(server.Close)
	rel = relay.New(relay.Config{Store: cfg.Store, Queue: jobs{r.q}, OnChange: server.InvalidateTask})
	r.background(func(ctx context.Context) { _ = rel.Run(ctx) })
	return server
}

// late is a cache in which values often arrive late, so that many drops fall between the work on a value and its arrival.
type late struct{ api.Cache }

func (l late) Put(ctx context.Context, tag, key, ticket string, value []byte, ttl time.Duration) error {
	if rand.IntN(2) == 0 {
		time.Sleep(rand.N(2 * time.Millisecond))
	}
	return l.Cache.Put(ctx, tag, key, ticket, value, ttl)
}

// call sends a request to any of the gateways, past the sockets, which would take half of the time.
func (w *world) call(
	ctx context.Context, rnd *rand.Rand, as user, method, path, body string,
) (status int, data []byte, where string) {
	i := rnd.IntN(len(w.gateways))
	req := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+as.token)
	req.Header.Set("Content-Type", "application/json")
	res := httptest.NewRecorder()
	w.gateways[i].ServeHTTP(res, req)
	from := res.Header().Get("X-Cache")
	if from == "HIT" {
		for _, kind := range []string{"history", "status", "download", "files"} {
			if strings.Contains(path, kind) {
				w.hits.Store(kind, true)
			}
		}
	}
	return res.Code, res.Body.Bytes(), fmt.Sprintf("%s %s at gateway %d, %s", method, path, i, from)
}
