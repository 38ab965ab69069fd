package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"steno/job"
)

// Time-outs and bounds of a connection.
const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	maxHeader  = 32 << 10
)

// Server is the gateway. It is safe for concurrent use.
type Server struct {
	cfg       Config
	mux       *http.ServeMux
	handler   http.Handler
	huma      huma.API
	routes    map[string]route // by pattern; not changed after New
	metrics   *metrics
	tokens    *tokens
	passwords *passwords
	hubs      *hubs
	boards    *boards
	readiness readiness
	summing   summing
	cache     *MemoryCache // that New made itself
	probed    *probed
	uploading *resumable
	sweeping  sync.WaitGroup

	problemSchema, openaiSchema *huma.Schema

	users, addresses      *limits
	failures, failedNames *limits // of log-ins, by address and by name
	inFlight, uploads     chan struct{}
	requestShares         *shares         // of inFlight
	uploadShares          *shares         // of uploads
	distrust              atomic.Int64    // until when the cache is not asked, in nanoseconds since 1970
	draining              context.Context // ends when open streams have to
	drain                 context.CancelFunc
}

// namesPerAddress is how many more failed log-ins one name may have, from all addresses, than one address: it slows down those
// who guess from many, and must not let one address lock a user out.
const namesPerAddress = 10

// defaultCache is the most bytes of a cache that New makes.
const defaultCache = 64 << 20

// New makes a server. Close it, also where it was never served.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if cfg.Store == nil || cfg.Objects == nil || cfg.Live == nil || cfg.Probe == nil || cfg.Resolve == nil || len(cfg.Keys) == 0 ||
		cfg.Partial == "" {
		return nil, errors.New("make the gateway: store, objects, live, probe, resolve, keys and partial are all needed")
	}
	var cache *MemoryCache
	if cfg.Cache == nil {
		cache = NewMemoryCache(defaultCache)
		cfg.Cache = cache
	}
	s := &Server{
		cfg: cfg, mux: http.NewServeMux(), routes: map[string]route{}, metrics: newMetrics(cfg.Metrics),
		tokens: newTokens(cfg), passwords: newPasswords(hashers()),
		users:       newLimits(cfg.UserRate, time.Second, 2*cfg.UserRate),
		addresses:   newLimits(cfg.AddressRate, time.Second, 2*cfg.AddressRate),
		failures:    newLimits(cfg.LoginRate, time.Minute, cfg.LoginRate),
		failedNames: newLimits(cfg.LoginRate*namesPerAddress, time.Minute, cfg.LoginRate*namesPerAddress),
		inFlight:    make(chan struct{}, cfg.InFlight), uploads: make(chan struct{}, cfg.Uploads),
		requestShares: newShares(cfg.InFlight), uploadShares: newShares(cfg.Uploads),
	}
	s.cache, s.probed = cache, newProbed(cfg.Probe)
	var err error
	if s.uploading, err = newResumable(s); err != nil {
		return nil, err
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.sweeping.Go(func() { s.uploading.sweep(s.draining) })
	s.hubs, s.boards = newHubs(s), newBoards()
	s.describe()
	s.authRoutes()
	s.fileRoutes()
	s.resumableRoutes()
	s.taskRoutes()
	s.revisionRoutes()
	s.historyRoutes()
	s.boardRoutes()
	s.openaiRoutes()
	s.userRoutes()
	s.deadRoutes()
	s.nodeRoutes()
	s.healthRoutes()
	if err := s.docRoutes(); err != nil {
		s.Close()
		return nil, err
	}
	s.handler = s.chain(http.HandlerFunc(s.lost))
	return s, nil
}

// describe begins the OpenAPI object.
func (s *Server) describe() {
	cfg := huma.DefaultConfig("steno", s.cfg.Version)
	cfg.Info.Description = "Recorded speech in, an exact transcript with times out."
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.CreateHooks = nil // no $schema in answers
	cfg.Transformers = []huma.Transformer{s.ours}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {
		Type: "http", Scheme: "bearer", Description: "an access token from /api/v1/auth/token, or an API key",
	}}
	s.problemSchema = schemaOf[Problem](cfg.Components.Schemas, "Problem")
	s.openaiSchema = schemaOf[openaiError](cfg.Components.Schemas, "OpenAIError")
	s.huma = humago.New(s, cfg)
}

// ServeHTTP implements http.Handler and humago.Mux.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers on a listener until ctx ends, and drains then: it accepts nothing new, ends the event streams, lets the other
// requests finish for Config.Drain, and cancels the rest. It closes the listener.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	requests, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug), // what clients do wrong
		BaseContext: func(net.Listener) context.Context { return requests },
	}
	drained := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { drained <- s.shutDown(server, abandon) })
	err := server.Serve(ln)
	if stop() { // it has ended by itself
		return fmt.Errorf("serve the API: %w", err)
	}
	return <-drained
}

func (s *Server) shutDown(server *http.Server, abandon func()) error {
	s.drain()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Drain)
	defer cancel()
	if err := server.Shutdown(ctx); err == nil {
		return nil
	}
	s.cfg.Log.Warn("requests are cut short", "after", s.cfg.Drain)
	abandon()
	ctx, cancel = context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err == nil {
		return nil
	}
	return server.Close()
}

// Close ends what the server does in the background.
func (s *Server) Close() {
	s.drain()
	s.hubs.close()
	s.sweeping.Wait()
	if s.cache != nil {
		_ = s.cache.Close() // never fails
	}
	s.probed.known.StopAllGoroutines()
	for _, l := range []*limits{s.users, s.addresses, s.failures, s.failedNames} {
		l.close()
	}
}

// InvalidateTask says that a task of this user has changed in the record: cached answers about it are dropped, and those who
// follow its events are told. It does not wait for anything but the cache.
func (s *Server) InvalidateTask(user string, id job.ID) {
	s.drop(taskTag(user, id), historyTag(user))
	s.hubs.changed(id)
	s.boards.changed(user)
}
