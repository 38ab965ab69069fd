package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	idleTimeout   = 2 * time.Minute // more than the usual minute between scrapes, so that they share a connection
	scrapeTimeout = 10 * time.Second
	// writeTimeout is more than the longest scrape. A profile, which takes as long as one asks, moves the deadline by itself.
	writeTimeout = 30 * time.Second
	// closeTimeout is how long Close lets requests finish. Most are done in milliseconds, and a profile is not worth more.
	closeTimeout = 3 * time.Second
	maxHeader    = 64 << 10
	// maxScrapes bounds the scrapes under way: each holds all of the metrics in memory.
	maxScrapes = 4
)

// Check reports whether a dependency is usable now: nil means yes. It returns when ctx ends, and is safe for concurrent use.
type Check = func(ctx context.Context) error

// AdminConfig describes the admin listener.
type AdminConfig struct {
	Addr     string               // host:port; port 0 means a free one
	Registry *prometheus.Registry // served at /metrics; must be set
	Ready    map[string]Check     // by the name that /health/ready shows; none means always ready
	Sandbox  func() []string      // layers around children, which /health/ready shows, too; may be nil
	// Quarantined tells which models rest until when, which /health/ready shows; may be nil. It waits for nothing.
	Quarantined func() map[string]time.Time
	PProf       bool         // serve /debug/pprof/; Addr must then be a loopback address
	Log         *slog.Logger // default none
}

// AdminServer is a running admin listener. Its methods are safe for concurrent use.
type AdminServer struct {
	http    *http.Server
	addr    net.Addr
	abandon context.CancelFunc // ends the context of every request
	once    sync.Once
	unwatch func() bool
	done    chan struct{} // closed when the accept loop has ended
	err     error         // of Close; owned by once
}

// Serve starts the admin listener and returns once it accepts connections. It runs until Close, or until ctx ends; after that
// Close still has to be called, to wait for it. Nothing is asked for a password: keep the address within the cluster.
func Serve(ctx context.Context, cfg AdminConfig) (*AdminServer, error) {
	if cfg.Registry == nil {
		return nil, errors.New("serve admin: no metrics registry is given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("serve admin: %w", err)
	}
	// What it is bound to is asked, not what the name says: the name may resolve to anything.
	if tcp, ok := ln.Addr().(*net.TCPAddr); cfg.PProf && (!ok || !tcp.IP.IsLoopback()) {
		return nil, errors.Join(fmt.Errorf("serve admin: profiles show secrets, and %s can be reached from outside: "+
			"listen on 127.0.0.1 or turn pprof off", cfg.Addr), ln.Close())
	}
	requests, abandon := context.WithCancel(context.WithoutCancel(ctx))
	s := &AdminServer{addr: ln.Addr(), abandon: abandon, done: make(chan struct{})}
	s.http = &http.Server{
		Handler:           routes(cfg),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	go s.accept(ln, cfg.Log)
	s.unwatch = context.AfterFunc(ctx, func() { _ = s.shutdown() }) // Close reports the error
	return s, nil
}

// Addr is the address that is listened on, with the port that was chosen.
func (s *AdminServer) Addr() string { return s.addr.String() }

// Close stops listening, lets the requests under way finish for up to 3 seconds, and ends the rest, which is an error. Every
// call waits for the end and returns the same.
func (s *AdminServer) Close() error {
	s.unwatch()
	return s.shutdown()
}

func (s *AdminServer) accept(ln net.Listener, log *slog.Logger) {
	defer close(s.done)
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		log.Error("admin listener ended", "addr", s.Addr(), "error", err)
	}
}

func (s *AdminServer) shutdown() error {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		s.err = s.http.Shutdown(ctx)
		s.abandon()
		if s.err != nil {
			s.err = errors.Join(fmt.Errorf("close admin listener: %w", s.err), s.http.Close())
		}
		<-s.done
	})
	return s.err
}

// routes makes a mux of its own: packages may add handlers to the default one behind our back, as net/http/pprof does.
func routes(cfg AdminConfig) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.InstrumentMetricHandler(cfg.Registry, promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(cfg.Log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError, // one broken collector must not hide all the others
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true, // exemplars travel in no other text format
		Registry:            cfg.Registry,
	})))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.Handle("GET /health/ready", &readiness{checks: cfg.Ready, sandbox: cfg.Sandbox, quarantined: cfg.Quarantined, log: cfg.Log})
	if cfg.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}
