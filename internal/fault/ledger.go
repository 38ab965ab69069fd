package fault

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// Ledger is a file with a line of JSON for each thing that happened. It is safe for concurrent use.
type Ledger struct {
	mu    sync.Mutex
	f     *os.File
	start time.Time
	err   error
}

// entry is a line. At is in seconds since the run began.
type entry struct {
	At    float64 `json:"at"`
	Row   string  `json:"row,omitempty"`
	Event string  `json:"event"`
	Task  string  `json:"task,omitempty"`
	What  string  `json:"what,omitempty"`
}

// NewLedger makes the file.
func NewLedger(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the ledger: %w", err)
	}
	return &Ledger{f: f, start: time.Now()}, nil
}

// Write adds a line. It is written when Write returns; the first error stays, for Close.
func (l *Ledger) Write(row, event, task, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	line, err := json.Marshal(entry{time.Since(l.start).Seconds(), row, event, task, what})
	if err == nil {
		_, err = l.f.Write(append(line, '\n'))
	}
	if l.err == nil {
		l.err = err
	}
}

// Close returns what went wrong with writing, if anything did.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.f.Close(); l.err == nil {
		l.err = err
	}
	return l.err
}
