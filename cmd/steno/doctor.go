package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"steno/gpu"
	"steno/job"
	"steno/models/files"
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
		Use: "doctor", Short: "Check ffmpeg, models, engine, devices, disk and queue, and say what to do about each",
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
	text, err := a.ffmpegVersion(ctx)
	add("ffmpeg", text, err)
	text, err = a.modelHere(ctx)
	add("model", text, err)
	_, err = a.store().Verify(ctx, files.VADName)
	add("vad", "voice activity model is sound", err)
	err = nil
	if !hasEngine {
		err = fmt.Errorf("this binary has no engine: build it with `make build`")
	}
	add("engine", "whisper.cpp is built in; matrix kernels: "+kernels(), err)
	for _, d := range (gpu.Host{}).Devices() {
		add("device", fmt.Sprintf("%s: %s, %s free of %s", d.ID, d.Name, size(d.Free), size(d.Total)), nil)
	}
	text, err = a.disk()
	add("disk", text, err)
	text, err = a.queueHere(ctx)
	add("queue", text, err)
	return all
}

func (a *app) ffmpegVersion(ctx context.Context) (string, error) {
	t, err := a.tools()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, t.FFmpeg, "-version").Output()
	if err != nil {
		return "", fmt.Errorf("%s does not run: %w", t.FFmpeg, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
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

// lowDisk is what a worker should have free: an hour of video and its queue.
const lowDisk = 2 << 30

func (a *app) disk() (string, error) {
	if err := os.MkdirAll(a.cfg.Data, 0o700); err != nil {
		return "", fmt.Errorf("the data folder cannot be made: %w: choose another with --data", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(a.cfg.Data, &st); err != nil {
		return "", fmt.Errorf("ask for the disk of %s: %w", a.cfg.Data, err)
	}
	free := int64(st.Bavail) * st.Bsize
	if free < lowDisk {
		return "", fmt.Errorf("only %s free in %s: make room, or choose another folder with --data", size(free), a.cfg.Data)
	}
	return fmt.Sprintf("%s free in %s", size(free), a.cfg.Data), nil
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
