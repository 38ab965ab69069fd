package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"steno/job"
)

// uploadPrefix names objects whose content is not known yet.
const uploadPrefix = "upload-"

// PutAudio streams r into the object store, in constant memory, and names it by the SHA-256 of its bytes: the same bytes are
// stored once. When r ends with an error or ctx ends, nothing stays behind.
func (q *Queue) PutAudio(ctx context.Context, r io.Reader) (job.Source, error) {
	sum := sha256.New()
	name := uploadPrefix + nuid.Next()
	info, err := q.audio.put(ctx, name, io.TeeReader(r, sum))
	if err != nil {
		return job.Source{}, unreachable("store the audio", err)
	}
	// The object is complete: what is left takes milliseconds, and should not stop half-way.
	ctx, cancel := outlive(ctx, cutGrace)
	defer cancel()
	if info.Size == 0 {
		_ = q.audio.remove(ctx, name) // Sweep removes it otherwise
		return job.Source{}, job.Errorf(job.Input, "FILE_EMPTY", "the file is empty: upload it again")
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	if err := q.nameAudio(ctx, name, digest); err != nil {
		_ = q.audio.remove(ctx, name) // Sweep removes it otherwise
		return job.Source{}, unreachable("store the audio", err)
	}
	return job.Source{Object: digest, SHA256: digest, Size: int64(info.Size)}, nil
}

// nameAudio gives an upload its name, or drops it where the store has the content already.
func (q *Queue) nameAudio(ctx context.Context, upload, digest string) error {
	err := q.audio.store.UpdateMeta(ctx, upload, jetstream.ObjectMeta{Name: digest})
	if !errors.Is(err, jetstream.ErrObjectAlreadyExists) {
		return err
	}
	return errors.Join(q.touchAudio(ctx, digest), q.audio.remove(ctx, upload))
}

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
		return q.touchAudio(ctx, s.Object) // or Sweep may remove it just before it sees the job
	}
	return nil
}

// touchAudio makes an object young: its age is that of its meta data.
func (q *Queue) touchAudio(ctx context.Context, name string) error {
	if err := q.audio.store.UpdateMeta(ctx, name, jetstream.ObjectMeta{Name: name}); err != nil {
		return fmt.Errorf("renew the audio: %w", err)
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
	err := q.audio.fetch(ctx, s.Object, dst)
	if errors.Is(err, jetstream.ErrObjectNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		return audioMissing()
	}
	return unreachable("fetch the audio", err)
}
