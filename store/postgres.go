package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// connectPostgres opens one pool for all.
func connectPostgres(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	pc, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, badDatabase("read the database's address: %w", err) // pgx leaves the password out
	}
	db := stdlib.OpenDB(*pc, stdlib.OptionAfterConnect(prepareConnection))
	db.SetMaxOpenConns(cfg.Connections)
	db.SetMaxIdleConns(cfg.Connections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open PostgreSQL: %w", err), db.Close())
	}
	return &Store{read: db, write: db, dialect: postgres, cfg: cfg}, nil
}

// prepareConnection has statements planned for the values at hand: which index serves best depends on whether a user has ten
// tasks or a million, and PostgreSQL's plan for all values cannot know.
func prepareConnection(ctx context.Context, c *pgx.Conn) error {
	if encoding := c.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" {
		return badDatabase("the database's encoding is %s: make one with ENCODING 'UTF8'", encoding)
	}
	if _, err := c.Exec(ctx, "SET plan_cache_mode = force_custom_plan"); err != nil {
		return fmt.Errorf("prepare connection: %w", err)
	}
	return nil
}
