package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/spf13/cobra"

	"steno/api"
	"steno/audio"
	"steno/internal/disk"
	"steno/internal/telemetry"
	"steno/job"
	"steno/models"
	"steno/pipeline"
	"steno/queue"
	"steno/transcript"
)

func (a *app) upCmd() *cobra.Command {
	return &cobra.Command{
		Use: "up", Short: "Run everything in one process: queue, database, HTTP API, worker and metrics",
		Long: "Run everything in one process: an embedded NATS JetStream, a database, the HTTP API, a worker, and metrics on a\n" +
			"loopback port. Other commands of this user find it through the data folder. At its first start it makes an account,\n" +
			"named by STENO_USER and STENO_PASSWORD; without them it is admin, with a password that is printed once. SIGTERM and\n" +
			"Ctrl-C drain it; what is not finished in time goes on at the next start, and finished chunks are not computed again.",
		Example: "  steno up\n  steno up --data /srv/steno --listen 0.0.0.0:8080 --jobs 8", Args: args(cobra.NoArgs),
		Annotations: map[string]string{daemon: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			server, err := queue.Embedded(cmd.Context(), queue.EmbeddedConfig{Dir: a.cfg.Data, Listen: a.cfg.NATSListen, Log: a.log})
			if err != nil {
				return err
			}
			defer server.Shutdown()
			defer a.heal(cmd.Context(), server)()
			return a.work(cmd.Context(), queue.Config{Server: server}, true)
		},
	}
}

// heal looks after the embedded queue until the function that it returns is called.
func (a *app) heal(ctx context.Context, s *queue.Server) (stop func()) {
	restarts := promauto.With(a.reg).NewCounter(prometheus.CounterOpts{
		Name: "steno_queue_restarts_total", Help: "Restarts of the embedded queue because it did not write any more.",
	})
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { s.Heal(ctx, queue.HealConfig{Restarted: func(error) { restarts.Inc() }}) })
	return func() {
		cancel()
		done.Wait()
	}
}

func (a *app) workerCmd() *cobra.Command {
	return &cobra.Command{
		Use: "worker", Short: "Run a worker on an outside NATS",
		Example: "  steno worker --nats nats://queue.example:4222 --nats-creds worker.creds", Args: args(cobra.NoArgs),
		Annotations: map[string]string{daemon: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.cfg.NATS == "" {
				return usagef("a worker needs a NATS server: name it with --nats URL, or use `steno up` for everything in one process")
			}
			return a.work(cmd.Context(), a.outside(), false)
		},
	}
}

// outside is the queue on an outside NATS, for daemons.
func (a *app) outside() queue.Config {
	return queue.Config{URL: a.cfg.NATS, CredsFile: a.cfg.NATSCreds, Replicas: a.cfg.NATSReplicas, Retry: true}
}

// drainFor is how long jobs may finish after a signal; service managers allow more by default.
const drainFor = 30 * time.Second

// work runs a worker on a queue until ctx ends, and a gateway beside it if there is to be one, and drains both.
func (a *app) work(ctx context.Context, qc queue.Config, withGateway bool) (err error) {
	scratch, err := a.scratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	m, err := a.machine(scratch, true)
	if err != nil {
		return err
	}
	calm := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, m.close(calm)) }()
	defer a.warnOfOldTools(ctx, m.tools)()
	qc.Log, qc.Metrics = a.log, a.reg
	q, err := queue.Connect(ctx, qc)
	if err != nil {
		return err
	}
	defer q.Close()
	checks := map[string]api.Check{
		"queue":  q.Ping,
		"models": func(ctx context.Context) error { return m.ready(ctx, a.cfg.Model) },
	}
	var g *gateway
	if withGateway {
		var tools audio.Tools // with a limit of their own: uploads must not wait for jobs
		if tools, err = a.tools(); err != nil {
			return err
		}
		parts := gatewayParts{
			queue: q, tools: tools, scratch: scratch, models: local{m}, checks: checks, quarantined: m.pool.Quarantined,
		}
		if g, err = a.gateway(ctx, parts); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, g.close()) }()
		if err := g.firstAccount(ctx); err != nil {
			return err
		}
	}
	stop, err := a.admin(ctx, checks, m.pool.Quarantined)
	if err != nil {
		return err
	}
	defer stop()
	m.warm(ctx, a)
	a.log.Info("ready for jobs", "jobs", a.cfg.Jobs, "states", a.states(), "data", a.cfg.Data)
	// What was accepted is worked off for longer than new work is taken: jobs keep audio on the disk only where there is room.
	enough := a.room(0.25)
	manager := m.manage(a.log)
	defer manager.close()
	h := &handler{m: m, scratch: scratch, roots: a.cfg.Roots}
	work := func(ctx context.Context) error {
		return q.Work(ctx, queue.WorkerConfig{
			Slots: a.cfg.Jobs, DrainTimeout: drainFor, Ready: func(context.Context) error { return enough() },
			Describe: func() any { return manager.tell(m.cards) },
			Manage:   manager.order,
			Helper:   helper(m),
			Warm:     func(model string) bool { return m.warmed(cmp.Or(model, a.cfg.Model)) },
		}, h.run)
	}
	if g != nil {
		err = g.run(ctx, work)
	} else {
		err = work(ctx)
	}
	a.log.Info("stopped")
	return err
}

