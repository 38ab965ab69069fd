package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"steno/api"
	"steno/store"
)

func (a *app) userCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "user", Short: "Look after the accounts of the gateway", Args: args(cobra.NoArgs),
		Long: "Look after the accounts of the gateway, in the database that --db names. It may run meanwhile.\n\n" +
			"Passwords are made up and printed once, or read from standard input; never from the command line, which every user of\n" +
			"the machine can read.",
		Example: "  steno user add ada\n  steno user key add ada --name nightly",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	key := &cobra.Command{
		Use: "key", Short: "Make, list and revoke API keys of an account", Args: args(cobra.NoArgs),
		Example: "  steno user key add ada --name nightly\n  steno user key list ada",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	key.AddCommand(a.keyAddCmd(), a.keyListCmd(), a.keyRevokeCmd())
	cmd.AddCommand(
		a.userAddCmd(), a.userListCmd(), a.userPasswdCmd(), key,
		a.userSwitchCmd("disable", "End an account's tokens and keys, keep its data", true),
		a.userSwitchCmd("enable", "Let an account in again", false),
	)
	return cmd
}

// record runs f on the gateway's database.
func (a *app) record(ctx context.Context, f func(*store.Store) error) error {
	s, err := store.Open(ctx, a.cfg.DB, store.Config{Connections: 1, BusyTimeout: patience})
	if err != nil {
		return badDatabaseFlag(err)
	}
	return errors.Join(f(s), s.Close())
}

// secretFlags say where a password comes from.
type secretFlags struct{ stdin, json bool }

func (f *secretFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input instead of making one up")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// password returns the one to set, and what is to be shown of it.
func (f *secretFlags) password(in io.Reader) (hash, shown string, err error) {
	password := api.GeneratePassword()
	shown = password
	if f.stdin {
		line, err := bufio.NewReader(io.LimitReader(in, 64<<10)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", "", fmt.Errorf("read the password: %w", err)
		}
		password, shown = strings.TrimRight(line, "\r\n"), ""
	}
	hash, err = api.HashPassword(password)
	return hash, shown, err
}

// account is a user as it is printed.
type account struct {
	ID       string    `json:"user_id"`
	Username string    `json:"username"`
	Role     string    `json:"role"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created_at"`
	Password string    `json:"password,omitempty"` // shown once
}

func accountOf(u store.User, password string) account {
	return account{u.ID, u.Username, string(u.Role), u.Disabled, u.Created, password}
}

// showAccount prints what became of an account, and its password where that was made up.
func (a *app) showAccount(what string, u account, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.std.out).Encode(u)
	}
	fmt.Fprintf(a.std.out, "%s %s\n", what, u.Username)
	if u.Password != "" {
		fmt.Fprintf(a.std.out, "password, shown this once: %s\n", u.Password)
	}
	return nil
}

func (a *app) userAddCmd() *cobra.Command {
	var f secretFlags
	var admin bool
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Make an account", Args: args(cobra.ExactArgs(1)),
		Example: "  steno user add ada\n  steno user add root --admin --password-stdin < secret",
		RunE: func(cmd *cobra.Command, names []string) error {
			hash, shown, err := f.password(a.std.in)
			if err != nil {
				return err
			}
			role := store.RoleUser
			if admin {
				role = store.RoleAdmin
			}
			return a.record(cmd.Context(), func(s *store.Store) error {
				u, err := s.CreateUser(cmd.Context(), store.User{Username: names[0], PasswordHash: hash, Role: role})
				if err != nil {
					return err
				}
				return a.showAccount("added", accountOf(u, shown), f.json)
			})
		},
	}
	cmd.Flags().BoolVar(&admin, "admin", false, "make it an administrator")
	f.register(cmd)
	return cmd
}

