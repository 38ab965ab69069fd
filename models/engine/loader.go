package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"steno/gpu"
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
	// Cores is the number of cores that decode on the CPU.
	Cores int
	// Bytes is the RAM that models may take. Where half of it does not hold all states of a model on the CPU, fewer are made, but
	// at least one more than cores. 0 means that memory does not matter.
	Bytes int64
	// Kernels bounds what matrix products run on; see LoadRequest.
	Kernels string
	// Backend is the library that computes on GPUs; see LoadRequest.
	Backend string
	// UUID names a GPU to CUDA, so that the engine sees no other. Where it is nil or returns nothing, the number in the device's
	// name is CUDA's.
	UUID func(device string) string
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
		Device: s.Device, Cores: l.Cores, Words: s.Words, Kernels: l.Kernels,
	}
	if s.Device != gpu.CPUID {
		l.pin(&cfg)
	}
	if cfg.Load.States, cfg.Bytes, err = l.size(s, model); err != nil {
		return nil, userError(s, err)
	}
	e, err := StartRenewing(ctx, cfg)
	if err != nil {
		return nil, userError(s, err)
	}
	return e, nil
}

// pin shows the engine the one GPU that it is for.
func (l *Loader) pin(cfg *Config) {
	cfg.Load.Backend = l.Backend
	uuid := ""
	if l.UUID != nil {
		uuid = l.UUID(cfg.Load.Device)
	}
	if uuid == "" {
		_, number, _ := strings.Cut(cfg.Load.Device, ":")
		cfg.Load.Card, _ = strconv.Atoi(number) // one that is none is refused by the library: there is no such card
		return
	}
	env := slices.DeleteFunc(slices.Clone(cfg.Env), func(kv string) bool { return strings.HasPrefix(kv, "CUDA_VISIBLE_DEVICES=") })
	cfg.Env = append(env, "CUDA_VISIBLE_DEVICES="+uuid)
}

// Estimate predicts what a model takes on its device: the file, which is the weights, the states as stateBytes says, and the
// process's own share on a GPU.
func (l *Loader) Estimate(s models.Spec) (int64, error) {
	f, err := l.Files.Model(s.Model)
	if err != nil {
		return 0, err
	}
	_, n, err := l.size(s, f)
	if err != nil {
		return 0, userError(s, err)
	}
	return n, nil
}

// size chooses the number of states and predicts what the engine takes with them.
func (l *Loader) size(s models.Spec, f File) (states int, bytes int64, err error) {
	sh, err := readShape(f.Path)
	if err != nil {
		return 0, 0, err
	}
	states = l.States(s.Device)
	if s.Device != gpu.CPUID {
		return states, contextBytes + f.Size + int64(states)*sh.stateBytes(), nil
	}
	if l.Bytes > 0 {
		room := (l.Bytes/2 - f.Size) / sh.stateBytes()
		states = min(states, max(int(room), l.Cores+1))
	}
	return states, f.Size + int64(states)*sh.stateBytes(), nil
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
