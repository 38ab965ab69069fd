package files

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"steno/job"
)

// manifestSuffix ends the name of the small JSON file beside a model that was made here: its Entry.
const manifestSuffix = ".json"

// errName marks a name that no model can have.
var errName = errors.New("a model's name has small letters, digits, dots, hyphens and underscores only")

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,79}$`)

// readManifest reads what was recorded of the model with the canonical name. It wraps fs.ErrNotExist where there is no record.
func (s *Store) readManifest(name string) (Entry, error) {
	if !nameForm.MatchString(name) {
		return Entry{}, errName
	}
	raw, err := readBounded(filepath.Join(s.cfg.Dir, fileOf(name)+manifestSuffix), 1<<16)
	if err != nil {
		return Entry{}, fmt.Errorf("read the record of model %s: %w", name, err)
	}
	var e Entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return Entry{}, fmt.Errorf("read the record of model %s: %w", name, err)
	}
	if sum, err := hex.DecodeString(e.SHA256); err != nil || len(sum) != sha256.Size || e.Name != name || e.Size <= 0 {
		return Entry{}, fmt.Errorf("read the record of model %s: it is not what `steno models convert` writes: convert it again", name)
	}
	e.File, e.Repo, e.URL, e.Purpose = fileOf(name), "", "", ""
	e.Model, e.Type = splitName(name)
	return e, nil
}

// local lists the models that were made here. A record that cannot be read is left out: loading its model says why.
func (s *Store) local() ([]Entry, error) {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(s.cfg.Dir), fileOf("*")+manifestSuffix))
	if err != nil {
		return nil, fmt.Errorf("list the models in %s: %w", s.cfg.Dir, err)
	}
	var list []Entry
	for _, p := range paths {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(p), "ggml-"), ".bin"+manifestSuffix)
		if _, err := Lookup(name); err == nil {
			continue // the registry's word on its own names is the only one
		}
		if e, err := s.readManifest(name); err == nil {
			list = append(list, e)
		}
	}
	return list, nil
}

func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// Convert makes a model file of type t out of the CTranslate2 folder src, as the function Convert does, and puts it into the
// store under name, to which a type other than f16 is added: base becomes base-q8_0. What it made is recorded with its checksum,
// so that it can be verified before each load. Under a name of the registry only the published content is kept.
func (s *Store) Convert(ctx context.Context, src, name string, t Type, progress Progress) (Entry, error) {
	model, _ := splitName(canonical(name))
	e := Entry{Name: joinName(model, t), Model: model, Type: t}
	if !nameForm.MatchString(e.Name) {
		return Entry{}, job.Errorf(job.Input, "MODEL_NAME", "%q cannot be a model's name: %w.", name, errName)
	}
	e.File = fileOf(e.Name)
	if err := os.MkdirAll(s.cfg.Dir, 0o755); err != nil {
		return Entry{}, fmt.Errorf("convert to %s: %w", e.Name, err)
	}
	if err := s.room(sizeOf(filepath.Join(src, "model.bin"))); err != nil {
		return Entry{}, err
	}
	f, err := openLocked(ctx, s.path(e)+".new")
	if err != nil {
		return Entry{}, fmt.Errorf("convert to %s: %w", e.Name, err)
	}
	defer f.Close()
	e, err = s.convertInto(ctx, f, src, e, progress)
	if err != nil {
		return Entry{}, errors.Join(err, os.Remove(f.Name()))
	}
	return e, nil
}

func (s *Store) convertInto(ctx context.Context, f *os.File, src string, e Entry, progress Progress) (Entry, error) {
	if err := f.Truncate(0); err != nil {
		return e, fmt.Errorf("convert to %s: %w", e.Name, err)
	}
	h := sha256.New()
	w := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<20)
	if err := Convert(ctx, w, src, e.Type, progress); err != nil {
		return e, writeError(s.cfg.Dir, err)
	}
	if err := w.Flush(); err != nil {
		return e, fmt.Errorf("write model %s: %w", e.Name, writeError(s.cfg.Dir, err))
	}
	st, err := f.Stat()
	if err != nil {
		return e, fmt.Errorf("write model %s: %w", e.Name, err)
	}
	e.Size, e.SHA256 = st.Size(), hex.EncodeToString(h.Sum(nil))
	if p, err := Lookup(e.Name); err == nil {
		if p.SHA256 != e.SHA256 {
			return e, job.Errorf(job.Input, "MODEL_NAME",
				"what was made of %s is not the published %s: give it a name of its own.", src, e.Name)
		}
		e = p
	} else if e, err = s.record(ctx, e, src); err != nil {
		return e, fmt.Errorf("record model %s: %w", e.Name, err)
	}
	if err := replace(f, s.path(e)); err != nil {
		return e, fmt.Errorf("write model %s: %w", e.Name, err)
	}
	return e, nil
}

// record writes the manifest of a model before its file gets its name: a record without a file says what to do, a file without
// a record could not be checked.
func (s *Store) record(ctx context.Context, e Entry, src string) (Entry, error) {
	in, err := os.Open(filepath.Join(src, "model.bin"))
	if err != nil {
		return e, err
	}
	defer in.Close()
	sum, err := hash(ctx, in)
	if err != nil {
		return e, err
	}
	e.Source = "converted from a CTranslate2 model.bin with SHA-256 " + sum
	raw, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return e, err
	}
	f, err := os.CreateTemp(s.cfg.Dir, ".record-*")
	if err != nil {
		return e, err
	}
	defer f.Close()
	if _, err := f.Write(append(raw, '\n')); err != nil {
		return e, errors.Join(err, os.Remove(f.Name()))
	}
	return e, replace(f, s.path(e)+manifestSuffix)
}
