package proc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// prison is what the child of the escape suite is told of the world.
type prison struct {
	Allowed, Secret string // files, side by side
	Scratch         string // a folder that it may write
	TCP, UDP        string // addresses of listeners
	Abstract        string // name of an abstract socket
	Parent          int
}

// escapes are what a child tries that has been taken over. nil is success.
var escapes = map[string]func(prison) error{
	"read a file beside its own":  func(p prison) error { _, err := os.ReadFile(p.Secret); return err },
	"list the folder of its file": func(p prison) error { _, err := os.ReadDir(filepath.Dir(p.Secret)); return err },
	"read the accounts":           func(prison) error { _, err := os.ReadFile("/etc/passwd"); return err },
	"read its environment":        func(prison) error { _, err := os.ReadFile("/proc/self/environ"); return err },
	"change a file":               func(p prison) error { return os.WriteFile(p.Secret, []byte("changed"), 0) },
	"change its own input":        func(p prison) error { return os.WriteFile(p.Allowed, []byte("changed"), 0) },
	"make a file":                 func(p prison) error { return os.WriteFile(p.Secret+".new", nil, 0o600) },
	"remove a file":               func(p prison) error { return os.Remove(p.Secret + ".victim") },
	"move a file":                 func(p prison) error { return os.Rename(p.Secret+".other", p.Scratch+"/taken") },
	"connect":                     func(p prison) error { return dial("tcp", p.TCP) },
	"listen":                      func(prison) error { return listen() },
	"start a shell":               func(prison) error { return exec.Command("/bin/sh", "-c", "true").Run() },
	"signal its parent":           func(p prison) error { return unix.Kill(p.Parent, 0) },
	"connect to an abstract socket": func(p prison) error {
		return dial("unix", "@"+p.Abstract)
	},
	"write a large file": func(p prison) error {
		return os.WriteFile(filepath.Join(p.Scratch, "large"), make([]byte, 1<<20), 0o600)
	},
	"send a datagram": func(p prison) error {
		c, err := net.Dial("udp", p.UDP)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("x"))
		return err
	},
}

// rights are what it must be able to do all the same.
var rights = map[string]func(prison) error{
	"read its file": func(p prison) error { _, err := os.ReadFile(p.Allowed); return err },
	"write where it may": func(p prison) error {
		return os.WriteFile(filepath.Join(p.Scratch, "small"), make([]byte, 1<<10), 0o600)
	},
	"throw output away": func(prison) error { return os.WriteFile("/dev/null", []byte("x"), 0) },
}

// listen uses TCP as it is: Landlock does not know Multipath TCP, which Go prefers.
func listen() error {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err == nil {
		l.Close()
	}
	return err
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

// playPrisoner tries everything and says as JSON what failed and how; what succeeded is empty.
func playPrisoner(arg string) {
	var p prison
	if err := json.Unmarshal([]byte(arg), &p); err != nil {
		fmt.Println(err)
		return
	}
	said := map[string]string{}
	for _, tries := range []map[string]func(prison) error{rights, escapes} {
		for name, try := range tries {
			said[name] = ""
			if err := try(p); err != nil {
				said[name] = err.Error()
			}
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(said)
}

func newPrison(t *testing.T) prison {
	t.Helper()
	dir := t.TempDir()
	p := prison{
		Allowed: filepath.Join(dir, "allowed"), Secret: filepath.Join(dir, "secret"), Scratch: t.TempDir(), Parent: os.Getpid(),
		Abstract: fmt.Sprintf("steno-test-%d-%d", os.Getpid(), time.Now().UnixNano()),
	}
	for _, f := range []string{p.Allowed, p.Secret, p.Secret + ".victim", p.Secret + ".other"} {
		if err := os.WriteFile(f, []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	abstract, err := net.Listen("unix", "@"+p.Abstract)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { abstract.Close() })
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	p.TCP, p.UDP = tcp.Addr().String(), udp.LocalAddr().String()
	return p
}

// tried runs the prisoner and returns what it said.
func tried(t *testing.T, p prison, start func(*exec.Cmd) error) map[string]string {
	t.Helper()
	arg, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := Command(ctx, os.Args[0], "role:prisoner", string(arg))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &stderr, []string{"SECRET=x"}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	said := map[string]string{}
	if errJSON := json.Unmarshal(out.Bytes(), &said); err != nil || errJSON != nil {
		t.Fatalf("%v, %v: %s%s", err, errJSON, out.String(), stderr.String())
	}
	return said
}

func TestNothingEscapes(t *testing.T) {
	t.Parallel()
	p := newPrison(t)
	said := tried(t, p, func(cmd *exec.Cmd) error {
		return StartConfined(cmd, Confinement{Read: []string{p.Allowed, "/absent"}, Write: []string{p.Scratch}, FileSize: 64 << 10})
	})
	layers := strings.Join(Layers(), ", ")
	t.Logf("layers: %s", layers)
	// What a kernel without a layer cannot hold.
	open := map[string]bool{"send a datagram": !strings.Contains(layers, NoNetwork)}
	abi := landlockABI()
	for name := range escapes {
		switch name {
		case "write a large file", "send a datagram":
		case "connect", "listen":
			open[name] = abi < 4 && open["send a datagram"]
		case "signal its parent", "connect to an abstract socket":
			open[name] = abi < 6 && open["send a datagram"]
		default:
			open[name] = abi == 0
		}
	}
	for name := range rights {
		if said[name] != "" {
			t.Errorf("it could not %s: %s", name, said[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(escapes)) {
		if said[name] == "" && !open[name] {
			t.Errorf("it could %s", name)
		}
	}
	for _, f := range []string{p.Allowed, p.Secret, p.Secret + ".victim", p.Secret + ".other"} {
		if text, err := os.ReadFile(f); err != nil || string(text) != "kept" {
			if abi > 0 {
				t.Errorf("%s: %q, %v", filepath.Base(f), text, err)
			}
		}
	}

	// Without the confinement every one of them succeeds, so each of them can fail.
	free := newPrison(t)
	for name, why := range tried(t, free, Start) {
		if why != "" {
			t.Errorf("nobody keeps it from it, but it cannot %s: %s", name, why)
		}
	}
}

// TestParentStaysFree starts many confined children and looks whether any thread of this process lost its rights with them.
func TestParentStaysFree(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const children = 20
	for range children {
		go func() {
			cmd := Command(t.Context(), "/bin/true")
			err := StartConfined(cmd, Confinement{})
			if err == nil {
				err = cmd.Wait()
			}
			done <- err
		}()
	}
	for range children {
		if err := <-done; err != nil {
			t.Error(err)
		}
		for range 50 {
			result := make(chan error)
			go func() {
				_, err := os.ReadFile(secret)
				result <- err
			}()
			if err := <-result; err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script string
		with   Confinement
	}{
		"processor time": {"while :; do :; done", Confinement{CPU: time.Second}},
		"memory":         {"x=x; while :; do x=$x$x; done", Confinement{Memory: 100 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := Command(ctx, "/bin/sh", "-c", c.script)
			if err := StartConfined(cmd, c.with); err != nil {
				t.Fatal(err)
			}
			err := cmd.Wait()
			if err == nil || ctx.Err() != nil {
				t.Errorf("it ended with %v, %v; want the limit to end it", err, ctx.Err())
			}
		})
	}
}
