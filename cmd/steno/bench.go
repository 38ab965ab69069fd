package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"steno/bench"
	"steno/job"
	"steno/pipeline"
	"steno/transcript"
)

func (a *app) benchCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure accuracy and speed", Args: args(cobra.NoArgs),
		Example: "  steno bench run --list\n  steno bench corpus speech/\n  steno bench profile lecture.mp3",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.benchRun(), a.benchCompare(), a.benchCheck(), a.benchCorpus(), a.benchProfile(), a.benchAskServer())
	return cmd
}

func (a *app) benchCorpus() *cobra.Command {
	var asJSON bool
	var opts bench.CorpusOptions
	cmd := &cobra.Command{
		Use: "corpus FOLDER", Short: "Transcribe a corpus with reference texts and count the word errors",
		Long: "Transcribe every clip of a corpus (a folder with a manifest.json) and print word error rates per language and\n" +
			"category, and what was written where nobody speaks.",
		Example: "  steno bench corpus ../speech --lang en\n  steno bench corpus ../speech --auto --json",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, folder []string) (err error) {
			m, err := a.machine("", false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, m.close(context.WithoutCancel(cmd.Context()))) }()
			report, err := bench.RunCorpus(cmd.Context(), folder[0], opts,
				func(ctx context.Context, path, lang string) (transcript.Transcript, error) {
					p := job.Params{Model: a.cfg.Model, Language: lang}
					return m.runner.Run(ctx, pipeline.Input{Job: job.Job{ID: job.NewID(), FileName: filepath.Base(path), Params: p}, Path: path})
				})
			if err != nil {
				return err
			}
			write := report.WriteMarkdown
			if asJSON {
				write = report.WriteJSON
			}
			if err := write(a.std.out); err != nil {
				return err
			}
			if failed := report.Speech.Failed + report.NoSpeech.Failed; failed > 0 {
				return fmt.Errorf("%d clips failed; the report says why", failed)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&opts.Auto, "auto", false, "detect each language instead of taking it from the manifest")
	cmd.Flags().StringSliceVar(&opts.Languages, "lang", nil, "only clips in these `languages`; none stands for no speech")
	cmd.Flags().StringSliceVar(&opts.Files, "file", nil, "only these `files`")
	cmd.Flags().StringSliceVar(&opts.Categories, "category", nil, "only clips of these `categories`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	modelFlag(cmd, a)
	return cmd
}
