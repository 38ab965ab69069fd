package fault

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// canary is a file that nobody may open and an address that nobody may call (I10). Close it once.
type canary struct {
	folder, path, url string

	watch   *os.File // of the kernel: says when the file is opened
	ln      net.Listener
	ended   sync.WaitGroup
	opened  atomic.Pointer[time.Time]
	reached atomic.Int32 // connections
}

// newCanary puts the file, which is a copy of a recording, where nobody has business, and listens on loopback.
func newCanary(recording []byte) (c *canary, err error) {
	c = &canary{}
	// Of its own, for a search through the repository's folder reads all that is in it.
	if c.folder, err = os.MkdirTemp("", "steno-canary-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(c.folder))
		}
	}()
	if err := os.Chmod(c.folder, 0o755); err != nil { //nolint:gosec // for everybody, so that only steno is in the way
		return nil, err
	}
	c.path = filepath.Join(c.folder, "canary.mp3")
	if err := os.WriteFile(c.path, recording, 0o644); err != nil { //nolint:gosec // the same
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
	c.ended.Go(c.listen)
	c.ended.Go(c.look)
	return c, nil
}

func (c *canary) listen() {
	for {
		conn, err := c.ln.Accept()
		if err != nil {
			return
		}
		c.reached.Add(1)
		conn.Close()
	}
}

// look notes when the file is opened for the first time.
func (c *canary) look() {
	var buf [4096]byte
	for {
		n, err := c.watch.Read(buf[:])
		if err != nil {
			return
		}
		if now := time.Now(); n > 0 {
			c.opened.CompareAndSwap(nil, &now)
		}
	}
}

// touched says what has happened to the canary; it is empty where nothing has.
func (c *canary) touched() string {
	var all []string
	if at := c.opened.Load(); at != nil {
		all = append(all, "the canary was opened at "+at.Format(time.TimeOnly))
	}
	if n := c.reached.Load(); n > 0 {
		all = append(all, fmt.Sprintf("the canary was called %d times", n))
	}
	return strings.Join(all, ", ")
}

func (c *canary) Close() {
	c.ln.Close()
	c.watch.Close()
	c.ended.Wait()
	_ = os.RemoveAll(c.folder) // it is in the system's folder for what may go
}
