//go:build failpoints

package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"

	"steno/internal/failpoint"
)

// sqliteDriver is the name of a driver that passes all on to modernc.org/sqlite, but has statements and commits fail where
// STENO_STORE_ERRORS says so.
const sqliteDriver = "sqlite-broken"

func init() {
	db, err := sql.Open("sqlite", "")
	if err != nil {
		panic(err)
	}
	b := &broken{Driver: db.Driver()}
	if err := db.Close(); err != nil {
		panic(err)
	}
	if text := os.Getenv(failpoint.StoreErrors); text != "" {
		var seed uint64
		// A mistake ends the program, for a test that breaks nothing shows nothing.
		if n, err := fmt.Sscanf(text, "%d@%d", &b.oneIn, &seed); n != 2 || err != nil || b.oneIn < 1 {
			panic(fmt.Sprintf("%s: %q is not such as 100@7", failpoint.StoreErrors, text))
		}
		b.rand = rand.New(rand.NewPCG(seed, 8))
	}
	sql.Register(sqliteDriver, b)
}

// healthy is the number of statements that go well in any case, so that the program gets to work.
const healthy = 200

type broken struct {
	driver.Driver
	oneIn int // 0: none fails

	mu   sync.Mutex
	rand *rand.Rand
	seen int
}

// errBroken is what SQLite says of a disk that does not write.
var errBroken = errors.New("disk I/O error (10)")

// fails says whether a statement is to fail.
func (b *broken) fails() error {
	if b.oneIn == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen++; b.seen < healthy || b.rand.IntN(b.oneIn) > 0 {
		return nil
	}
	fmt.Fprintln(os.Stderr, "failpoint: statement fails")
	return errBroken
}

func (b *broken) Open(name string) (driver.Conn, error) {
	c, err := b.Driver.Open(name)
	if err != nil {
		return nil, err
	}
	whole, ok := c.(conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's connection %T lacks a method", c), c.Close())
	}
	return &brokenConn{whole, b}, nil
}

// conn is what modernc's connections can do, as far as database/sql asks.
type conn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type brokenConn struct {
	conn
	b *broken
}

func (c *brokenConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.b.fails(); err != nil {
		return nil, err
	}
	return c.conn.ExecContext(ctx, query, args)
}

func (c *brokenConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.b.fails(); err != nil {
		return nil, err
	}
	return c.conn.QueryContext(ctx, query, args)
}

func (c *brokenConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.conn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &brokenTx{tx, c.b}, nil
}

type brokenTx struct {
	driver.Tx
	b *broken
}

// Commit that fails has rolled the transaction back, as SQLite does on errors of the disk.
func (t *brokenTx) Commit() error {
	if err := t.b.fails(); err != nil {
		return errors.Join(err, t.Rollback())
	}
	return t.Tx.Commit()
}
