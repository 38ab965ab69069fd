package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"steno/gpu"
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
	var fake string
	cmd := &cobra.Command{
		Use: "cards", Hidden: true, Args: args(cobra.NoArgs),
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil }, // it has no settings of its own
		RunE: func(*cobra.Command, []string) (err error) {
			d, err := openCards(fake)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, d.Close()) }()
			return gpu.Serve(a.std.in, a.std.out, d.Cards)
		},
	}
	cmd.Flags().StringVar(&fake, "fake", "", "GPUs of a fault test")
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
