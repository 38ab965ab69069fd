// Package testredis starts a Redis server for a test: private to it, in a folder of its own, reached over a Unix socket there,
// and gone when the test has ended.
package testredis

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"steno/internal/proc"
	"steno/internal/testserver"
)

// Server is a Redis server. It writes nothing to the disk but what it is told to by the command SAVE. URL is safe for concurrent
// use; Stop and Resume are not.
type Server struct {
	bin, dir string
	stop     func()
}

// Start starts an empty server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("Redis is not installed: run `make test`, which installs it, or `apt-get install redis-server`")
	}
	// Not t.TempDir, whose name may be too long for a socket.
	dir, err := os.MkdirTemp("", "steno-redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{bin: bin, dir: dir}
	s.Resume(t)
	t.Cleanup(func() { s.Stop() })
	return s
}

func (s *Server) socket() string { return filepath.Join(s.dir, "redis.sock") }

// URL is where clients find the server, also while it is stopped.
func (s *Server) URL() string { return "unix://" + s.socket() }

// Stop ends the server and all its connections. It returns when it has ended.
func (s *Server) Stop() { s.stop() }

// Resume starts the server again after Stop, with what was there at the last SAVE; without one it is empty.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.stop = testserver.Start(t, func(ctx context.Context) *exec.Cmd {
		cmd := proc.Command(ctx, s.bin, "--port", "0", "--unixsocket", s.socket(), "--dir", s.dir, "--save", "", "--appendonly", "no")
		cmd.Dir = s.dir
		return cmd
	}, s.ping)
}

func (s *Server) ping(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", s.socket())
	if err != nil {
		return err
	}
	defer conn.Close()
	const want = "+PONG\r\n"
	got := make([]byte, len(want))
	err = conn.SetDeadline(time.Now().Add(time.Second))
	if err == nil {
		_, err = conn.Write([]byte("PING\r\n"))
	}
	if err == nil {
		_, err = conn.Read(got)
	}
	if err == nil && string(got) != want { // it still loads
		return fmt.Errorf("it says %q", got)
	}
	return err
}
