package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"steno/models"
)

// wear counts what makes an engine worn.
type wear struct {
	chunks   int
	baseline int64 // resident bytes when warm
	rss      int64
	warm     bool
}

// warmChunks per decode state are run before memory is compared: states are made on first use, and buffers grow to the
// longest chunk.
const warmChunks = 4

func (w *wear) finished(states int) {
	w.chunks++
	w.warm = w.chunks >= warmChunks*max(1, states)
}

func (w *wear) weigh(rss int64) {
	w.rss = rss
	if !w.warm {
		w.baseline = max(w.baseline, rss)
	}
}

// worn names the limit that was passed, or is empty.
func (w *wear) worn(l Limits) string {
	switch grown := w.rss - w.baseline; {
	case l.Chunks > 0 && w.chunks >= l.Chunks:
		return fmt.Sprintf("%d chunks", w.chunks)
	case l.Growth > 0 && w.warm && grown > l.Growth:
		return fmt.Sprintf("%d MiB above its baseline", grown>>20)
	}
	return ""
}

// Worn says why the engine should be replaced when it is idle, or is empty. It works on as before; see Renewing.
func (p *Process) Worn() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wear.worn(p.cfg.Limits)
}

// weigh reads the child's resident memory, and kills a child that takes too much. A process that is just ending has none, which
// is no news.
func (p *Process) weigh() {
	rss, err := residentBytes(p.cmd.Process.Pid)
	if err != nil || rss == 0 {
		return
	}
	p.mu.Lock()
	p.wear.weigh(rss)
	info := p.info
	p.mu.Unlock()
	if most := p.cfg.mostMemory(); most > 0 && rss > most {
		p.kill(fmt.Errorf("%w: the engine took %d MiB, and %d MiB were allowed", models.ErrOutOfMemory, rss>>20, most>>20))
	}
	if info.PID != 0 {
		p.cfg.Observer.memory(info, rss)
	}
}

// residentBytes is the second field of statm, in pages.
func residentBytes(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0, fmt.Errorf("read memory of process %d: statm is %q", pid, b)
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	return pages * int64(os.Getpagesize()), nil
}

// oomCounter tells a child that the kernel killed for memory from one that somebody killed: both are SIGKILL, but the first
// raises a counter of the control group (or, with the older control groups, of the machine). It is safe for concurrent use.
type oomCounter struct {
	path string
	mu   sync.Mutex
	last int64
	ago  int // looks since it rose
}

// oomLooks is for how many looks a rise counts. The counter rises when the kernel decides, and the child has ended when all of
// its memory is back: 3 s later with 23 GiB.
const oomLooks = 2 * ticksOfSilence

func newOOMCounter() *oomCounter {
	c := &oomCounter{path: "/proc/vmstat", ago: oomLooks}
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		if _, group, ok := strings.Cut(string(b), "0::"); ok {
			group, _, _ = strings.Cut(group, "\n")
			if p := filepath.Join("/sys/fs/cgroup", group, "memory.events"); readCounter(p) >= 0 {
				c.path = p
			}
		}
	}
	c.last = readCounter(c.path)
	return c
}

func (c *oomCounter) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := readCounter(c.path)
	c.ago++
	if c.last >= 0 && n > c.last {
		c.ago = 0
	}
	c.last = n
}

// rose tells whether the kernel killed for memory lately.
func (c *oomCounter) rose() bool {
	c.look()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ago < oomLooks
}

// readCounter finds the line "oom_kill N", or gives -1.
func readCounter(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
				return n
			}
		}
	}
	return -1
}
