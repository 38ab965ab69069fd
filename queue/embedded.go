package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"steno/job"
)

// EmbeddedConfig says where an embedded broker keeps its data and who may reach it. Dir is required.
type EmbeddedConfig struct {
	// Dir is the data folder; the broker stores under Dir/nats. One process at a time may use it.
	Dir string
	// Listen is a loopback address such as 127.0.0.1:0 for other processes of this user, which find it and its token in
	// Dir/nats.json (see Local). Default: no socket at all.
	Listen string
	// MaxBytes is the most that the queue may store. Default 32 GiB, or 80 % of what the disk has left where that is less.
	MaxBytes int64
	// Log receives the server's notices. Default: nothing.
	Log *slog.Logger
}

// Server is a NATS server within this process. It is safe for concurrent use.
type Server struct {
	cfg   EmbeddedConfig
	token string
	lock  *os.File
	// started tells the leases of workers that died with the server before from those of this one's.
	started time.Time
	orphans sync.Once

	mu      sync.Mutex
	running *server.Server // replaced by Restart
	addr    string         // the address that was bound first, so that a restart binds it again
}

// startTimeout is generous: recovery reads the whole store after a crash.
const startTimeout = time.Minute

// Embedded starts a server and returns when it takes connections. The caller must Shutdown it, after closing every Queue.
func Embedded(ctx context.Context, cfg EmbeddedConfig) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, lock: lock, addr: cfg.Listen, token: newToken(), started: time.Now()}
	if err := s.start(ctx); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (c EmbeddedConfig) withDefaults() (EmbeddedConfig, error) {
	if c.Dir == "" {
		return c, errors.New("embedded queue: Dir is not set")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("find data folder: %w", err)
	}
	c.Dir = dir
	if err := os.MkdirAll(filepath.Join(dir, "nats"), 0o700); err != nil {
		return c, fmt.Errorf("make data folder: %w", err)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = max(minBytes, min(32<<30, roomFor(filepath.Join(dir, "nats"))/10*8))
	}
	c.Log = or(c.Log, slog.New(slog.DiscardHandler))
	if c.Listen == "" {
		return c, nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return c, fmt.Errorf("read listen address %q: %w", c.Listen, err)
	}
	// The token would travel in clear text.
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return c, fmt.Errorf("listen on %q: the embedded queue only listens on loopback, such as 127.0.0.1:0; "+
			"run a NATS server for other machines", c.Listen)
	}
	return c, nil
}

// roomFor is what the disk has left plus what dir already takes, in bytes.
func roomFor(dir string) int64 {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return 0
	}
	room := int64(st.Bavail) * st.Bsize
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				room += info.Size()
			}
		}
		return nil
	})
	return room
}

func newToken() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// lockDir holds the folder for this process: two servers on one store destroy it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "nats.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, &job.Error{
			Class: job.Input, Code: "DATA_FOLDER_IN_USE", Err: err,
			Message: "another steno uses the data folder " + dir + ": stop it, or choose another folder with --data",
		}
	}
	return f, nil
}

func (s *Server) options(addr string) (*server.Options, error) {
	o := &server.Options{
		ServerName: "steno-" + s.token[:8], NoSigs: true, NoLog: true,
		DontListen: addr == "", Authorization: s.token, MaxPayload: 1 << 20,
		JetStream: true, StoreDir: filepath.Join(s.cfg.Dir, "nats"), DisableJetStreamBanner: true,
		// Explicit, for the default is three quarters of the disk. What really bounds the store is the sum of the streams'
		// limits, which may shrink with the disk; the server must still take what it recovers.
		JetStreamMaxStore: max(64<<30, s.cfg.MaxBytes/10*11), JetStreamMaxMemory: 256 << 20,
		// By default a write is acknowledged up to two minutes before it is on the disk.
		SyncAlways: true,
	}
	if addr == "" {
		return o, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("read listen address %q: %w", addr, err)
	}
	o.Host = host
	if o.Port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("read listen port %q: %w", port, err)
	}
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	return o, nil
}

// start is called with mu held, or before anybody else knows s.
func (s *Server) start(ctx context.Context) error {
	opts, err := s.options(s.addr)
	if err != nil {
		return err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("make embedded NATS server: %w", err)
	}
	log := &serverLog{log: s.cfg.Log}
	srv.SetLoggerV2(log, false, false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start()
	}()
	if err := awaitReady(ctx, srv, started); err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return errors.Join(err, log.last())
	}
	s.running = srv
	if s.addr == "" {
		return nil
	}
	s.addr = srv.Addr().String()
	return writeAccess(s.cfg.Dir, access{URL: "nats://" + s.addr, Token: s.token})
}

// awaitReady waits until the server takes connections. Only after its start does it say that it runs, or that it could not begin.
func awaitReady(ctx context.Context, srv *server.Server, started <-chan struct{}) error {
	deadline := time.Now().Add(startTimeout)
	for !srv.ReadyForConnections(50 * time.Millisecond) {
		if ctx.Err() != nil {
			return fmt.Errorf("start embedded NATS server: %w", context.Cause(ctx))
		}
		failed := time.Now().After(deadline)
		select {
		case <-started:
			failed = failed || !srv.Running()
		default:
		}
		if failed {
			return errors.New("start embedded NATS server: it does not become ready")
		}
	}
	if !srv.JetStreamEnabled() {
		return errors.New("start embedded NATS server: JetStream did not start")
	}
	return nil
}

// InProcessConn gives nats.go a connection to whichever server runs now, so that clients outlive a Restart.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil, errors.New("the embedded NATS server is stopped")
	}
	return s.running.InProcessConn()
}

// Health reports what the server says of itself, streams and consumers included.
func (s *Server) Health() error {
	s.mu.Lock()
	srv := s.running
	s.mu.Unlock()
	return healthOf(srv)
}

func healthOf(srv *server.Server) error {
	if srv == nil {
		return errors.New("the embedded NATS server is stopped")
	}
	if h := srv.Healthz(&server.HealthzOptions{}); h.StatusCode != http.StatusOK {
		return fmt.Errorf("the embedded NATS server is not healthy: %s", h.Error)
	}
	return nil
}

// outOfRoom tells whether the server says of itself that its disk is full. It does not wait for a restart that is under way.
func (s *Server) outOfRoom() bool {
	if !s.mu.TryLock() {
		return false
	}
	srv := s.running
	s.mu.Unlock()
	err := healthOf(srv)
	return err != nil && noSpace(err.Error())
}

// Restart stops the server and starts it on the same data. It is the one way out after the disk was full: JetStream goes on
// refusing writes when space is back. Queues reconnect by themselves.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	return s.start(ctx)
}

// Shutdown stops the server, waits until all is written, and gives the data folder free.
func (s *Server) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	if s.addr != "" {
		_ = os.Remove(filepath.Join(s.cfg.Dir, accessFile)) // a stale one is noticed by those who connect
	}
	s.lock.Close()
}

func (s *Server) stop() {
	if s.running != nil {
		s.running.Shutdown()
		s.running.WaitForShutdown()
		s.running = nil
	}
}

// URL is where other processes reach the server, or empty where it does not listen.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == "" {
		return ""
	}
	return "nats://" + s.addr
}
