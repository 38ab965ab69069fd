package main

import (
	"github.com/spf13/cobra"

	"steno/models/engine"
)

// engineCmd is the child that holds a model. Only steno itself starts it.
func (a *app) engineCmd() *cobra.Command {
	var load engine.LoadFunc = loadBackend
	cmd := &cobra.Command{
		Use: "engine", Hidden: true, Args: args(cobra.NoArgs),
		// It has no settings of its own: all it needs comes over the socket.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := engine.OpenChild()
			if err != nil {
				return usageError{err}
			}
			return engine.Serve(cmd.Context(), conn, version, load)
		},
	}
	scriptFlag(cmd, &load)
	return cmd
}
