//go:build !failpoints

package store

// sqliteDriver is the name of modernc.org/sqlite's driver.
const sqliteDriver = "sqlite"
