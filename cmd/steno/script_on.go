//go:build failpoints

package main

import (
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
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		if cmd.Flags().Changed("script") {
			*load = script.Loader(*pace)
		}
	}
}

// script reads STENO_SCRIPT, "2ms" or "2ms,deaths=1000": engines play a script at this pace, and the pool lets a model rest after
// so many deaths only.
func (a *app) script(engines *engine.Config, pool *models.PoolConfig) error {
	for _, kv := range a.env {
		value, found := strings.CutPrefix(kv, failpoint.Script+"=")
		if !found {
			continue
		}
		pace, deaths, limited := strings.Cut(value, ",deaths=")
		if _, err := time.ParseDuration(pace); err != nil {
			return fmt.Errorf("%s: %w", failpoint.Script, err)
		}
		engines.Command = []string{"/proc/self/exe", "engine", "--script", pace}
		if limited {
			n, err := strconv.Atoi(deaths)
			if err != nil {
				return fmt.Errorf("%s: %w", failpoint.Script, err)
			}
			pool.BreakerDeaths = n
		}
	}
	return nil
}