func (a *app) userListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the accounts", Args: args(cobra.NoArgs), Example: "  steno user list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.record(cmd.Context(), func(s *store.Store) error {
				users, err := s.Users(cmd.Context())
				if err != nil {
					return err
				}
				list := make([]account, len(users))
				for i, u := range users {
					list[i] = accountOf(u, "")
				}
				if asJSON {
					return json.NewEncoder(a.std.out).Encode(list)
				}
				w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "NAME\tROLE\tCREATED\tSTATE")
				for _, u := range list {
					state := "active"
					if u.Disabled {
						state = "disabled"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", u.Username, u.Role, u.Created.Format(time.DateTime), state)
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) userPasswdCmd() *cobra.Command {
	var f secretFlags
	cmd := &cobra.Command{
		Use: "passwd NAME", Short: "Set another password, and end the account's tokens", Args: args(cobra.ExactArgs(1)),
		Example: "  steno user passwd admin\n  steno user passwd admin --password-stdin < secret",
		RunE: func(cmd *cobra.Command, names []string) error {
			hash, shown, err := f.password(a.std.in)
			if err != nil {
				return err
			}
			return a.changeUser(cmd.Context(), "set the password of", names[0], store.UserChange{PasswordHash: &hash}, shown, f.json)
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) userSwitchCmd(name, short string, disabled bool) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: name + " NAME", Short: short, Args: args(cobra.ExactArgs(1)), Example: "  steno user " + name + " ada",
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.changeUser(cmd.Context(), name+"d", names[0], store.UserChange{Disabled: &disabled}, "", asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) changeUser(ctx context.Context, what, name string, change store.UserChange, password string, asJSON bool) error {
	return a.record(ctx, func(s *store.Store) error {
		u, err := s.UserByName(ctx, name)
		if err != nil {
			return err
		}
		if u, err = s.ChangeUser(ctx, u.ID, change); err != nil {
			return err
		}
		return a.showAccount(what, accountOf(u, password), asJSON)
	})
}

// keyRow is a key as it is printed.
type keyRow struct {
	ID       string    `json:"key_id"`
	Name     string    `json:"name"`
	Prefix   string    `json:"prefix"`
	Created  time.Time `json:"created_at"`
	LastUsed time.Time `json:"last_used_at,omitzero"`
	Revoked  time.Time `json:"revoked_at,omitzero"`
	Key      string    `json:"key,omitempty"` // shown once
}

func keyRowOf(k store.APIKey, key string) keyRow {
	return keyRow{k.ID, k.Name, k.Prefix, k.Created, k.LastUsed, k.Revoked, key}
}

func (a *app) keyAddCmd() *cobra.Command {
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Make an API key, which is printed once", Args: args(cobra.ExactArgs(1)),
		Example: "  steno user key add ada --name nightly",
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx := cmd.Context()
			return a.record(ctx, func(s *store.Store) error {
				u, err := s.UserByName(ctx, names[0])
				if err != nil {
					return err
				}
				key, kept := api.NewAPIKey(u.ID, name)
				k, err := s.CreateAPIKey(ctx, kept)
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(a.std.out).Encode(keyRowOf(k, key))
				}
				_, err = fmt.Fprintf(a.std.out, "%s\n", key)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "key", "what it is for")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) keyListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list NAME", Short: "List an account's API keys", Args: args(cobra.ExactArgs(1)), Example: "  steno user key list ada",
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx := cmd.Context()
			return a.record(ctx, func(s *store.Store) error {
				u, err := s.UserByName(ctx, names[0])
				if err != nil {
					return err
				}
				keys, err := s.APIKeys(ctx, u.ID)
				if err != nil {
					return err
				}
				list := make([]keyRow, len(keys))
				for i, k := range keys {
					list[i] = keyRowOf(k, "")
				}
				if asJSON {
					return json.NewEncoder(a.std.out).Encode(list)
				}
				w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tNAME\tBEGINS\tLAST USED\tSTATE")
				for _, k := range list {
					state, used := "active", "never"
					if !k.Revoked.IsZero() {
						state = "revoked"
					}
					if !k.LastUsed.IsZero() {
						used = k.LastUsed.Format(time.DateTime)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, k.Prefix, used, state)
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) keyRevokeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME KEY-ID", Short: "Revoke one of an account's API keys", Args: args(cobra.ExactArgs(2)),
		Example: "  steno user key revoke ada 01JD3V9ZK6T2M8Q4R5S6T7V8W9",
		RunE: func(cmd *cobra.Command, words []string) error {
			ctx := cmd.Context()
			return a.record(ctx, func(s *store.Store) error {
				u, err := s.UserByName(ctx, words[0])
				if err != nil {
					return err
				}
				return s.RevokeAPIKey(ctx, u.ID, strings.ToUpper(words[1]))
			})
		},
	}
}
