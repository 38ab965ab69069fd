// Package testpg runs a real PostgreSQL server for a test: private to it, in a folder of its own, reached over a Unix socket
// there, and gone when the test has ended.
package testpg

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"steno/internal/proc"
	"steno/internal/testserver"
)

// Server is a PostgreSQL server. Database is safe for concurrent use; Stop and Resume are not.
type Server struct {
	bin, dir  string
	owner     *syscall.Credential // whom it runs as; nil: the caller
	databases atomic.Int32
	settings  []string
	stop      func()
}

// Start makes and starts a server that ends with the test. Settings are as in postgresql.conf, such as "fsync=off".
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{bin: binaries(t), owner: unprivileged(t), settings: settings}
	// Not t.TempDir, which only root could reach, and whose name may be too long for a socket.
	dir, err := os.MkdirTemp("", "steno-pg-")
	if err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if s.owner != nil {
		if err := os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s.run(t, "initdb", "-D", s.data(), "-U", "steno", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	s.Resume(t)
	t.Cleanup(func() { s.Stop() })
	return s
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Database makes an empty database and returns its DSN.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "test" + strconv.Itoa(int(s.databases.Add(1)))
	s.run(t, "createdb", "-h", s.dir, "-U", "steno", name)
	return s.dsn(name)
}

func (s *Server) dsn(database string) string {
	return "postgres://steno@/" + database + "?host=" + url.QueryEscape(s.dir)
}

// run runs one of PostgreSQL's programs to its end.
func (s *Server) run(t testing.TB, program string, args ...string) {
	t.Helper()
	cmd := s.command(t.Context(), program, args...)
	cmd.Stderr = &proc.Tail{}
	if err := proc.Run(t.Context(), cmd); err != nil {
		t.Fatalf("run %s: %v", program, err)
	}
}

func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := proc.Command(ctx, filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr.Credential = s.owner
	return cmd
}

// Stop ends the server by its fast shutdown, which is what the interrupt of proc means to it. It returns when it has ended.
func (s *Server) Stop() { s.stop() }

// Resume starts the server again after Stop, on its data as they were.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses="}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.stop = testserver.Start(t, func(ctx context.Context) *exec.Cmd { return s.command(ctx, "postgres", args...) }, s.ready)
}

func (s *Server) ready(ctx context.Context) error {
	return proc.Run(ctx, s.command(ctx, "pg_isready", "-q", "-h", s.dir))
}

// binaries is the folder of the newest server that is installed. Debian keeps them out of the PATH.
func binaries(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		path, err := exec.LookPath("initdb")
		if err != nil {
			t.Fatal("PostgreSQL is not installed: run `make test`, which installs it, or `apt-get install postgresql`")
		}
		return filepath.Dir(path)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

// unprivileged is a user other than root, which PostgreSQL refuses to run as; nil where the caller is one already.
func unprivileged(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatalf("find a user for PostgreSQL: %v", err)
	}
	c, err := credential(u)
	if err != nil {
		t.Fatalf("find a user for PostgreSQL: %v", err)
	}
	return c
}

func credential(u *user.User) (*syscall.Credential, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read uid: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read gid: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
