package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// errNoBytes ends an upload before it gets a name.
var errNoBytes = job.Errorf(job.Input, "FILE_EMPTY", "the file is empty: upload it again")

// PutAudio streams r into the object store, in constant memory, and names it by the SHA-256 of its bytes: the same bytes are
// stored once. When r ends with an error or ctx ends, nothing stays behind. A read of r that blocks is not interrupted.
func (q *Queue) PutAudio(ctx context.Context, r io.Reader) (job.Source, error) {
	info, err := q.audio.put(ctx, &someBytes{r: r}, func(sum string) string { return sum })
	if errors.Is(err, errObjectExists) {
		// Young again, so that Sweep leaves it for the job to come.
		err = q.audio.touch(ctx, info.Name)
	}
	if err != nil {
		return job.Source{}, q.unreachable("store the audio", err)
	}
	return job.Source{Object: info.Name, SHA256: info.Name, Size: int64(info.Size)}, nil
}

// someBytes is a reader that has an error where it would have nothing.
type someBytes struct {
	r    io.Reader
	some bool
}

func (s *someBytes) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.some = s.some || n > 0
	if errors.Is(err, io.EOF) && !s.some {
		return 0, errNoBytes
	}
	return n, err
}

// checkAudio makes sure that a job has audio, which stays until the job ends.
func (q *Queue) checkAudio(ctx context.Context, s job.Source) error {
	if s.Object == "" {
		if s.Path == "" {
			return job.Errorf(job.Input, "NO_SOURCE", "the job names no audio: upload a file first")
		}
		return nil
	}
	info, err := q.audio.store.GetInfo(ctx, s.Object)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return audioMissing()
	}
	if err != nil {
		return fmt.Errorf("look up the audio: %w", err)
	}
	if time.Since(info.ModTime) > q.cfg.Limits.AudioAge/2 {
		return q.audio.touch(ctx, s.Object) // or Sweep may remove it just before it sees the job
	}
	return nil
}

func audioMissing() error {
	return job.Errorf(job.Input, "AUDIO_MISSING", "the audio is not in the store (any more): upload the file again")
}

// fetchAudio writes an object's bytes to dst.
func (q *Queue) fetchAudio(ctx context.Context, s job.Source, dst io.Writer) error {
	if s.Object == "" {
		return job.Errorf(job.Input, "NO_SOURCE", "the job names no audio in the store: read it from its path")
	}
	return audioError("fetch the audio", q.audio.fetch(ctx, s.Object, dst))
}

// audioError turns an error of reading an object into one for users.
func audioError(doing string, err error) error {
	if errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		return audioMissing()
	}
	return unreachable(doing, err)
}
