package engine

import (
	"context"
	"errors"
	"fmt"

	"steno/job"
	"steno/models"
)

// File is a model file with its pinned checksum.
type File struct {
	Path   string
	SHA256 string // hex
	Size   int64  // bytes
}

// Files finds model files; models/files has them. An error should be a *job.Error that says how to get the file.
type Files interface {
	// Model finds the file of a model of the registry.
	Model(name string) (File, error)
	// VAD finds the voice activity model.
	VAD() (File, error)
}

// Loader starts engine processes for a models.Pool; it implements models.Loader. It is safe for concurrent use.
type Loader struct {
	Files Files
	// States is the number of decode states for a device: what its gate lets through, extra slots included.
	States func(device string) int
	// Kernels bounds what matrix products run on; see LoadRequest.
	Kernels string
	// Config is the template of all engines; Load and Bytes are filled in.
	Config Config
}

// Load starts an engine that renews itself when it is worn. The child verifies the file and loads the bytes it verified.
func (l *Loader) Load(ctx context.Context, s models.Spec) (models.Engine, error) {
	model, err := l.Files.Model(s.Model)
	if err != nil {
		return nil, err
	}
	vad, err := l.Files.VAD()
	if err != nil {
		return nil, err
	}
	cfg := l.Config
	cfg.Load = LoadRequest{
		Model: s.Model, Path: model.Path, SHA256: model.SHA256, VADPath: vad.Path, VADSHA256: vad.SHA256,
		Device: s.Device, States: l.States(s.Device), Words: s.Words, Kernels: l.Kernels,
	}
	if cfg.Bytes, err = l.estimate(s, model); err != nil {
		return nil, userError(s, err)
	}
	e, err := StartRenewing(ctx, cfg)
	if err != nil {
		return nil, userError(s, err)
	}
	return e, nil
}

// Estimate predicts what a model takes on its device: the file, which is the weights, the states as stateBytes says, and the
// process's own share on a GPU.
func (l *Loader) Estimate(s models.Spec) (int64, error) {
	f, err := l.Files.Model(s.Model)
	if err != nil {
		return 0, err
	}
	n, err := l.estimate(s, f)
	if err != nil {
		return 0, userError(s, err)
	}
	return n, nil
}

func (l *Loader) estimate(s models.Spec, f File) (int64, error) {
	sh, err := readShape(f.Path)
	if err != nil {
		return 0, err
	}
	n := f.Size + int64(l.States(s.Device))*sh.stateBytes()
	if s.Device != "cpu" {
		n += contextBytes
	}
	return n, nil
}

// userError says what to do about a file that does not load. Other errors are for those who know engines: the pool.
func userError(s models.Spec, err error) error {
	if !errors.Is(err, ErrBadFile) {
		return err
	}
	return &job.Error{
		Class: job.Transient, Code: "MODEL_FILE_BAD", Err: err,
		Message: fmt.Sprintf("the file of model %s is missing or damaged on this worker; run `steno models verify %s` there, and then "+
			"`steno models pull %s`", s.Model, s.Model, s.Model),
	}
}
