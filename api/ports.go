package api

import (
	"context"
	"encoding/json"
	"io"

	"steno/job"
	"steno/transcript"
)

// Objects is where audio lies.
type Objects interface {
	// Put streams r into the store, in constant memory, and names it by the SHA-256 of its bytes; the same bytes are stored once.
	// Where r ends with an error, that error is returned and nothing stays behind.
	Put(ctx context.Context, r io.Reader) (job.Source, error)
	// Keep holds an object until the record lets go of it. The code of the error is AUDIO_MISSING where it is not there.
	Keep(ctx context.Context, object string) error
	// Open returns an object's bytes, to be read from anywhere. The code of the error is AUDIO_MISSING where it is not there.
	Open(ctx context.Context, object string) (io.ReadSeekCloser, error)
}

// Media is what a probe says of a file.
type Media struct {
	Duration float64         // seconds; 0 where the file does not say
	Details  json.RawMessage // all of it, for people
}

// Live tells of work while it is going on.
type Live interface {
	// Watch sends a job's state now and after each change, until its end or that of ctx; it closes the channel then. The code of
	// the error is JOB_NOT_FOUND where the queue does not know the job, yet or any more.
	Watch(ctx context.Context, id job.ID) (<-chan News, error)
}

// News is what is known of a job at some moment.
type News struct {
	State    job.State
	Attempt  int
	Progress job.Progress
	Segments []transcript.Segment // new since the last; a slow receiver misses some
}

// Check reports whether a dependency is usable now: nil means yes. It returns when ctx ends. Its error is for the log alone,
// unless it is Shown.
type Check = func(ctx context.Context) error

// Shown is an error of a Check that /health/ready may show to anybody: it names no host, path or user.
type Shown struct{ Err error }

func (e Shown) Error() string { return e.Err.Error() }

func (e Shown) Unwrap() error { return e.Err }
