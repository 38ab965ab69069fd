package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"steno/bench"
)

func (a *app) benchCompare() *cobra.Command {
	var f suiteFlags
	var before, after string
	var threshold float64
	cmd := &cobra.Command{
		Use: "compare [OLD.json NEW.json]", Short: "Tell whether one version is slower than another; exit code 1 where it is",
		Long: "Compare two reports of `steno bench run`, or run two binaries in turn and compare them: rounds in random order,\n" +
			"so that what slows the machine slows both. Only a change whose whole 95 % interval lies beyond the threshold counts.",
		Example: "  steno bench compare --old main/steno --new bin/steno --rounds 10\n" +
			"  steno bench compare before/report.json after/report.json",
		Args: args(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, reports []string) error {
			var c bench.Comparison
			var err error
			switch {
			case before != "" && after != "" && len(reports) == 0:
				c, err = a.compareBinaries(cmd.Context(), f, before, after, threshold)
			case before == "" && after == "" && len(reports) == 2:
				c, err = compareReports(reports[0], reports[1], threshold)
			default:
				err = usagef("name two reports, or two binaries with --old and --new")
			}
			if err != nil {
				return err
			}
			if err := c.WriteMarkdown(a.std.out); err != nil {
				return err
			}
			if c.Regressed() {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&before, "old", "", "the `binary` to compare with")
	cmd.Flags().StringVar(&after, "new", "", "the `binary` to judge")
	cmd.Flags().Float64Var(&threshold, "threshold", 0.05, "`share` by which a metric may grow")
	f.register(cmd)
	return cmd
}

func (a *app) compareBinaries(ctx context.Context, f suiteFlags, before, after string, threshold float64,
) (bench.Comparison, error) {
	before, errBefore := filepath.Abs(before)
	after, errAfter := filepath.Abs(after)
	if err := errors.Join(errBefore, errAfter); err != nil {
		return bench.Comparison{}, fmt.Errorf("find the binaries: %w", err)
	}
	opts, err := a.suite(ctx, f)
	if err != nil {
		return bench.Comparison{}, err
	}
	opts.Scenarios, opts.Kit.Steno = bench.Versions(before, after), after
	report, err := bench.RunSuite(ctx, opts)
	if err != nil {
		return bench.Comparison{}, err
	}
	if f.out != "" {
		if err := a.writeSuite(report, f.out); err != nil {
			return bench.Comparison{}, err
		}
	}
	return bench.ComparePaired(report, threshold)
}

func compareReports(before, after string, threshold float64) (bench.Comparison, error) {
	a, err := readSuite(before)
	if err != nil {
		return bench.Comparison{}, err
	}
	b, err := readSuite(after)
	if err != nil {
		return bench.Comparison{}, err
	}
	return bench.CompareReports(a, b, threshold)
}

func readSuite(path string) (bench.SuiteReport, error) {
	f, err := os.Open(path)
	if err != nil {
		return bench.SuiteReport{}, fmt.Errorf("read suite report: %w", err)
	}
	defer f.Close()
	return bench.ReadSuiteReport(f)
}
