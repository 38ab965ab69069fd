package queue

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// Nobody gets into a listening server without its token, and what they would have asked for is never answered.
func TestStrangersAreRefused(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0"})
	q := open(t, s)
	submit(t, q, 1<<10)
	address := strings.TrimPrefix(s.URL(), "nats://")
	for name, opts := range map[string][]nats.Option{
		"anonymous": nil, "empty token": {nats.Token("")}, "another token": {nats.Token(newToken())},
		"cut token": {nats.Token(s.token[:63])}, "longer token": {nats.Token(s.token + "0")},
		"token in capitals": {nats.Token(strings.ToUpper(s.token))}, "token as a user": {nats.UserInfo(s.token, "")},
		"token as a password": {nats.UserInfo("steno", s.token)}, "the system's account": {nats.UserInfo("sys", "sys")},
		"the server's name": {nats.Token("steno-" + s.token[:8])},
	} {
		nc, err := nats.Connect(s.URL(), append(opts, nats.Timeout(5*time.Second))...)
		if err == nil {
			nc.Close()
			t.Errorf("%s gets in", name)
		} else if !strings.Contains(err.Error(), "Authorization Violation") {
			t.Errorf("%s is refused with %v", name, err)
		}
	}
	// The server says its greeting first. One that does not wait for it and asks at once gets no more than anybody.
	for _, ask := range []string{
		"PUB $JS.API.STREAM.DELETE.STENO_JOBS 0\r\n\r\n", "PUB $JS.API.STREAM.PURGE.STENO_JOBS 0\r\n\r\n",
		"PUB $SYS.REQ.SERVER.PING 0\r\n\r\n", "SUB > 1\r\n", "CONNECT {}\r\nPUB $JS.API.STREAM.DELETE.STENO_JOBS 0\r\n\r\n",
		`CONNECT {"auth_token":""}` + "\r\nSUB steno.> 1\r\n",
	} {
		if said := tell(t, address, ask); !strings.Contains(said, "Authorization") || strings.Contains(said, "MSG") {
			t.Errorf("%q is answered with %q", ask, said)
		}
	}
	if info, err := q.jobs.Info(t.Context()); err != nil || info.State.Msgs != 1 {
		t.Errorf("the stream holds %+v, %v", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // the token, and all that the server stores
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others of the machine may use %s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

// tell writes to a server and returns all that it says until it closes the connection.
func tell(t *testing.T, address, what string) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var said strings.Builder
	for p := make([]byte, 4096); ; {
		n, err := conn.Read(p)
		said.Write(p[:n])
		if err, ok := err.(net.Error); ok && err.Timeout() { //nolint:errorlint // straight from the connection
			t.Errorf("after %q the connection stays open", what)
		}
		if err != nil {
			return said.String()
		}
	}
}
