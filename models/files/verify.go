package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"steno/job"
)

// stamp tells one content of one file from another as the file system does. The change time cannot be set by a user, so a file
// that was swapped or written to has another stamp, even with its size and modification time put back.
type stamp struct {
	dev, ino         uint64
	size             int64
	modified, change syscall.Timespec
}

func stampOf(st fs.FileInfo) (stamp, bool) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, false
	}
	return stamp{dev: sys.Dev, ino: sys.Ino, size: sys.Size, modified: sys.Mtim, change: sys.Ctim}, true
}

// Verify reads a model's file and checks it against its checksum. A file that this Store read before and that nobody has
// touched since is not read again. It returns the entry, whose SHA256 is now that of the file. It fails as Open does.
func (s *Store) Verify(ctx context.Context, name string) (Entry, error) {
	f, e, err := s.Open(ctx, name)
	if err != nil {
		return Entry{}, err
	}
	return e, f.Close()
}

// Open returns a model's file, checked as Verify does; what is checked is the file that is returned, whatever happens to its
// name. The caller closes it.
//
// The error is a *job.Error with the code MODEL_UNKNOWN, MODEL_MISSING, MODEL_SHORT, MODEL_FOREIGN or MODEL_DAMAGED, or ctx's.
func (s *Store) Open(ctx context.Context, name string) (*os.File, Entry, error) {
	e, err := s.Entry(name)
	if err != nil {
		return nil, Entry{}, err
	}
	f, err := os.Open(s.path(e))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Entry{}, s.missing(e)
	}
	if err != nil {
		return nil, Entry{}, fmt.Errorf("open model %s: %w", e.Name, err)
	}
	if err := s.check(ctx, f, e); err != nil {
		f.Close()
		return nil, Entry{}, err
	}
	return f, e, nil
}

func (s *Store) check(ctx context.Context, f *os.File, e Entry) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("verify model %s: %w", e.Name, err)
	}
	if !st.Mode().IsRegular() || st.Size() != e.Size {
		return wrong(f, st, e)
	}
	at, stamped := stampOf(st)
	if stamped && s.known(at) == e.SHA256 {
		return nil
	}
	// Whatever is written to a settled file from here on changes its stamp: the clock of the file system has moved on.
	settled := time.Since(time.Unix(at.change.Unix())) > s.settle
	sum, err := hash(ctx, f)
	if err != nil {
		return fmt.Errorf("verify model %s: %w", e.Name, err)
	}
	if sum != e.SHA256 {
		return wrong(f, st, e)
	}
	if stamped && settled {
		s.remember(at, sum)
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}

func (s *Store) known(at stamp) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verified[at]
}

func (s *Store) remember(at stamp, sum string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verified[at] = sum
}

// hash is the SHA-256 of the file from its start, in hex.
func hash(ctx context.Context, f *os.File) (string, error) {
	h := sha256.New()
	r := &ctxReader{ctx, io.NewSectionReader(f, 0, 1<<62)}
	if _, err := io.CopyBuffer(h, r, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ctxReader is a reader that ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// wrong tells why a file is not the model that it is named after, as far as can be seen cheaply.
func wrong(f *os.File, st fs.FileInfo, e Entry) error {
	fail := func(code, format string, args ...any) error {
		return job.Errorf(job.Internal, code, "%s "+format, append([]any{f.Name()}, args...)...)
	}
	again := fmt.Sprintf("run `steno models pull %s`", e.Name)
	if !e.Published() {
		again = "convert it again"
	}
	if !st.Mode().IsRegular() {
		return fail("MODEL_FOREIGN", "is not a regular file: remove it and %s.", again)
	}
	head := make([]byte, 64)
	n, _ := f.ReadAt(head, 0)
	if what := foreign(head[:n]); what != "" && e.ggml() {
		return fail("MODEL_FOREIGN", "%s", what)
	}
	if st.Size() < e.Size {
		return fail("MODEL_SHORT", "has %d of %d bytes: %s.", st.Size(), e.Size, again)
	}
	if !e.Transcribes() {
		return fail("MODEL_DAMAGED", "is not the published %s: %s.", e.Name, again)
	}
	switch h, err := readHeader(io.NewSectionReader(f, 0, st.Size())); {
	case errors.Is(err, errForeign):
		return fail("MODEL_FOREIGN", "is not a ggml file: remove it and %s.", again)
	case err != nil:
		return fail("MODEL_DAMAGED", "is damaged (%v): remove it and %s.", err, again)
	case h.size() == st.Size() && st.Size() != e.Size:
		return fail("MODEL_FOREIGN", "is a sound ggml file, but another model than %s: rename it, or remove it and %s.", e.Name, again)
	}
	return fail("MODEL_DAMAGED", "does not have the checksum of %s: remove it and %s.", e.Name, again)
}
