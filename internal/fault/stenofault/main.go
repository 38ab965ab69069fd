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
	"path/filepath"
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
	flag.StringVar(&cfg.Programs.Clock, "clock", "", "the `program` that scripts/clock.sh makes, for F15")
	flag.StringVar(&cfg.Programs.NATS, "nats", "", "a NATS server's `program`")
	flag.StringVar(&cfg.Programs.Models, "models", "", "`folder` of model files")
	flag.StringVar(&cfg.Folder, "out", "", "`folder` for the ledger, logs and data; it must be empty")
	flag.Uint64Var(&cfg.Seed, "seed", rand.Uint64(), "seed of all choices, to inject the same faults again")
	flag.StringVar(&cfg.Root, "root", ".", "the repository's `folder`, for rows that are tests of a package")
	flag.IntVar(&cfg.Lanes, "lanes", 1, "rows at a time")
	tier := flag.Int("tier", 0, "0: minutes, for each commit; 1: at most two hours, for each night")
	rows := flag.String("rows", "", "rows of the fault table, with commas between; all of "+strings.Join(fault.IDs(), ","))
	long := flag.Duration("soak", 0, "keep a cluster busy and disturbed for so `long`, instead of the rows")
	flag.StringVar(&cfg.Speech, "speech", "", "a recording of real speech in WAV of 16 kHz mono, for F17 and the soak")
	flag.Parse()
	if cfg.Programs.Steno == "" || cfg.Programs.NATS == "" || cfg.Programs.Models == "" || cfg.Folder == "" {
		return errors.New("name -steno, -nats, -models and -out, or run `make fault`")
	}
	// Absolute, for a node on a disk of its own is looked at through /proc.
	var err error
	if cfg.Folder, err = filepath.Abs(cfg.Folder); err != nil {
		return err
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
	if *long > 0 {
		return soak(ctx, cfg, *long)
	}
	_, err = fault.Run(ctx, cfg)
	return err
}
