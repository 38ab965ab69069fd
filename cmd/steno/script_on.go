//go:build failpoints

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"steno/internal/failpoint"
	"steno/internal/fault/script"
	"steno/models"
	"steno/models/engine"
)

// scriptFlag lets an engine process play a script in the place of the library.
func scriptFlag(cmd *cobra.Command, load *engine.LoadFunc) {
	pace := cmd.Flags().Duration("script", 0, "play a script, with so much time for a second of audio")
	real := cmd.Flags().String("real", "", "a model that is transcribed by the library all the same")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		if !cmd.Flags().Changed("script") {
			return
		}
		library, played := *load, script.Loader(*pace)
		*load = func(ctx context.Context, r engine.LoadRequest) (engine.Backend, error) {
			if r.Model == *real {
				return library(ctx, r)
			}
			return played(ctx, r)
		}
	}
}

// script reads STENO_SCRIPT, "2ms" or "2ms,deaths=1000,real=tiny.en": engines play a script at this pace, but for one model, and the
// pool lets a model rest after so many deaths only.
func (a *app) script(engines *engine.Config, pool *models.PoolConfig) error {
	for _, kv := range a.env {
		value, found := strings.CutPrefix(kv, failpoint.Script+"=")
		if !found {
			continue
		}
		pace, rest, _ := strings.Cut(value, ",")
		if _, err := time.ParseDuration(pace); err != nil {
			return fmt.Errorf("%s: %w", failpoint.Script, err)
		}
		engines.Command = []string{"/proc/self/exe", "engine", "--script", pace}
		for part := range strings.SplitSeq(rest, ",") {
			name, v, _ := strings.Cut(part, "=")
			switch name {
			case "":
			case "deaths":
				n, err := strconv.Atoi(v)
				if err != nil {
					return fmt.Errorf("%s: %w", failpoint.Script, err)
				}
				pool.BreakerDeaths = n
			case "real":
				engines.Command = append(engines.Command, "--real", v)
			default:
				return fmt.Errorf("%s: %q is not known", failpoint.Script, part)
			}
		}
	}
	return nil
}
