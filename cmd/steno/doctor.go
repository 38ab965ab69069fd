package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"steno/audio"
	"steno/gpu"
	"steno/internal/disk"
	"steno/job"
	"steno/models/files"
	"steno/store"
)

// finding is the result of one check.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Text  string `json:"text"` // what was found, or what to do
}

func (a *app) doctorCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check ffmpeg, models, engine, devices, disk, queue, database and gateway, and say what to do about each",
		Example: "  steno doctor", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := a.examine(cmd.Context())
			bad := false
			for _, f := range found {
				bad = bad || !f.OK
				if !asJSON {
					mark := "ok  "
					if !f.OK {
						mark = "FAIL"
					}
					fmt.Fprintf(a.std.out, "%s  %-8s %s\n", mark, f.Check, f.Text)
				}
			}
			if asJSON {
				if err := json.NewEncoder(a.std.out).Encode(found); err != nil {
					return err
				}
			}
			if bad {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) examine(ctx context.Context) []finding {
	var all []finding
	add := func(check, text string, err error) {
		if err != nil {
			text = err.Error()
		}
		all = append(all, finding{check, err == nil, text})
	}
	text, err := a.ffmpegHere(ctx)
	add("ffmpeg", text, err)
	text, err = a.sandboxHere()
	add("sandbox", text, err)
	text, err = a.modelHere(ctx)
	add("model", text, err)
	_, err = a.store().Verify(ctx, files.VADName)
	add("vad", "voice activity model is sound", err)
	add("speakers", a.voicesHere(ctx), nil)
	err = nil
	if !hasEngine {
		err = fmt.Errorf("this binary has no engine: build it with `make build`")
	}
	matrices, few := kernels()
	built := "this CPU"
	if v := variant(); v != "native" {
		built = "every x86-64, its part for " + v + " in use"
	}
	add("engine", fmt.Sprintf("whisper.cpp is built in for %s; matrix kernels: %s, for few columns: %s",
		built, matrices, few), err)
	for _, d := range a.devicesHere() {
		text, err := fmt.Sprintf("%s: %s, %s free of %s", d.ID, d.Name, size(d.Free), size(d.Total)), error(nil)
		if d.Problem != "" {
			err = fmt.Errorf("%s %s cannot be used: %s", d.ID, d.Name, d.Problem)
		}
		add("device", text, err)
	}
	if text := a.gpuHint(); text != "" {
		add("gpu", text, nil)
	}
	text, err = a.disk()
	add("disk", text, err)
	text, err = a.queueHere(ctx)
	add("queue", text, err)
	text, err = a.databaseHere(ctx)
	add("database", text, err)
	text, err = a.gatewayHere(ctx)
	add("gateway", text, err)
	return all
}

// voicesHere says what tells voices apart, or what is missing for it: jobs do without.
func (a *app) voicesHere(ctx context.Context) string {
	f, err := a.voiceFinder(a.store(), 1).files()
	for _, name := range []string{files.SegmentationName, files.EmbeddingName} {
		if err == nil {
			_, err = a.store().Verify(ctx, name)
		}
	}
	if err != nil {
		return "told apart by channel only: " + err.Error()
	}
	return "voices are told apart, through " + f.Library
}

// gpuHint says why a GPU is not used that may be here.
func (a *app) gpuHint() string {
	_, may := a.cardsCommand()
	switch {
	case !may:
		return ""
	case !a.gpusWork():
		return "not used: this steno has no library for them; build it with `make cuda`, or name it with --cuda"
	case a.device() == gpu.CPUID:
		return "not used: --device is cpu"
	}
	return "used by models, through " + a.cudaLibrary()
}

// devicesHere asks the driver, too, where there can be one.
func (a *app) devicesHere() []gpu.Device {
	m := gpu.Machine{Monitor: a.monitor()}
	if m.Monitor != nil {
		defer func() { _ = m.Monitor.Close() }() // how the child ends is of no use to anybody
	}
	return m.Devices()
}

