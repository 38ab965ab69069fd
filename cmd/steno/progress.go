package main

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"steno/job"
)

// progress draws a bar for each file in hand on a terminal, and nothing anywhere else. Safe for concurrent use.
type progress struct {
	mu      sync.Mutex
	w       io.Writer
	screen  *screen
	total   int
	ended   int
	running []*running // in the order in which they began
	drawn   time.Time
}

// running is a file in hand.
type running struct {
	name  string
	now   job.Progress
	pace  pace
	speed float64
	left  time.Duration
}

func newProgress(w io.Writer, total int) *progress {
	return &progress{w: w, screen: newScreen(w), total: total}
}

// redrawEvery is as often as eyes follow.
const redrawEvery = 100 * time.Millisecond

// update takes news of one file.
func (p *progress) update(name string, now job.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.index(name)
	if i < 0 {
		i = len(p.running)
		p.running = append(p.running, &running{name: name})
	}
	r := p.running[i]
	r.now = now
	r.speed, r.left = r.pace.add(time.Now(), now)
	if time.Since(p.drawn) > redrawEvery {
		p.draw()
	}
}

func (p *progress) index(name string) int {
	return slices.IndexFunc(p.running, func(r *running) bool { return r.name == name })
}

// done forgets a file.
func (p *progress) done(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.index(name); i >= 0 {
		p.running = slices.Delete(p.running, i, i+1)
	}
	p.ended++
	p.draw()
}

// draw must be called with mu held.
func (p *progress) draw() {
	p.drawn = time.Now()
	var lines []string
	for _, r := range p.running {
		lines = append(lines, progressLine(r.now, r.speed, r.left, r.name))
	}
	if p.total > 1 && p.ended < p.total {
		lines = append(lines, fmt.Sprintf("%d of %d done", p.ended, p.total))
	}
	p.screen.draw(lines)
}

// clear removes the bars, for output that follows.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.screen.clear()
}

// say prints a line of its own.
func (p *progress) say(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.screen.clear()
	fmt.Fprintln(p.w, line)
	p.draw()
}

func (p *progress) stop() { p.clear() }
