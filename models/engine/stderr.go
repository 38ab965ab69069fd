package engine

import (
	"bytes"
	"log/slog"

	"steno/internal/proc"
)

const (
	// longestLine is where a line is cut, so that a child that never ends one costs no memory.
	longestLine = 4 << 10
	// longestTrace is what is kept of a Go traceback. It is the last thing a process writes and easily longer than the tail;
	// without a limit it would push out the assertion that made it.
	longestTrace = 2 << 10
)

// stderr takes the child's standard error line by line to the tail and to the log. One goroutine writes to it (os/exec's).
type stderr struct {
	tail  *proc.Tail
	log   *slog.Logger // may be nil
	line  []byte
	trace int // bytes of a traceback so far, 0 outside of one
}

func newStderr(tail *proc.Tail, cfg Config) *stderr {
	s := &stderr{tail: tail}
	if cfg.Log != nil {
		s.log = cfg.Log.With("model", cfg.Load.Model, "device", cfg.Load.Device)
	}
	return s
}

func (s *stderr) Write(b []byte) (int, error) {
	for part := range bytes.Lines(b) {
		for len(part) > 0 {
			n := min(len(part), longestLine-len(s.line))
			s.line = append(s.line, part[:n]...)
			part = part[n:]
			if len(s.line) == longestLine || s.line[len(s.line)-1] == '\n' {
				s.flush()
			}
		}
	}
	return len(b), nil
}

// flush ends a line. The child's last one may have no end: see Process.supervise.
func (s *stderr) flush() {
	line := s.line
	s.line = s.line[:0]
	if s.trace > 0 || bytes.HasPrefix(line, []byte("goroutine ")) {
		s.trace += len(line)
		if s.trace > longestTrace {
			return
		}
	}
	_, _ = s.tail.Write(line) // a Tail takes everything
	if text := bytes.TrimSpace(line); s.log != nil && len(text) > 0 {
		s.log.Warn("engine: " + string(text))
	}
}
