package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"steno/bench"
)

// suiteFlags are those of the commands that measure.
type suiteFlags struct {
	scenarios, models, audio                      []string
	rounds                                        int
	seed                                          uint64
	language, peers, ct2, short, corpus, out, bin string
	quiet                                         float64
}

func (f *suiteFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringSliceVarP(&f.models, "model", "m", []string{"tiny.en", "base"}, "`models`, with commas between")
	cmd.Flags().IntVar(&f.rounds, "rounds", 6, "runs of each contender beside the warm-up; fewer than 6 give no 95 % interval")
	cmd.Flags().Uint64Var(&f.seed, "seed", 0, "`seed` of the random order (default: a new one, which is printed)")
	cmd.Flags().StringVarP(&f.language, "language", "l", "en", "language of the recordings, as an ISO 639-1 `code`")
	cmd.Flags().StringVar(&f.short, "short", "", "the short `file` (default .build/samples/jfk.wav)")
	cmd.Flags().StringSliceVar(&f.audio, "audio", nil, "long `files`; the words of X.mp3 are in X.txt or a manifest.json beside it")
	cmd.Flags().StringVar(&f.corpus, "corpus", "", "`folder` with a manifest.json, for scenarios with many files")
	cmd.Flags().Float64Var(&f.quiet, "quiet", 0.1, "`share` of the machine that others may use during a run that counts")
	cmd.Flags().StringVar(&f.out, "out", "", "write report.json, report.md and report.html to this `folder`")
}

func (a *app) benchRun() *cobra.Command {
	var f suiteFlags
	var list bool
	cmd := &cobra.Command{
		Use: "run", Short: "Measure speed, memory and accuracy, beside other programs on the same weights",
		Long: "Run scenarios: each has contenders that transcribe the same recordings in paired rounds of random order, as child\n" +
			"processes that are all measured alike. The report goes to standard output as Markdown, and with --out also as JSON and\n" +
			"as one HTML page.",
		Example: "  steno bench run --list\n  steno bench run --scenario short,long --audio lecture.mp3 --out report\n" +
			"  steno bench run --scenario many --corpus ../speech --rounds 10",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if list {
				for _, s := range bench.Scenarios() {
					fmt.Fprintf(a.std.out, "%-9s %-6s %s\n", s.Name, s.Input, s.Asks)
				}
				return nil
			}
			opts, err := a.suite(cmd.Context(), f)
			if err != nil {
				return err
			}
			report, err := bench.RunSuite(cmd.Context(), opts)
			if len(report.Cases) > 0 { // what was measured before an interrupt is not thrown away
				err = errors.Join(err, a.writeSuite(report, f.out))
			}
			return err
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&list, "list", false, "list the scenarios")
	cmd.Flags().StringSliceVar(&f.scenarios, "scenario", nil, "`scenarios`, with commas between, or all (default short,long)")
	cmd.Flags().StringVar(&f.bin, "binary", "", "the steno that is measured (default: this one)")
	cmd.Flags().StringVar(&f.peers, "peers", ".build/peers", "`folder` that scripts/peers.sh made")
	cmd.Flags().StringVar(&f.ct2, "ct2", ".build/ct2", "`folder` of CTranslate2 weights, by model")
	f.register(cmd)
	return cmd
}