// warnOfOldTools looks at the versions of ffmpeg and ffprobe beside the start, until the function that it returns is called.
func (a *app) warnOfOldTools(ctx context.Context, t audio.Tools) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		if _, err := versions(ctx, t); err != nil && ctx.Err() == nil {
			a.log.Warn("audio may not be decoded", "error", err)
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// room tells whether the share of the reserve is left on the data folder's disk.
func (a *app) room(share float64) func() error {
	return func() error { return a.guard().Check(share) }
}

func (a *app) guard() disk.Guard {
	return disk.Guard{Path: a.cfg.Data, Reserve: int64(a.cfg.DiskReserve)}
}

// showDisk shows the data folder's disk in the metrics; what cannot be asked is 0.
func (a *app) showDisk() {
	gauge := func(name, help string, value func(disk.Room, int64) int64) {
		promauto.With(a.reg).NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			room, reserve, _ := a.guard().Room()
			return float64(value(room, reserve))
		})
	}
	gauge("steno_disk_free_bytes", "Room on the disk of the data folder.", func(r disk.Room, _ int64) int64 { return r.Free })
	gauge("steno_disk_total_bytes", "Size of that disk.", func(r disk.Room, _ int64) int64 { return r.Total })
	gauge("steno_disk_reserve_bytes", "What must be left of it for new work to be taken.",
		func(_ disk.Room, reserve int64) int64 { return reserve })
}

// warm loads the default model in the background, so that the first job finds it and a broken one shows at start.
func (m *machine) warm(ctx context.Context, a *app) {
	name, _, err := m.resolve(a.cfg.Model)
	if err != nil {
		a.log.Warn("the default model is not here", "error", err)
		return
	}
	go func() {
		if err := m.pool.Preload(ctx, models.Spec{Model: name}); err != nil && ctx.Err() == nil {
			a.log.Error("load the default model", "error", err)
		}
	}()
}

// admin serves metrics and health where the settings say so.
func (a *app) admin(
	ctx context.Context, checks map[string]telemetry.Check, quarantined func() map[string]time.Time,
) (stop func(), err error) {
	if a.cfg.Admin == "" {
		return func() {}, nil
	}
	a.showDisk()
	s, err := telemetry.Serve(ctx, telemetry.AdminConfig{
		Addr: a.cfg.Admin, Registry: a.reg, PProf: a.cfg.PProf, Log: a.log, Ready: checks, Sandbox: a.sandbox.Layers,
		Quarantined: quarantined,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: choose another address with --admin, or off", err)
	}
	a.log.Info("metrics", "url", "http://"+s.Addr()+"/metrics")
	return func() { _ = s.Close() }, nil // requests that were cut short are nobody's loss at the end
}

// scratch makes this process's folder for audio in work, and removes those of processes that are gone.
func (a *app) scratch() (string, error) {
	root := filepath.Join(a.cfg.Data, "scratch")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", fmt.Errorf("make the scratch folder: %w", err)
	}
	left, err := os.ReadDir(root)
	if err != nil {
		return "", fmt.Errorf("read the scratch folder: %w", err)
	}
	for _, e := range left {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && syscall.Kill(pid, 0) == nil {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
			return "", fmt.Errorf("clear the scratch folder: %w", err)
		}
	}
	own := filepath.Join(root, strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(own, 0o700); err != nil {
		return "", fmt.Errorf("make the scratch folder: %w", err)
	}
	return own, nil
}

// handler turns deliveries into runs of the line. Safe for concurrent use.
type handler struct {
	m       *machine
	scratch string
	roots   []string
}

func (h *handler) run(ctx context.Context, d *queue.Delivery) (t transcript.Transcript, err error) {
	// One folder per attempt, with nothing in it but the audio: whatever a decoder could be made to read next to it is not there.
	dir := filepath.Join(h.scratch, fmt.Sprintf("%s.%d", d.Job.ID, d.Attempt))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return transcript.Transcript{}, job.Errorf(job.Resource, "SCRATCH", "make the job's scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path, err := h.audio(ctx, d, dir)
	if err != nil {
		return transcript.Transcript{}, err
	}
	return h.m.runner.Run(ctx, pipeline.Input{
		Job: d.Job, Path: path, QueueWait: d.Waited, Chunks: d.Chunks(), OnProgress: d.Progress, OnSegments: d.Segments,
		Elsewhere: func(ctx context.Context, weights string) pipeline.Elsewhere { return spread(ctx, d, weights) },
	})
}

// audio finds the job's recording: fetched from the object store, or a local file under a configured root.
func (h *handler) audio(ctx context.Context, d *queue.Delivery, dir string) (string, error) {
	if d.Job.Source.Path == "" {
		path := filepath.Join(dir, "audio"+extension(d.Job.FileName))
		return path, d.FetchTo(ctx, path)
	}
	path, err := filepath.EvalSymlinks(d.Job.Source.Path)
	if err != nil {
		return "", job.Errorf(job.Input, "FILE_NOT_FOUND", "there is no file %s on this worker: check the path",
			filepath.Base(d.Job.Source.Path))
	}
	for _, root := range h.roots {
		if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
			return path, nil
		}
	}
	return "", job.Errorf(job.Input, "PATH_NOT_ALLOWED",
		"this worker reads no files there: submit the file itself, or add its folder to roots")
}

// extension is a file name's ending if it is a plain one: raw formats are known by nothing else.
func extension(name string) string {
	ext := strings.ToLower(filepath.Ext(name))
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	if len(ext) < 2 || len(ext) > 6 || strings.ContainsFunc(ext[1:], odd) {
		return ""
	}
	return ext
}