// ffmpegHere asks both programs for their versions.
func (a *app) ffmpegHere(ctx context.Context) (string, error) {
	t, err := a.tools()
	if err != nil {
		return "", err
	}
	return versions(ctx, t)
}

// versions names those of ffmpeg and ffprobe, and finds fault with the first that is too old.
func versions(ctx context.Context, t audio.Tools) (string, error) {
	all, err := t.Versions(ctx)
	if err != nil {
		return "", err
	}
	var texts []string
	for _, v := range all {
		if err := v.Check(); err != nil {
			return "", err
		}
		texts = append(texts, v.String())
	}
	return strings.Join(texts, ", "), nil
}

// sandboxHere says what holds of the sandbox, once ffmpeg has been started in it.
func (a *app) sandboxHere() (string, error) {
	layers := a.sandbox.Layers()
	if len(layers) == 0 {
		return "ffmpeg, ffprobe and engines are not confined", nil
	}
	return "ffmpeg, ffprobe and engines: " + strings.Join(layers, ", "), nil
}

func (a *app) modelHere(ctx context.Context) (string, error) {
	store := a.store()
	e, reason, err := store.Resolve(a.cfg.Model, []files.Type{files.Q8})
	if err != nil {
		return "", err
	}
	if _, err := store.Verify(ctx, e.Name); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is sound (%s)", e.Name, reason), nil
}

func (a *app) disk() (string, error) {
	if err := os.MkdirAll(a.cfg.Data, 0o700); err != nil {
		return "", fmt.Errorf("the data folder cannot be made: %w: choose another with --data", err)
	}
	if err := a.room(1)(); err != nil {
		return "", fmt.Errorf("%w, or choose another folder with --data", err)
	}
	room, err := disk.RoomAt(a.cfg.Data)
	return fmt.Sprintf("%s free in %s", size(room.Free), a.cfg.Data), err
}

// queueHere asks the queue for its length. That no `steno up` runs is no fault.
func (a *app) queueHere(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	q, err := a.connect(ctx)
	var je *job.Error
	if errors.As(err, &je) && je.Code == "NOT_RUNNING" {
		return "not running: start it with `steno up`, or name a server with --nats", nil
	}
	if err != nil {
		return "", err
	}
	defer q.Close()
	d, err := q.Depth(ctx)
	return fmt.Sprintf("%d waiting, %d running, %d dead letters", d.Pending, d.InFlight, d.Dead), err
}

// databaseHere asks the gateway's database for its accounts. That there is none yet is no fault.
func (a *app) databaseHere(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := store.Open(ctx, a.cfg.DB, store.Config{KeepSchema: true, Connections: 1})
	if errors.Is(err, fs.ErrNotExist) {
		return "not there yet: `steno up` and `steno gateway` make it at their first start", nil
	}
	if err != nil {
		return "", err
	}
	users, err := s.Users(ctx)
	text := fmt.Sprintf("%s answers, %d accounts", s.Engine(), len(users))
	if len(users) == 0 {
		text += ": make one with `steno user add`"
	}
	return text, errors.Join(err, s.Close())
}

// gatewayHere sees whether the address of the HTTP API is free, or a gateway of ours has it.
func (a *app) gatewayHere(ctx context.Context) (string, error) {
	if _, port, err := net.SplitHostPort(a.cfg.Listen); err == nil && port == "0" {
		return "takes a free port at its start", nil
	}
	ln, taken := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.Listen)
	if taken == nil {
		return "not running; its address " + a.cfg.Listen + " is free", ln.Close()
	}
	if version, err := health(ctx, "http://"+a.cfg.Listen+"/health"); err == nil {
		return fmt.Sprintf("steno %s answers on %s", version, a.cfg.Listen), nil
	}
	return "", fmt.Errorf("%w, and no steno answers there: end what uses it, or choose another address with --listen", taken)
}

// health asks a gateway for its version.
func health(ctx context.Context, url string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var body struct{ Status, Version string }
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<10)).Decode(&body); err != nil {
		return "", err
	}
	if body.Status != "ok" || body.Version == "" {
		return "", errors.New("it is no gateway of steno")
	}
	return body.Version, nil
}
