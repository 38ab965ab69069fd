package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"steno/job"
)

// DefaultMirror is where the files are published. "{repo}" stands for an entry's repository.
const DefaultMirror = "https://huggingface.co/{repo}/resolve/main"

// Config says where models lie and come from. The zero value of a field means its default.
type Config struct {
	// Dir is the models folder; it is made when something is put into it. It has no default.
	Dir string
	// Mirrors are URL prefixes, tried in order; the file's name follows after a slash. Default: DefaultMirror.
	Mirrors []string
	// Client asks the mirrors. Default: http.DefaultTransport, which honours the proxy variables, with no limit on the whole.
	Client *http.Client
	// Stall is how long a mirror may send nothing; default 30 s.
	Stall time.Duration
	// Retry is the wait before a mirror whose connection broke is asked again; default 1 s.
	Retry time.Duration
}

// WithDefaults returns c with every zero field set to its documented default.
func (c Config) WithDefaults() Config {
	if len(c.Mirrors) == 0 {
		c.Mirrors = []string{DefaultMirror}
	}
	if c.Client == nil {
		c.Client = &http.Client{}
	}
	if c.Stall == 0 {
		c.Stall = 30 * time.Second
	}
	if c.Retry == 0 {
		c.Retry = time.Second
	}
	return c
}

// Store is a folder of model files. It is safe for concurrent use, by several processes too.
type Store struct {
	cfg Config
	// free tells the bytes that may be written to a folder.
	free func(dir string) (int64, error)
	// settle is the age from which the change time of a file tells its content: file systems keep it in steps of up to 2 s.
	settle time.Duration

	mu       sync.Mutex
	verified map[stamp]string // the SHA-256 of files that were read whole
}

// NewStore returns a store; it touches no disk.
func NewStore(c Config) *Store {
	return &Store{cfg: c.WithDefaults(), free: freeBytes, settle: 2 * time.Second, verified: make(map[stamp]string)}
}

// Entry finds a model by name or alias, in the registry or among those that Convert made here.
func (s *Store) Entry(name string) (Entry, error) {
	e, unknown := Lookup(name)
	if unknown == nil {
		return e, nil
	}
	e, err := s.readManifest(canonical(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errName) {
		return Entry{}, unknown
	}
	return e, err
}

// Path is where the model's file lies or would lie; it need not be there, nor be sound.
func (s *Store) Path(name string) (string, error) {
	e, err := s.Entry(name)
	if err != nil {
		return "", err
	}
	return s.path(e), nil
}

func (s *Store) path(e Entry) string { return filepath.Join(s.cfg.Dir, e.File) }

// Status tells what lies on the disk of a model.
type Status struct {
	Entry
	// Present is true where the file is there in its full size. Its content is not read: Verify does that.
	Present bool `json:"present"`
	// Partial is the number of bytes that a pull which did not end has left, to go on from.
	Partial int64 `json:"partial,omitempty"`
}

// List gives every model of the registry in its order, then those that were made here by name.
func (s *Store) List() ([]Status, error) {
	local, err := s.local()
	if err != nil {
		return nil, err
	}
	var list []Status
	for _, e := range append(All(), local...) {
		list = append(list, Status{Entry: e, Present: s.present(e), Partial: sizeOf(s.path(e) + partSuffix)})
	}
	return list, nil
}

func (s *Store) present(e Entry) bool { return sizeOf(s.path(e)) == e.Size }

// sizeOf is the size of a regular file in bytes, or 0.
func sizeOf(path string) int64 {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return 0
	}
	return st.Size()
}

// Resolve chooses the file for a model by what is on the disk: of the types in prefer, in their order, the first that is
// there, and else the model as it is named. A name that tells its type is never changed. The reason is one for people. Files are
// judged by their size: Verify what was chosen before it is loaded.
//
// On a CPU prefer q8_0: it is faster and needs half the memory, at a third of a point of word error rate at most.
func (s *Store) Resolve(name string, prefer []Type) (e Entry, reason string, err error) {
	asked, err := s.Entry(name)
	if err != nil {
		return Entry{}, "", err
	}
	if asked.Type != F16 {
		return asked, asked.Name + " was asked for by its type", s.missing(asked)
	}
	var choices []Entry
	for _, t := range prefer {
		if e, err := s.Entry(joinName(asked.Model, t)); err == nil {
			choices = append(choices, e)
		}
	}
	for _, e := range choices {
		if s.present(e) {
			return e, fmt.Sprintf("%s is here, and %s is preferred", e.Name, e.Type), nil
		}
	}
	if s.present(asked) {
		return asked, asked.Name + " is here, and no preferred type of it", nil
	}
	choices = append(choices, asked)
	for _, e := range choices {
		if s.missing(e) == nil {
			return e, e.Name + " is here, but not whole", nil
		}
	}
	return Entry{}, "", s.missing(choices[0])
}

// missing is the error for a model without a file; a file that is broken is for Verify to name.
func (s *Store) missing(e Entry) error {
	if _, err := os.Stat(s.path(e)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !e.Published() {
		return job.Errorf(job.Internal, "MODEL_MISSING", "the file of model %s is gone from %s: convert it again.", e.Name, s.cfg.Dir)
	}
	return job.Errorf(job.Internal, "MODEL_MISSING",
		"the model %s is not in %s: run `steno models pull %s`.", e.Name, s.cfg.Dir, e.Name)
}

// Remove deletes a model's file and what an unfinished pull of it has left. That nothing was there is no error.
func (s *Store) Remove(name string) error {
	e, err := s.Entry(name)
	if err != nil {
		return err
	}
	for _, path := range []string{s.path(e), s.path(e) + partSuffix, s.path(e) + manifestSuffix} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove model %s: %w", e.Name, err)
		}
	}
	return nil
}

// room checks that need bytes can be written, and some more so that the machine keeps running.
func (s *Store) room(need int64) error {
	const spare = 64 << 20
	free, err := s.free(s.cfg.Dir)
	if err != nil {
		return fmt.Errorf("read the free space of %s: %w", s.cfg.Dir, err)
	}
	if free < need+spare {
		return job.Errorf(job.Resource, "DISK_FULL", "%s has %d MiB free, and %d MiB are needed: make room or choose another folder.",
			s.cfg.Dir, free>>20, (need+spare)>>20)
	}
	return nil
}

func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// replace puts a finished file at its name, so that it is there in full or not at all, even after a power loss.
func replace(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// openLocked opens the work file at path for one writer at a time, over all processes; it waits until ctx ends. Closing the file
// gives the lock back; a process that dies gives it back too.
func openLocked(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && same(f, path) {
			return f, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// same tells whether path still means the open file: the writer before may have moved it to its place.
func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// writeError names a full disk.
func writeError(dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &job.Error{Class: job.Resource, Code: "DISK_FULL", Err: err, Message: fmt.Sprintf(
			"%s is full: make room or choose another folder.", dir)}
	}
	return err
}
