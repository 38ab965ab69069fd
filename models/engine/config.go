package engine

import (
	"log/slog"
	"os"
	"time"

	"steno/internal/proc"
	"steno/models"
)

// Config says how to start an engine.
type Config struct {
	Load LoadRequest
	// Bytes is what the engine is reckoned to take. Info().Bytes is this where the child counts less: it makes its states late.
	Bytes int64
	// Version of steno; both sides must have the same, or the binary was replaced under a running worker.
	Version string
	// Command is the child's command line. Default: this very binary with the argument "engine".
	Command []string
	// Env is the environment to choose from, as os.Environ gives it; only what its libraries need is passed on. Default: empty.
	Env    []string
	Limits Limits
	// Sandbox confines the child to the files that it loads. nil is one that does so where it can. Engines on a GPU are left out:
	// their drivers want devices, sockets and files that differ from one to the next.
	Sandbox *proc.Sandbox
	// Log gets what the child writes to stderr, line by line, at level Warn. Default: nothing is logged.
	Log      *slog.Logger
	Observer Observer
}

// Limits are the times and sizes after which an engine is ended. Zero means the default.
type Limits struct {
	Handshake time.Duration // from the start to the child's hello; default 10 s
	Load      time.Duration // from hello to loaded, checksum included; default 5 min
	Cancel    time.Duration // from a cancel to its answer; default 2 s
	Close     time.Duration // from shutdown to the exit; default 2 s
	Silence   time.Duration // without any frame from the child; default 10 s
	// Stall is how long a request may stay without progress, or four times what it should take if that is more; default 20 s.
	Stall time.Duration
	// Pace is what a second of audio is expected to take, in seconds, until requests have been measured; default 2.
	Pace float64
	// Chunks and Growth make an engine worn: after so many requests (default 500), or after so many bytes of resident memory
	// above the baseline (default 256 MiB). Both bound leaks of the library. Below 0 is never.
	Chunks int
	Growth int64
	// Memory ends an engine on the CPU whose resident bytes are more, also while it loads: a file that was made for it lets the
	// library take all of the machine's, and the kernel would end somebody. Default twice Config.Bytes and 1 GiB; none where that
	// is not known. Below 0 is none.
	Memory int64
}

// WithDefaults returns l with every zero field set to its documented default.
func (l Limits) WithDefaults() Limits {
	def(&l.Handshake, 10*time.Second)
	def(&l.Load, 5*time.Minute)
	def(&l.Cancel, 2*time.Second)
	def(&l.Close, 2*time.Second)
	def(&l.Silence, 10*time.Second)
	def(&l.Stall, 20*time.Second)
	def(&l.Pace, 2)
	def(&l.Chunks, 500)
	def(&l.Growth, 256<<20)
	return l
}

// mostMemory is what the child may take at most, in bytes, or 0 for no bound. On a GPU Bytes are the device's.
func (c Config) mostMemory() int64 {
	switch {
	case c.Load.Device != "cpu" && c.Load.Device != "", c.Limits.Memory == 0 && c.Bytes <= 0:
		return 0
	case c.Limits.Memory != 0:
		return max(0, c.Limits.Memory)
	}
	return 2*c.Bytes + 1<<30
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Observer is told what happens to engines, for metrics and logs. Any field may be nil. Functions are called from several
// goroutines and must not block.
type Observer struct {
	// Started: an engine was loaded, in the time given.
	Started func(models.Info, time.Duration)
	// Ended: an engine is gone and its memory is back. err is ErrClosed after Close, and else why it died.
	Ended func(i models.Info, err error)
	// Renewed: a worn engine was replaced.
	Renewed func(old, fresh models.Info)
	// Memory: the resident bytes of the process, about once a second.
	Memory func(i models.Info, rss int64)
}

func (o Observer) started(i models.Info, d time.Duration) {
	if o.Started != nil {
		o.Started(i, d)
	}
}

func (o Observer) ended(i models.Info, err error) {
	if o.Ended != nil {
		o.Ended(i, err)
	}
}

func (o Observer) renewed(old, fresh models.Info) {
	if o.Renewed != nil {
		o.Renewed(old, fresh)
	}
}

func (o Observer) memory(i models.Info, rss int64) {
	if o.Memory != nil {
		o.Memory(i, rss)
	}
}

// allowedEnv is what an engine may know of its parent's environment: where libraries are and which devices it may use. The
// model files it parses are foreign, so it gets none of the parent's secrets.
var allowedEnv = []string{
	"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_*", "LD_LIBRARY_PATH",
	"CUDA_*", "NVIDIA_*", "GGML_*", "OMP_*", "GOMP_*", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR", "GORACE", "GOMAXPROCS",
}

// defaultCommand is this very binary, even where an update has replaced the file since: the kernel resolves the link, not the
// path.
func defaultCommand() []string { return []string{"/proc/self/exe", "engine"} }

// childName is argv[0] for a child that is started through /proc/self/exe, so that process lists say what it is.
func childName(path string) string {
	if path == "/proc/self/exe" {
		if exe, err := os.Executable(); err == nil {
			return exe
		}
	}
	return path
}
