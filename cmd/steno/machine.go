package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"steno/api"
	"steno/audio"
	"steno/gpu"
	"steno/job"
	"steno/models"
	"steno/models/engine"
	"steno/models/files"
	"steno/pipeline"
)

// machine is the part of the program that transcribes: tools, models, pool and the line.
type machine struct {
	runner *pipeline.Runner
	pool   *models.Pool
	store  *files.Store
	tools  audio.Tools
	cards  *gpu.Monitor // nil where there can be none, or nobody asks
	stop   func()       // ends the watch over them
}

// store opens the folder of model files.
func (a *app) store() *files.Store {
	return files.NewStore(files.Config{Dir: a.cfg.Models, Mirrors: a.cfg.Mirrors})
}

// machine wires what transcribes. scratch is the folder for audio in work, the system's if it is empty. A daemon asks after GPUs
// also where it cannot use them, to tell of them. The caller must close it.
func (a *app) machine(scratch string, daemon bool) (*machine, error) {
	tools, err := a.tools()
	if err != nil {
		return nil, err
	}
	tools.Scratch = scratch
	m := &machine{store: a.store(), tools: tools}
	if daemon || a.gpusWork() {
		m.cards = a.monitor()
	}
	states, cores := a.states(), gpu.Host{}.Cores()
	devices := gpu.Machine{Monitor: m.cards}
	limits := models.PoolConfig{
		MaxModels: a.cfg.PoolModels, MaxBytes: int64(a.cfg.PoolBytes), IdleTimeout: a.cfg.PoolIdle,
		Slots: states, SlotsPerCore: max(1, states/cores), Log: a.log, Inventory: devices,
		Device: a.device(), ModelDevice: map[string]string{},
	}
	for _, choice := range a.cfg.ModelDevices {
		model, device, _ := strings.Cut(choice, "=")
		name, _, err := m.resolve(model)
		if err != nil {
			a.log.Warn("a model is not here for which a device is chosen", "model", model, "error", err)
		}
		limits.ModelDevice[cmp.Or(name, model)] = device
	}
	atOnce := states // decodes
	if limits.Device == models.Auto {
		n := max(1, len(devices.Devices())-1)
		limits.MaxModels *= n
		atOnce = max(states, n*models.DeviceSlots)
	}
	load := &engine.Loader{
		Files:  modelFiles{m.store},
		States: func(device string) int { return statesOn(device, states) },
		Cores:  min(cores, states), Kernels: a.cfg.Kernels, Backend: a.cudaLibrary(), UUID: uuids(devices),
		Config: engine.Config{Version: version, Env: engineEnv(a.env), Log: a.log, Sandbox: a.sandbox},
	}
	if err := a.script(&load.Config, &limits); err != nil {
		return nil, err
	}
	if a.cfg.States == 0 {
		if load.Bytes, err = limits.Budget(); err != nil {
			return nil, err
		}
	}
	var loader models.Loader = load
	if a.cfg.InProcess {
		load.UUID = nil // all GPUs are this process's
		loader = inProcess{load}
	}
	m.pool, err = models.NewPool(limits, loader, models.NewMetrics(a.reg))
	if err != nil {
		return nil, err
	}
	inFlight := a.cfg.ChunksInFlight
	if inFlight == 0 {
		inFlight = atOnce + 1 // one is read while the others are decoded
	}
	m.runner = pipeline.New(pipeline.Config{
		Tools: tools, Pool: m.pool, Resolve: m.resolve, ChunksInFlight: inFlight, Threads: a.threads(), MaxDuration: a.cfg.MaxDuration,
		Voices: a.voiceFinder(m.store, cores), Metrics: pipeline.NewMetrics(a.reg), Log: a.log,
	})
	m.stop = a.watchCards(m.cards)
	return m, nil
}

// engineEnv bounds how long the threads of one decode spin at their barriers before they sleep: 300 rounds, 15 µs, about what it
// takes to sleep and wake up. By default OpenMP spins for ever while there are as many cores as threads, and on a machine whose
// cores are shared the thread that all wait for gets no core. 11 s of speech on 2 threads beside 2 busy loops took 1.3 to 1.9 s
// with 300 rounds, 1.5 to 5.1 s with 20,000 and 20 s with 200,000; alone 0.8 s with each.
func engineEnv(env []string) []string {
	for _, kv := range env {
		if strings.HasPrefix(kv, "GOMP_SPINCOUNT=") || strings.HasPrefix(kv, "OMP_WAIT_POLICY=") {
			return env // somebody has measured
		}
	}
	return append(slices.Clone(env), "GOMP_SPINCOUNT=300")
}

func (m *machine) close(ctx context.Context) error {
	m.stop()
	return m.pool.Close(ctx)
}

