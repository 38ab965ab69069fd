// Command stenofault injects faults into steno and checks from outside that nothing was lost, doubled or left behind. `make
// fault` builds what it needs and runs it; see package fault.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"steno/internal/fault"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "stenofault:", err)
		os.Exit(1)
	}
}

func run() error {
	var cfg fault.Config
	flag.StringVar(&cfg.Programs.Steno, "steno", "", "`program` under test, built with -tags failpoints")
	flag.StringVar(&cfg.Programs.NATS, "nats", "", "a NATS server's `program`")
	flag.StringVar(&cfg.Programs.Models, "models", "", "`folder` of model files")
	flag.StringVar(&cfg.Folder, "out", "", "`folder` for the ledger, logs and data; it must be empty")
	flag.Uint64Var(&cfg.Seed, "seed", rand.Uint64(), "seed of all choices, to inject the same faults again")
	tier := flag.Int("tier", 0, "0: minutes, for each commit; 1: at most two hours, for each night")
	rows := flag.String("rows", "", "rows of the fault table, with commas between; all of "+strings.Join(fault.IDs(), ","))
	flag.Parse()
	if cfg.Programs.Steno == "" || cfg.Programs.NATS == "" || cfg.Programs.Models == "" || cfg.Folder == "" {
		return errors.New("name -steno, -nats, -models and -out, or run `make fault`")
	}
	if left, err := os.ReadDir(cfg.Folder); err == nil && len(left) > 0 {
		return fmt.Errorf("folder %s is not empty: choose another", cfg.Folder)
	}
	if err := os.MkdirAll(cfg.Folder, 0o700); err != nil {
		return err
	}
	if *rows != "" {
		cfg.Rows = strings.Split(*rows, ",")
	}
	cfg.Tier, cfg.Out = fault.Tier(*tier), os.Stdout
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, err := fault.Run(ctx, cfg)
	return err
}
