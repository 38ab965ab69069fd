package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"steno/job"
)

// Migrations are files named by version, one folder per database; what has been released is never changed. They only go
// forward: who wants to go back restores a backup.
//
//go:embed migrations
var migrationFiles embed.FS

type migration struct {
	version int
	name    string
	sql     string
}

// migrations returns those of a database in their order; versions are 1, 2, 3, ….
func (d dialect) migrations() ([]migration, error) {
	dir := path.Join("migrations", d.name)
	files, err := fs.ReadDir(migrationFiles, dir) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	list := make([]migration, len(files))
	for i, f := range files {
		number, _, _ := strings.Cut(f.Name(), "_")
		if version, err := strconv.Atoi(number); err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s is not number %d", f.Name(), i+1)
		}
		text, err := fs.ReadFile(migrationFiles, path.Join(dir, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		list[i] = migration{i + 1, strings.TrimSuffix(f.Name(), ".sql"), string(text)}
	}
	return list, nil
}

// migrate applies what is missing up to version upTo, 0 for all there is, in one transaction that other processes wait for.
// It returns the versions before and after.
func (s *Store) migrate(ctx context.Context, upTo int) (from, to int, err error) {
	list, err := s.dialect.migrations()
	if err != nil {
		return 0, 0, err
	}
	if upTo == 0 {
		upTo = len(list)
	}
	err = s.tx(ctx, func(c session) error {
		if c.dialect.lock != "" {
			if _, err := c.exec(ctx, statement{Name: "migrate.lock", SQL: c.dialect.lock}); err != nil {
				return err
			}
		}
		if _, err := c.exec(ctx, makeVersions); err != nil {
			return err
		}
		if from, err = c.version(ctx, len(list)); err != nil {
			return err
		}
		for to = from; to < upTo; to++ {
			if err := s.run(ctx, c, list[to]); err != nil {
				return err
			}
		}
		return nil
	})
	return from, to, err
}

func (s *Store) run(ctx context.Context, c session, m migration) error {
	for _, sql := range splitStatements(m.sql) {
		if _, err := c.exec(ctx, statement{Name: "migration " + m.name, SQL: sql}); err != nil {
			return err
		}
	}
	_, err := c.exec(ctx, addVersion, m.version, m.name, micros(s.now()))
	return err
}

// splitStatements cuts a migration at semicolons that end a line; migrations hold none within.
func splitStatements(text string) []string {
	var list []string
	for _, part := range strings.SplitAfter(text, ";\n") {
		if strings.TrimSpace(part) != "" {
			list = append(list, part)
		}
	}
	return list
}

// version is the database's; one that is newer than known is refused, for this program does not know what it would break.
func (c session) version(ctx context.Context, known int) (int, error) {
	var version int
	if err := c.row(ctx, readVersion).Scan(&version); err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if version > known {
		return 0, job.Errorf(job.Input, "DATABASE_TOO_NEW", "the database has schema version %d, and this steno knows %d: "+
			"run the steno that wrote it, or a newer one", version, known)
	}
	return version, nil
}

// requireSchema refuses a database that is not up to date.
func (s *Store) requireSchema(ctx context.Context) error {
	list, err := s.dialect.migrations()
	if err != nil {
		return err
	}
	tooOld := func(version int) error {
		return job.Errorf(job.Input, "DATABASE_TOO_OLD", "the database has schema version %d, and this steno needs %d: "+
			"run `steno db migrate`", version, len(list))
	}
	c := s.reader()
	if there, err := exists(ctx, c, statement{Name: "migrate.find", SQL: s.dialect.versions}); err != nil {
		return err
	} else if !there {
		return tooOld(0)
	}
	if version, err := c.version(ctx, len(list)); err != nil {
		return err
	} else if version < len(list) {
		return tooOld(version)
	}
	return nil
}