// ready says whether a job could get its model: the pool answers, nothing in it is stuck, and neither the standard model nor all
// that are here rest. One that died too often rests for a minute: where another is the default, most jobs do not need it.
func (m *machine) ready(ctx context.Context, standard string) error {
	if err := m.pool.Health(ctx); err != nil {
		return api.Shown{Err: err}
	}
	resting := m.pool.Quarantined()
	if len(resting) == 0 {
		return nil
	}
	name, _, err := m.resolve(standard)
	if until, rests := resting[name]; err == nil && rests {
		return api.Shown{Err: job.Errorf(job.Resource, "MODEL_QUARANTINED",
			"the default model %s rests until %s, for its engine died too often: see the log for why", name, until.Format(time.TimeOnly))}
	}
	all, err := m.store.List()
	if err != nil {
		return err
	}
	for _, s := range all {
		if _, rests := resting[s.Name]; s.Present && s.Transcribes() && !rests {
			return nil
		}
	}
	return api.Shown{Err: job.Errorf(job.Resource, "MODEL_QUARANTINED",
		"each model that is here rests, for its engine died too often: see the log for why")}
}

// resolve prefers the eight-bit file of a model where there is one: on a CPU it is faster at a third of a point of WER. A name
// that ends in -f16 asks for the full one.
func (m *machine) resolve(model string) (name, reason string, err error) {
	prefer := []files.Type{files.Q8}
	if strings.HasSuffix(model, "-"+string(files.F16)) {
		prefer = nil
	}
	e, reason, err := m.store.Resolve(model, prefer)
	return e.Name, reason, err
}

func (a *app) tools() (audio.Tools, error) {
	t := audio.Tools{FFmpeg: a.cfg.FFmpeg, FFprobe: a.cfg.FFprobe}
	if !filepath.IsAbs(t.FFmpeg) || !filepath.IsAbs(t.FFprobe) {
		found, err := audio.FindTools()
		if err != nil {
			return audio.Tools{}, err
		}
		t = found
	}
	t.Sandbox = a.sandbox
	// A job whose audio could not be kept holds the decoder that feeds its chunks until its end, mostly waiting for the engine.
	// Besides, as many may run as
	// there are cores, for probes and measuring passes: more of those only take turns. Without places for the former, two long jobs
	// on two cores kept a short one at its probe until they had ended.
	t.Limit = semaphore.NewWeighted(int64(a.cfg.Jobs + max(2, runtime.GOMAXPROCS(0))))
	return t, nil
}

// windowsPerCore is how many windows a core decodes side by side, where that is faster. More take more memory (85 MB each with
// base) and gain little: docs/adr/0010-teams.md.
const windowsPerCore = 4

// states is the number of decodes at the same time.
func (a *app) states() int {
	switch cores := (gpu.Host{}).Cores(); {
	case a.cfg.States > 0:
		return a.cfg.States
	case a.cfg.Kernels != "ggml" && gathers():
		return windowsPerCore * cores
	default:
		return cores
	}
}

// statesOn is one state more than the pool has slots for, for the job that holds none.
func statesOn(device string, cpu int) int {
	if device == gpu.CPUID {
		return cpu + 1
	}
	return models.DeviceSlots + 1
}

func (a *app) threads() int {
	if a.cfg.Threads > 0 {
		return a.cfg.Threads
	}
	return min(4, gpu.Host{}.Cores())
}

// modelFiles shows the store to the engine loader.
type modelFiles struct{ store *files.Store }

func (f modelFiles) Model(name string) (engine.File, error) {
	e, _, err := f.store.Resolve(name, nil)
	if err != nil {
		return engine.File{}, err
	}
	return f.file(e)
}

func (f modelFiles) VAD() (engine.File, error) {
	e, _, err := f.store.Resolve(files.VADName, nil)
	if err != nil {
		return engine.File{}, err
	}
	return f.file(e)
}

func (f modelFiles) file(e files.Entry) (engine.File, error) {
	path, err := f.store.Path(e.Name)
	return engine.File{Path: path, SHA256: e.SHA256, Size: e.Size}, err
}

// inProcess loads models into this process, for tests and for those who want it.
type inProcess struct{ l *engine.Loader }

func (p inProcess) Estimate(s models.Spec) (int64, error) { return p.l.Estimate(s) }

func (p inProcess) Load(ctx context.Context, s models.Spec) (models.Engine, error) {
	f, err := p.l.Files.Model(s.Model)
	if err != nil {
		return nil, err
	}
	vad, err := p.l.Files.VAD()
	if err != nil {
		return nil, err
	}
	b, err := loadBackend(ctx, engine.LoadRequest{
		Model: s.Model, Path: f.Path, SHA256: f.SHA256, VADPath: vad.Path, VADSHA256: vad.SHA256,
		Device: s.Device, States: p.l.States(s.Device), Cores: p.l.Cores, Words: s.Words, Kernels: p.l.Kernels,
	})
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", s.Model, err)
	}
	return engine.InProcess(b), nil
}

// sorted copies and sorts.
func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }
