package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"steno/job"
)

// progress draws one line about the work in hand on a terminal, and nothing anywhere else. Safe for concurrent use.
type progress struct {
	mu      sync.Mutex
	w       io.Writer
	tty     bool
	total   int
	ended   int
	running map[string]job.Progress
	order   []string
	drawn   time.Time
}

func newProgress(w io.Writer, total int) *progress {
	f, ok := w.(*os.File)
	tty := ok && term.IsTerminal(int(f.Fd()))
	return &progress{w: w, tty: tty, total: total, running: map[string]job.Progress{}}
}

// update takes news of one file.
func (p *progress) update(name string, now job.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.running[name]; !known {
		p.order = append(p.order, name)
	}
	p.running[name] = now
	if time.Since(p.drawn) > 100*time.Millisecond {
		p.draw()
	}
}

// done forgets a file.
func (p *progress) done(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, name)
	for i, n := range p.order {
		if n == name {
			p.order = append(p.order[:i], p.order[i+1:]...)
			break
		}
	}
	p.ended++
	p.draw()
}

// draw must be called with mu held.
func (p *progress) draw() {
	if !p.tty {
		return
	}
	p.drawn = time.Now()
	fmt.Fprint(p.w, "\r\x1b[K")
	if len(p.order) == 0 {
		return
	}
	name := p.order[0]
	now := p.running[name]
	const width = 24
	fill := int(now.Fraction() * width)
	bar := ""
	for i := range width {
		if i < fill {
			bar += "█"
		} else {
			bar += "░"
		}
	}
	fmt.Fprintf(p.w, "%s %3.0f%% %s  %s", bar, now.Fraction()*100, now.Stage, name)
	if p.total > 1 {
		fmt.Fprintf(p.w, "  (%d of %d)", p.ended+1, p.total)
	}
}

// clear removes the line, for output that follows.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// say prints a line of its own.
func (p *progress) say(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	fmt.Fprintln(p.w, line)
	p.draw()
}

func (p *progress) stop() { p.clear() }
