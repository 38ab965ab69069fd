package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"steno/job"
	"steno/store"
)

func (a *app) dbCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "db", Short: "Look after the gateway's database", Args: args(cobra.NoArgs),
		Long: "Look after the database of accounts, files and tasks that --db names: the path of an SQLite file, or\n" +
			"postgres://user@host/name. Give a password by PGPASSWORD or ~/.pgpass, not on the command line.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.dbMigrateCmd(), a.dbExplainCmd())
	return cmd
}

func (a *app) dbMigrateCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "migrate", Short: "Bring the database's schema up to date", Args: args(cobra.NoArgs),
		Long: "Bring the database's schema up to date, and make the database file where there is none. The gateway does the same at\n" +
			"its start; this is for those who want to choose the moment.",
		Example: "  steno db migrate\n  steno db migrate --db postgres://steno@db/steno",
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, to, err := store.Migrate(cmd.Context(), a.cfg.DB)
			if err != nil {
				return badDatabaseFlag(err)
			}
			if asJSON {
				return json.NewEncoder(a.std.out).Encode(map[string]int{"from": from, "to": to})
			}
			if from == to {
				fmt.Fprintf(a.std.out, "the database is up to date: schema version %d\n", to)
				return nil
			}
			fmt.Fprintf(a.std.out, "the database went from schema version %d to %d\n", from, to)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) dbExplainCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "explain", Short: "Print the plan of each query that matters", Args: args(cobra.NoArgs),
		Long: "Print how the database would run each query whose speed depends on the number of rows, and which index it uses.\n" +
			"Nothing is run or changed. A nearly empty database may rightly read whole tables.",
		Example: "  steno db explain\n  steno db explain --db postgres://steno@db/steno --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			plans, err := explain(cmd.Context(), a.cfg.DB)
			if err != nil {
				return badDatabaseFlag(err)
			}
			if asJSON {
				return json.NewEncoder(a.std.out).Encode(plans)
			}
			for _, p := range plans {
				mark := "index "
				if !p.Used {
					mark = "ROWS  "
				}
				fmt.Fprintf(a.std.out, "%s%s\n      %s\n", mark, p.Name, strings.Join(p.Lines, "\n      "))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func explain(ctx context.Context, dsn string) ([]store.Plan, error) {
	s, err := store.Open(ctx, dsn, store.Config{KeepSchema: true, Connections: 1})
	if err != nil {
		return nil, err
	}
	plans, err := s.Explain(ctx)
	return plans, errors.Join(err, s.Close())
}

// badDatabaseFlag makes a usage error of a DSN that names no database.
func badDatabaseFlag(err error) error {
	if job.AsError(err).Code == "BAD_DATABASE" {
		return usageError{err}
	}
	return err
}
