package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"steno/gpu"
	"steno/models"
)

// cards is an open driver.
type cards interface {
	Cards() ([]gpu.Card, error)
	Close() error
}

// cardsChild is the command of the child that asks NVIDIA's driver.
var cardsChild = []string{"/proc/self/exe", "cards"}

// cardsCmd is that child. Only steno itself starts it.
func (a *app) cardsCmd() *cobra.Command {
	open := openDriver
	cmd := &cobra.Command{
		Use: "cards", Hidden: true, Args: args(cobra.NoArgs),
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil }, // it has no settings of its own
		RunE: func(*cobra.Command, []string) (err error) {
			d, err := open()
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			return gpu.Serve(a.std.in, a.std.out, d.Cards)
		},
	}
	fakeFlag(cmd, &open)
	return cmd
}

// lookAtCards is how often a daemon asks the driver what its GPUs do.
const lookAtCards = 5 * time.Second

// watchCards keeps what is known of the GPUs fresh, and shows it in the metrics, until the function that it returns is called.
func (a *app) watchCards(m *gpu.Monitor) (stop func()) {
	if m == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { m.Watch(ctx, lookAtCards) })
	a.reg.MustRegister(gpu.Collector{Monitor: m})
	return func() {
		cancel()
		done.Wait()
		_ = m.Close() // how the child ends is of no use to anybody
	}
}

// monitor asks the driver where this machine can have one; nil where it cannot.
func (a *app) monitor() *gpu.Monitor {
	command, may := a.cardsCommand()
	if !may {
		return nil
	}
	return gpu.NewMonitor(gpu.MonitorConfig{Command: command, Args0: "steno-cards", Env: a.env, Log: a.log})
}

// cudaLibrary is the library of ggml that computes on NVIDIA's GPUs; empty where there is none.
func (a *app) cudaLibrary() string {
	if a.cfg.CUDA != "" {
		return a.cfg.CUDA
	}
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(self), "libggml-cuda.so")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// device is where models run for which nobody has chosen a device.
func (a *app) device() string {
	if a.cfg.Device == models.Auto && !a.gpusWork() {
		return gpu.CPUID
	}
	return a.cfg.Device
}

// uuids names the GPUs of a machine to CUDA.
func uuids(m gpu.Machine) func(device string) string {
	return func(device string) string {
		for _, d := range m.Devices() {
			if d.ID == device {
				return d.UUID
			}
		}
		return ""
	}
}
