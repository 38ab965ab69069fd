package fault

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// canary is a file that nobody may open and an address that nobody may call (I10). Close it once.
type canary struct {
	path, url string

	watch   *os.File // of the kernel: says when the file is opened
	ln      net.Listener
	ended   chan struct{}
	reached atomic.Int32 // connections
}

// newCanary puts the file, which is a copy of a recording, into a folder and listens on loopback.
func newCanary(folder string, recording []byte) (*canary, error) {
	c := &canary{path: filepath.Join(folder, "canary.mp3"), ended: make(chan struct{})}
	if err := os.WriteFile(c.path, recording, 0o644); err != nil { // for everybody, so that only steno is in the way
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	c.watch = os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, c.path, unix.IN_OPEN|unix.IN_ACCESS); err != nil {
		return nil, errors.Join(err, c.watch.Close())
	}
	if c.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil { //nolint:noctx // Close ends it
		return nil, errors.Join(err, c.watch.Close())
	}
	c.url = "http://" + c.ln.Addr().String() + "/canary.mp3"
	go func() {
		defer close(c.ended)
		for {
			conn, err := c.ln.Accept()
			if err != nil {
				return
			}
			c.reached.Add(1)
			conn.Close()
		}
	}()
	return c, nil
}

// touched reports whether the file was opened, and how many connections there were.
func (c *canary) touched() (file bool, connections int) {
	var buf [4096]byte
	n, _ := unix.Read(int(c.watch.Fd()), buf[:]) // an error says that there is nothing to read
	return n > 0, int(c.reached.Load())
}

func (c *canary) Close() {
	c.ln.Close()
	<-c.ended
	c.watch.Close()
}
