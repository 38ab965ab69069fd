package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"steno/api"
	"steno/audio"
	"steno/job"
	"steno/models/files"
	"steno/queue"
)

// objects is a queue's object store as package api wants it.
type objects struct{ q *queue.Queue }

var _ api.Objects = objects{}

func (o objects) Put(ctx context.Context, r io.Reader) (job.Source, error) {
	return o.q.PutAudio(ctx, r)
}
func (o objects) Keep(ctx context.Context, object string) error { return o.q.KeepAudio(ctx, object) }
func (o objects) Open(ctx context.Context, object string) (io.ReadSeekCloser, error) {
	return o.q.OpenAudio(ctx, object)
}

// live is a queue's news as package api wants them.
type live struct{ q *queue.Queue }

var _ api.Live = live{}

// Watch implements api.Live. The record counts claims as attempts, and so does what is told here.
func (l live) Watch(ctx context.Context, id job.ID) (<-chan api.News, error) {
	in, err := l.q.Watch(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make(chan api.News)
	go func() {
		defer close(out)
		for s := range in {
			select {
			case out <- api.News{State: s.State, Attempt: s.Claims, Progress: s.Progress, Segments: s.Segments}:
			case <-ctx.Done(): // and on, until in is closed
			}
		}
	}()
	return out, nil
}

// prober says what an upload is.
type prober struct {
	tools audio.Tools
	most  time.Duration
}

func (p prober) probe(ctx context.Context, path string) (api.Media, error) {
	info, err := audio.Probe(ctx, p.tools, path)
	if err != nil {
		return api.Media{}, err
	}
	if info.Exact && info.Duration > p.most.Seconds() { // a guess may be far too long: the worker measures those
		return api.Media{}, job.Errorf(job.Input, "DURATION_LIMIT",
			"the recording is %s long and at most %s are taken: cut it into parts",
			time.Duration(info.Duration*float64(time.Second)).Round(time.Second), p.most)
	}
	details, err := json.Marshal(info)
	if err != nil {
		return api.Media{}, fmt.Errorf("encode what the probe says: %w", err)
	}
	return api.Media{Duration: info.Duration, Details: details}, nil
}

// catalogue says which models there are.
type catalogue interface {
	// find returns a model by any of its names, and refuses one that no worker could load.
	find(model string) (files.Entry, error)
	names() []string
}

// registry is all models there are, for a gateway whose workers are elsewhere.
type registry struct{}

func (registry) find(model string) (files.Entry, error) { return files.Lookup(model) }

func (registry) names() []string { return namesOf(files.All()) }

// local is the models of this machine.
type local struct{ m *machine }

func (l local) find(model string) (files.Entry, error) {
	e, err := l.m.store.Entry(model)
	if err != nil {
		return e, err
	}
	if _, _, err := l.m.resolve(model); err != nil {
		// The error's own message names folders of this machine.
		return e, &job.Error{
			Class: job.Input, Code: job.AsError(err).Code, Err: err,
			Message: fmt.Sprintf("the model %s is not here: name one of GET /v1/models, or let `steno models pull %s` be run",
				model, model),
		}
	}
	return e, nil
}

func (l local) names() []string {
	all, err := l.m.store.List()
	if err != nil {
		return namesOf(nil)
	}
	var here []files.Entry
	for _, s := range all {
		if s.Present {
			here = append(here, s.Entry)
		}
	}
	return namesOf(here)
}

// namesOf are those by which clients know these files: of the weights, whatever their type, as well as of each file.
func namesOf(list []files.Entry) []string {
	names := []string{defaultAlias}
	for _, e := range list {
		if !e.Transcribes() {
			continue
		}
		for _, name := range append([]string{e.Model, "whisper-" + e.Model, e.Name}, shortNames[e.Model]...) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// shortNames are what people call some models besides.
var shortNames = map[string][]string{"large-v3": {"large", "whisper-large"}, "large-v3-turbo": {"turbo", "whisper-turbo"}}

// defaultAlias is what clients of OpenAI's API ask for where they know nothing of ours.
const defaultAlias = "whisper-1"

// resolver makes what a client asks for into what is recorded: two names of one model give one transcript.
type resolver struct {
	models   catalogue
	standard string // the model of a task that names none
}

func (r resolver) resolve(p job.Params) (job.Params, error) {
	if p.Model == defaultAlias {
		p.Model = ""
	}
	p.Model = cmp.Or(p.Model, r.standard)
	p = p.WithDefaults()
	if err := p.Validate(); err != nil {
		return p, err
	}
	e, err := r.models.find(p.Model)
	if err == nil && !e.Transcribes() {
		err = job.Errorf(job.Input, "BAD_PARAMETER", "%s finds %s and writes none: name a Whisper model", e.Name, e.Purpose)
	}
	if err != nil {
		// Whatever the registry calls it: it is the client that has named the model.
		known := job.AsError(err)
		return p, &job.Error{Class: job.Input, Code: known.Code, Message: known.Message, Err: err}
	}
	const f16 = "-" + string(files.F16) // asks for the full weights also where smaller ones are there, and is in no entry's name
	full := strings.HasSuffix(p.Model, f16)
	if p.Model = e.Name; full {
		p.Model += f16
	}
	return p, nil
}

// secretSize is the number of random bytes in a secret.
const secretSize = 32

// loadSecret reads a file with a random secret, and makes it where there is none, readable by its owner only.
func loadSecret(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeSecret(path); err != nil {
			return nil, fmt.Errorf("make the key for webhooks: %w", err)
		}
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key for webhooks: %w", err)
	}
	secret, err := hex.DecodeString(string(bytes.TrimSpace(data)))
	if err != nil || len(secret) < secretSize {
		return nil, fmt.Errorf("%s does not hold %d bytes as hex digits: remove it, and a new one is made", path, secretSize)
	}
	return secret, nil
}

// makeSecret writes beside and links into place, so that of two processes that start at once both read the same file, whole.
func makeSecret(path string) error {
	secret := make([]byte, secretSize)
	rand.Read(secret)                                         // never fails
	f, err := os.CreateTemp(filepath.Dir(path), ".webhook-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, hex.EncodeToString(secret))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
