package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"steno/bench"
	"steno/job"
)

func (a *app) benchCheck() *cobra.Command {
	var results, limits, testID, host string
	var users int
	var spawnRate float64
	var asJSON bool
	cmd := &cobra.Command{
		Use: "check", Short: "Hold the results of a load test to thresholds; exit code 1 where one does not hold",
		Long: "Read what Locust wrote with --csv (PREFIX_stats.csv, with PREFIX_failures.csv and PREFIX_stats_history.csv beside\n" +
			"it), report it, and hold it to thresholds:\n\n" +
			"  thresholds:\n    - request: /api/v1/user/history   # Aggregated stands for all requests together\n" +
			"      method: GET                     # left out: any\n      median: 200                     # milliseconds\n" +
			"      p95: 500                        # milliseconds\n      failure_rate: 0.01              # a share of the requests",
		Example: "  steno bench check --results load_stats.csv --thresholds thresholds.yaml",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if results == "" || limits == "" {
				return usagef("name the results and the thresholds: --results FILE --thresholds FILE")
			}
			f, err := os.Open(limits)
			if err != nil {
				return fmt.Errorf("read thresholds: %w", err)
			}
			defer f.Close()
			thresholds, err := bench.ReadThresholds(f)
			if err != nil {
				return err
			}
			report, err := bench.ReadLoad(results)
			if err != nil {
				return err
			}
			report.TestID, report.Host, report.SpawnRate = testID, host, spawnRate
			if testID == "" {
				report.TestID = string(job.NewID())
			}
			if users > 0 {
				report.Users = users
			}
			report.Check(thresholds)
			write := report.WriteMarkdown
			if asJSON {
				write = report.WriteJSON
			}
			if err := write(a.std.out); err != nil {
				return err
			}
			if !report.Passed {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&results, "results", "", "the `file` of statistics")
	cmd.Flags().StringVar(&limits, "thresholds", "", "the YAML `file` of thresholds")
	cmd.Flags().StringVar(&testID, "test-id", "", "`name` of the test (default: a new one)")
	cmd.Flags().IntVar(&users, "users", 0, "users (default: the most that the history tells)")
	cmd.Flags().Float64Var(&spawnRate, "spawn-rate", 0, "users started per second, for the report")
	cmd.Flags().StringVar(&host, "host", "", "the gateway that was tested, for the report")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
