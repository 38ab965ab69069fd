// Package job names what travels between the queue, the pipeline and the outside: a job, its parameters, its states, its
// progress and the kinds of failure. It is a leaf: it imports nothing of ours.
//
// All types are plain values; none is safe for concurrent mutation.
package job

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// ID identifies a job: a ULID in its 26-character text form, so that ids sort by creation time.
type ID string

// NewID makes an id that sorts after every id made before it in this process.
func NewID() ID {
	return ID(ulid.MustNew(ulid.Timestamp(time.Now()), entropy).String())
}

// entropy is safe for concurrent use (ulid.LockedMonotonicReader).
var entropy = &ulid.LockedMonotonicReader{MonotonicReader: ulid.Monotonic(rand.Reader, 0)}

// ParseID checks that s is a ULID.
func ParseID(s string) (ID, error) {
	if _, err := ulid.ParseStrict(s); err != nil {
		return "", fmt.Errorf("job id %q is not a ULID: %w", s, err)
	}
	return ID(strings.ToUpper(s)), nil
}

// Task says what the model writes: the language that is spoken, or English.
type Task string

// The tasks Whisper knows.
const (
	Transcribe Task = "transcribe"
	Translate  Task = "translate"
)

// MaxSpeakers is the largest number of speakers that may be given.
const MaxSpeakers = 20

// Params are the user's wishes for one job. The zero value of a field means its default.
type Params struct {
	// Model is a name or alias of the model registry. Default "base".
	Model string `json:"model"`
	// Language is an ISO 639-1 code, or "auto" (default) to detect it.
	Language string `json:"language"`
	// Task is Transcribe by default.
	Task Task `json:"task"`
	// Words asks for word timestamps.
	Words bool `json:"words,omitempty"`
	// Diarize asks for speakers.
	Diarize bool `json:"diarize,omitempty"`
	// Speakers is how many there are, up to MaxSpeakers; 0 is for steno to find. It asks for Diarize.
	Speakers int `json:"speakers,omitempty"`
	// Prompt is text that precedes the speech, to spell names: at most 224 tokens are used.
	Prompt string `json:"prompt,omitempty"`
	// AllowTruncated transcribes what decodes of a file that ends before its header says.
	AllowTruncated bool `json:"allow_truncated,omitempty"`
	// ChunkSeconds, Loudness and Silence override the plan's choice where not zero.
	ChunkSeconds float64 `json:"chunk_seconds,omitempty"`
	Loudness     string  `json:"loudness,omitempty"` // "linear", "classic" (loudnorm filter) or "off"
	Silence      string  `json:"silence,omitempty"`  // "remove" or "keep"
}

// WithDefaults returns p with every empty field set to its documented default.
func (p Params) WithDefaults() Params {
	if p.Model == "" {
		p.Model = "base"
	}
	if p.Language == "" {
		p.Language = "auto"
	}
	if p.Task == "" {
		p.Task = Transcribe
	}
	p.Diarize = p.Diarize || p.Speakers > 0
	return p
}

// Source names the audio by content, or by a local path where a worker is allowed to read one.
type Source struct {
	// Object is the name in the object store; it equals SHA256.
	Object string `json:"object,omitempty"`
	// Path is an absolute local path; only workers with a configured root above it take such a job.
	Path string `json:"path,omitempty"`
	// SHA256 is the hex digest of the bytes; Size their number.
	SHA256 string `json:"sha256,omitempty"`
	Size   int64  `json:"size,omitempty"`
}

// BulkFrom is how many jobs of a user may be open until the next ones are Bulk.
const BulkFrom = 16

// Job is one request for one transcript.
type Job struct {
	ID       ID     `json:"id"`
	User     string `json:"user,omitempty"`
	FileName string `json:"file_name"`
	Source   Source `json:"source"`
	Params   Params `json:"params"`
	Priority int    `json:"priority,omitempty"` // 0 normal, higher is sooner
	// Bulk says that the job is one of many of its user. Among those of a priority it mostly waits for those that are not.
	Bulk    bool   `json:"bulk,omitempty"`
	Webhook string `json:"webhook,omitempty"`
	// External says that a record outside the queue follows this job: what the queue holds of it stays until that record has it.
	External bool      `json:"external,omitempty"`
	Created  time.Time `json:"created"`
}

// State is where a job stands. The last three are terminal and never change again.
type State string

// The states of a job: queued → running → done | failed | cancelled.
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Terminal reports whether s is an end.
func (s State) Terminal() bool { return s == Done || s == Failed || s == Cancelled }

// Stage is a step of the main line; its order is fixed (see pipeline.Runner).
type Stage string

// The stages in their order. StageLoad overlaps the stages before it, StageDiarize StageTranscribe.
const (
	StageQueue      Stage = "queue"
	StageProbe      Stage = "probe"
	StagePlan       Stage = "plan"
	StagePrepare    Stage = "prepare"
	StageSplit      Stage = "split"
	StageLoad       Stage = "load"
	StageTranscribe Stage = "transcribe"
	StageDiarize    Stage = "diarize"
	StageMerge      Stage = "merge"
	StageStore      Stage = "store"
)

// Progress tells how far a job is.
type Progress struct {
	Stage Stage `json:"stage"`
	// Done and Total are seconds of the source's audio; Total is 0 while it is unknown.
	Done  float64 `json:"done_seconds"`
	Total float64 `json:"total_seconds"`
}

// Fraction is Done/Total in 0..1, or 0 while Total is unknown.
func (p Progress) Fraction() float64 {
	if p.Total <= 0 {
		return 0
	}
	return min(1, p.Done/p.Total)
}
