package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"steno/internal/fault"
)

// soak runs one and writes soak.json and soak.svg beside its ledger.
func soak(ctx context.Context, cfg fault.Config, long time.Duration) error {
	r, err := fault.Soak(ctx, fault.SoakConfig{
		Programs: cfg.Programs, Length: long, Speech: cfg.Speech, Seed: cfg.Seed, Folder: cfg.Folder, Out: cfg.Out,
	})
	if err != nil && len(r.Samples) == 0 {
		return err
	}
	return errors.Join(err, report(cfg, r)) // what there is of a soak that could not go on is shown all the same
}

// report writes soak.json and soak.svg, and says the figures.
func report(cfg fault.Config, r fault.SoakReport) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	picture, err := draw(r)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"soak.json": data, "soak.svg": picture} {
		if err := os.WriteFile(filepath.Join(cfg.Folder, name), data, 0o600); err != nil {
			return err
		}
	}
	v := r.Verdict
	fmt.Fprintf(cfg.Out, "\n%d jobs in %s: %d done, %d failed (%d given up), %d cancelled, %d deleted\n",
		v.Jobs, r.Took.Round(time.Second), v.Done, v.Failed, v.GivenUp, v.Cancelled, v.Deleted)
	fmt.Fprintf(cfg.Out, "%d lost, %d doubled, %d differing\n", v.Lost, v.Doubled, v.Differing)
	longest := last(v.Recovery).Round(100 * time.Millisecond)
	fmt.Fprintf(cfg.Out, "jobs %v\nfaults %v\nrecovery, longest %s\n", r.Kinds, r.Faults, longest)
	for i, q := range r.Quarters {
		fmt.Fprintf(cfg.Out, "quarter %d: %s\n", i+1, q)
	}
	for _, s := range r.Slopes() {
		fmt.Fprintln(cfg.Out, s)
	}
	for _, w := range v.Wrong[:min(20, len(v.Wrong))] {
		fmt.Fprintln(cfg.Out, "   BROKEN", w)
	}
	if len(v.Wrong) > 0 {
		return errors.New("promises were broken: see above and the ledger")
	}
	return nil
}

func last(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	return slices.MaxFunc(all, cmp.Compare[time.Duration])
}
