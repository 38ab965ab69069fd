package main

import (
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"steno/models/files"
)

func (a *app) modelsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "models", Short: "List, fetch, check, convert and remove model files",
		Example: "  steno models list\n  steno models pull large-v3-turbo\n" +
			"  steno models convert ~/.cache/faster-whisper/base --name base",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.modelsList(), a.modelsPull(), a.modelsVerify(), a.modelsConvert(), a.modelsRemove())
	return cmd
}

func (a *app) modelsList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "Show the models of the registry and which are here",
		Example: "  steno models list", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			list, err := a.store().List()
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.std.out).Encode(list)
			}
			w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "MODEL\tSIZE\tHERE")
			for _, s := range list {
				here := ""
				switch {
				case s.Present:
					here = "yes"
				case s.Partial > 0:
					here = fmt.Sprintf("%d %%", 100*s.Partial/s.Size)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, size(s.Size), here)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) modelsPull() *cobra.Command {
	return &cobra.Command{
		Use: "pull MODEL…", Short: "Fetch models; an interrupted fetch goes on where it stopped",
		Example: "  steno models pull base\n  steno models pull whisper-turbo silero-v6.2.0", Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, names []string) error {
			store := a.store()
			for _, name := range names {
				bar := newProgress(a.std.err, 1)
				e, err := store.Pull(cmd.Context(), name, bar.bytes(name))
				bar.stop()
				if err != nil {
					return err
				}
				fmt.Fprintf(a.std.out, "%s is here and sound (%s)\n", e.Name, size(e.Size))
			}
			return nil
		},
	}
}

func (a *app) modelsVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify [MODEL…]", Short: "Check model files against their checksums (default: all that are here)",
		Example: "  steno models verify", Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, names []string) error {
			store := a.store()
			if len(names) == 0 {
				list, err := store.List()
				if err != nil {
					return err
				}
				for _, s := range list {
					// A file of the wrong size is not present, but it is what the user wants to hear of.
					if path, err := store.Path(s.Name); err == nil && exists(path) {
						names = append(names, s.Name)
					}
				}
			}
			bad := false
			for _, name := range names {
				e, err := store.Verify(cmd.Context(), name)
				if err != nil {
					bad = true
					fmt.Fprintf(a.std.err, "steno: %s\n", err)
					continue
				}
				fmt.Fprintf(a.std.out, "%s  %s\n", e.SHA256, e.Name)
			}
			if bad {
				return errReported
			}
			return nil
		},
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (a *app) modelsConvert() *cobra.Command {
	var name, kind string
	cmd := &cobra.Command{
		Use: "convert FOLDER", Short: "Make a model file from a CTranslate2 folder, as faster-whisper keeps them",
		Example: "  steno models convert ~/models/faster-whisper-base --name base --type q8_0",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, folder []string) error {
			if name == "" {
				return usagef("the result needs a name: add --name NAME")
			}
			t := files.Type(kind)
			if t != files.F16 && t != files.Q8 {
				return usagef("type %q is not known: choose f16 or q8_0", kind)
			}
			bar := newProgress(a.std.err, 1)
			e, err := a.store().Convert(cmd.Context(), folder[0], name, t, bar.bytes(name))
			bar.stop()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.std.out, "%s  %s\n", e.SHA256, e.Name)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the result, without its type")
	cmd.Flags().StringVar(&kind, "type", "q8_0", "type of the weights: f16 or q8_0")
	return cmd
}

func (a *app) modelsRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove MODEL…", Short: "Delete model files", Example: "  steno models remove large-v3", Args: args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, names []string) error {
			for _, n := range names {
				if err := a.store().Remove(n); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// bytes draws a download.
func (p *progress) bytes(name string) files.Progress {
	return func(done, total int64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if total > 0 && time.Since(p.drawn) > redrawEvery {
			p.drawn = time.Now()
			share := float64(done) / float64(total)
			p.screen.draw([]string{fmt.Sprintf("%s %3.0f %%  %s of %s  %s", bar(share), 100*share, size(done), size(total), name)})
		}
	}
}

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}
