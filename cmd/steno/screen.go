package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"steno/job"
	"steno/transcript"
)

// screen is a block of lines at the end of what a terminal shows, drawn anew with each change. Where there is no terminal
// nothing is drawn. Not safe for concurrent use.
type screen struct {
	w    io.Writer
	size func() (columns, rows int) // nil where there is no terminal
	rows int                        // that the block has now
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.size = func() (int, int) {
			columns, rows, err := term.GetSize(int(f.Fd()))
			if err != nil || columns < 1 || rows < 1 {
				return 80, 24
			}
			return columns, rows
		}
	}
	return s
}

// shows reports whether there is a terminal.
func (s *screen) shows() bool { return s.size != nil }

// draw puts lines in place of those that are there. Each is cut to the terminal's width, and the last ones are left out where it
// has too few rows: the block could not be drawn over otherwise.
func (s *screen) draw(lines []string) {
	if s.size == nil {
		return
	}
	columns, rows := s.size()
	if over := len(lines) - (rows - 1); over > 0 {
		lines = append(lines[:max(0, rows-2):max(0, rows-2)], fmt.Sprintf("… and %d more", over+1))
	}
	var b strings.Builder
	b.WriteString(s.up())
	for _, line := range lines {
		b.WriteString(transcript.Cut(printable(line), columns-1) + "\n")
	}
	s.rows = len(lines)
	io.WriteString(s.w, b.String()) //nolint:errcheck // a terminal that has gone away has nothing to be told
}

// printable is s without what a terminal would obey: names of files may hold it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || transcript.TurnsDirection(r) {
			return -1
		}
		return r
	}, s)
}

// up goes to the block's first line and clears all below.
func (s *screen) up() string {
	if s.rows == 0 {
		return "\r\x1b[J"
	}
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", s.rows)
}

// clear takes the block away, for output that follows.
func (s *screen) clear() {
	if s.size != nil && s.rows > 0 {
		io.WriteString(s.w, s.up()) //nolint:errcheck // as above
	}
	s.rows = 0
}

const barWidth = 24

// bar is a fraction of 1 as a row of blocks.
func bar(fraction float64) string {
	full := int(min(1, max(0, fraction)) * barWidth)
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

// pace finds out how fast a job's transcription goes. The zero value is ready.
type pace struct {
	points []point
}

type point struct {
	at   time.Time
	done float64 // seconds of audio
}

// paceOver is the time that counts: long enough for a steady number, short enough for one that is true now.
const paceOver = 30 * time.Second

// add takes news and returns seconds of audio per second, and what is left; both are 0 while they are not known.
func (p *pace) add(now time.Time, g job.Progress) (speed float64, left time.Duration) {
	if g.Stage != job.StageTranscribe || len(p.points) > 0 && g.Done < p.points[len(p.points)-1].done {
		p.points = p.points[:0] // it has not begun, has ended, or begins anew
	}
	if g.Stage != job.StageTranscribe {
		return 0, 0
	}
	p.points = append(p.points, point{now, g.Done})
	for len(p.points) > 2 && now.Sub(p.points[0].at) > paceOver {
		p.points = p.points[1:]
	}
	first := p.points[0]
	took := now.Sub(first.at).Seconds()
	if took < 0.5 || g.Done <= first.done {
		return 0, 0
	}
	speed = (g.Done - first.done) / took
	return speed, time.Duration((g.Total - g.Done) / speed * float64(time.Second))
}

// progressLine is a job's line: bar, share, stage, and where they are known speed and time left.
func progressLine(g job.Progress, speed float64, left time.Duration, name string) string {
	line := fmt.Sprintf("%s %3.0f %%  %-10s", bar(g.Fraction()), g.Fraction()*100, g.Stage)
	if speed > 0 {
		line += fmt.Sprintf("  %5.1f×  %s left", speed, clock(left))
	} else {
		line += strings.Repeat(" ", 22)
	}
	return line + "  " + name
}

// clock writes a time as 1:02:03, or 2:03 where there are no hours; parts of a second count as one.
func clock(d time.Duration) string {
	s := int((d + time.Second - 1) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%4d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}
