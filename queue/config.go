package queue

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how to reach the broker and what the streams may hold. One of Server and URL is required.
type Config struct {
	// Server is an embedded server of this process; it goes before URL.
	Server *Server
	// URL is an outside NATS, such as nats://host:4222; several are divided by commas.
	URL string
	// Token, CredsFile (a NATS .creds file) and CAFile (PEM) are what the server asks for. A user and password go in the URL.
	Token     string
	CredsFile string
	CAFile    string
	// Name is shown in the broker's connection list. Default "steno".
	Name string
	// Attach uses streams and buckets as they are: for clients, which know nothing of the limits. Without it, they are created
	// where absent and their settings are brought in line with Limits and Replicas.
	Attach bool
	// Retry goes on connecting until the context ends, for daemons that may start before the broker.
	Retry bool
	// Replicas of each stream, for clusters. Default 1.
	Replicas int
	Limits   Limits
	// Grace is how long a submit may take between its two writes; older halves are completed by Reconcile. Default 30 s.
	Grace time.Duration
	// Log receives what happens to connections and jobs. Default: nothing.
	Log *slog.Logger
	// Metrics gets the queue's series. Default: counted but not shown.
	Metrics prometheus.Registerer

	local string // data folder of the server, for Local
}

// Limits bound what the broker stores. What exceeds them is refused with a clear error; nothing that was accepted is dropped.
type Limits struct {
	// Bytes is the most that all streams and buckets may take together. Default: what an embedded server was given, else 16 GiB.
	Bytes int64
	// Jobs is the most jobs waiting or running. Default 10,000.
	Jobs int64
	// AudioAge is how long audio is kept after the last job on it ended, and where none was submitted. Default 24 h.
	AudioAge time.Duration
	// ResultAge is how long the record and the result of an ended job are kept. Default 7 days.
	ResultAge time.Duration
	// RecordedAge is how long the record and the result of an external job are kept once Queue.Recorded was called for it. Default
	// 1 h.
	RecordedAge time.Duration
	// UnrecordedAge is how long they are kept where it never was. Default 90 days.
	UnrecordedAge time.Duration
	// ChunkAge is how long chunk results of jobs that did not end well are kept. Default 7 days.
	ChunkAge time.Duration
	// DeadAge is how long dead letters are kept. Default 30 days.
	DeadAge time.Duration
	// NodeAge is how long a worker is listed that tells nothing of itself any more; it is more than two heartbeats. Default 30 s.
	NodeAge time.Duration
}

const day = 24 * time.Hour

// WithDefaults returns c with every empty field set to its documented default.
func (c Config) WithDefaults() Config {
	c.Name = or(c.Name, "steno")
	c.Replicas = or(c.Replicas, 1)
	c.Grace = or(c.Grace, 30*time.Second)
	c.Log = or(c.Log, slog.New(slog.DiscardHandler))
	if c.Server != nil {
		c.Limits.Bytes = or(c.Limits.Bytes, c.Server.cfg.MaxBytes)
	}
	l := &c.Limits
	l.Bytes = or(l.Bytes, 16<<30)
	l.Jobs = or(l.Jobs, 10_000)
	l.AudioAge = or(l.AudioAge, day)
	l.ResultAge = or(l.ResultAge, 7*day)
	l.RecordedAge = or(l.RecordedAge, time.Hour)
	l.UnrecordedAge = or(l.UnrecordedAge, 90*day)
	l.ChunkAge = or(l.ChunkAge, 7*day)
	l.DeadAge = or(l.DeadAge, 30*day)
	l.NodeAge = or(l.NodeAge, 30*time.Second)
	return c
}

// minBytes is the least that the shares of topology.go can be cut from.
const minBytes = 16 << 20

func (c Config) validate() error {
	switch {
	case c.Server == nil && c.URL == "":
		return fmt.Errorf("queue config: neither Server nor URL is set")
	case c.Replicas < 1 || c.Replicas > 5:
		return fmt.Errorf("queue config: Replicas is %d: choose 1, 3 or 5", c.Replicas)
	case c.Limits.Bytes < minBytes:
		return fmt.Errorf("queue config: Limits.Bytes is %d: at least %d are needed", c.Limits.Bytes, minBytes)
	case c.Limits.Jobs < 1:
		return fmt.Errorf("queue config: Limits.Jobs is %d: at least 1 is needed", c.Limits.Jobs)
	case c.Limits.RecordedAge < 0 || c.Limits.UnrecordedAge < 0:
		return fmt.Errorf("queue config: an age is negative")
	case c.Limits.AudioAge < 0 || c.Limits.ResultAge < 0 || c.Limits.ChunkAge < 0 || c.Limits.DeadAge < 0 || c.Limits.NodeAge < 0 ||
		c.Grace < 0:
		return fmt.Errorf("queue config: an age is negative")
	}
	return nil
}

// or returns v, or d where v is the zero value.
func or[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
