package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"steno/internal/config"
)

func (a *app) configCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "config", Short: "Print the effective settings and where each came from",
		Example: "  steno config\n  STENO_JOBS=8 steno config --json", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			type setting struct {
				Value  string `json:"value"`
				Origin string `json:"origin"`
				Doc    string `json:"doc"`
			}
			all := map[string]setting{}
			w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
			for _, k := range config.Keys() {
				s := setting{Value: a.cfg.Value(k.Name), Origin: a.origins[k.Name], Doc: k.Doc}
				all[k.Name] = s
				fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, s.Value, s.Origin)
			}
			if asJSON {
				return json.NewEncoder(a.std.out).Encode(all)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