// suite finds what the flags name.
func (a *app) suite(ctx context.Context, f suiteFlags) (bench.SuiteOptions, error) {
	opts := bench.SuiteOptions{
		Models: f.models, Rounds: f.rounds, Seed: f.seed, Language: f.language, Quiet: f.quiet, Done: a.sayRun,
	}
	if f.rounds < 1 {
		return opts, usagef("--rounds must be at least 1")
	}
	for opts.Seed == 0 {
		opts.Seed = rand.Uint64()
	}
	fmt.Fprintf(a.std.err, "seed %d\n", opts.Seed)
	var err error
	if opts.Scenarios, err = chooseScenarios(f.scenarios); err != nil {
		return opts, err
	}
	if opts.Kit, err = a.kit(f); err != nil {
		return opts, err
	}
	short := f.short
	if short == "" {
		short = filepath.Join(".build", "samples", "jfk.wav")
	}
	if opts.Short, err = bench.OpenMedia(ctx, short); err != nil {
		return opts, err
	}
	for _, path := range f.audio {
		m, err := bench.OpenMedia(ctx, path)
		if err != nil {
			return opts, err
		}
		opts.Long = append(opts.Long, m)
	}
	opts.Many = slices.Concat(slices.Repeat([]bench.Media{opts.Short}, 8), opts.Long)
	if f.corpus != "" {
		opts.Many, err = bench.CorpusMedia(f.corpus, f.language)
	}
	return opts, err
}

func chooseScenarios(names []string) ([]bench.Scenario, error) {
	all := bench.Scenarios()
	if slices.Equal(names, []string{"all"}) {
		return all, nil
	}
	if len(names) == 0 {
		return slices.DeleteFunc(all, func(s bench.Scenario) bool { return !s.Quick }), nil
	}
	var chosen []bench.Scenario
	for _, name := range names {
		i := slices.IndexFunc(all, func(s bench.Scenario) bool { return s.Name == name })
		if i < 0 {
			return nil, usagef("there is no scenario %q: see steno bench run --list", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func (a *app) kit(f suiteFlags) (bench.Kit, error) {
	self, err := os.Executable()
	if err != nil {
		return bench.Kit{}, fmt.Errorf("find this program: %w", err)
	}
	k := bench.Kit{Steno: self, Self: self, Models: a.cfg.Models, Threads: runtime.NumCPU(), Env: a.env}
	if f.bin != "" {
		k.Steno = f.bin
	}
	for path, value := range map[*string]string{&k.Steno: k.Steno, &k.CT2: f.ct2, &k.Peers: f.peers} {
		if *path, err = filepath.Abs(value); err != nil {
			return bench.Kit{}, fmt.Errorf("find %s: %w", value, err)
		}
	}
	return k, nil
}

func (a *app) sayRun(c bench.Case, contender string, r bench.Run) {
	note := ""
	if r.Disturbed {
		note = fmt.Sprintf(", disturbed: others used %.0f %%", 100*r.Others)
	}
	fmt.Fprintf(a.std.err, "%s, %s, %s, round %d: %s: %.2f s%s\n", c.Scenario, c.Model, c.Input, r.Round, contender, r.Wall, note)
}

// writeSuite writes Markdown to standard output and, where there is a folder, all forms into it.
func (a *app) writeSuite(r bench.SuiteReport, dir string) error {
	if err := r.WriteMarkdown(a.std.out); err != nil || dir == "" {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the report's folder: %w", err)
	}
	var errs []error
	for name, write := range map[string]func(io.Writer) error{
		"report.json": r.WriteJSON, "report.md": r.WriteMarkdown, "report.html": r.WriteHTML,
	} {
		errs = append(errs, writeFile(filepath.Join(dir, name), write))
	}
	return errors.Join(errs...)
}

// benchAskServer is the child that `steno bench run` measures whisper-server by.
func (a *app) benchAskServer() *cobra.Command {
	var t bench.ServerTask
	cmd := &cobra.Command{
		Use: "ask-server FILE…", Short: "Start whisper-server, ask it for each file, and end it", Hidden: true,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			t.Files = files
			return bench.AskServer(cmd.Context(), t, a.std.out)
		},
	}
	cmd.Flags().StringVar(&t.Server, "server", "", "the program")
	cmd.Flags().StringVar(&t.Weights, "weights", "", "the model")
	cmd.Flags().StringVar(&t.Language, "language", "en", "language")
	cmd.Flags().IntVar(&t.Threads, "threads", 1, "threads")
	return cmd
}
