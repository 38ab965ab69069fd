package config

import (
	"errors"
	"fmt"

	"steno/job"
)

// Code is the stable code of every error of Load.
const Code = "BAD_CONFIG"

func badConfig(err error) error {
	return &job.Error{Class: job.Input, Code: Code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// wrong names the key and where its value was written, so that one knows which of the sources to change.
func wrong(key, where string, err error) error {
	if where == "default" {
		return fmt.Errorf("%s: %w", key, err)
	}
	return fmt.Errorf("%s (from %s): %w", key, where, err)
}

func unknown(kind, name string, known []string) error {
	return fmt.Errorf("unknown %s %s: the nearest known name is %s", kind, name, nearest(name, known))
}

func secretFlag(f field) error {
	return fmt.Errorf("%s must not be a flag, which every user of the machine can read: set %s, or %s in the file",
		f.Flag(), f.Env(), f.Name)
}

// nearest returns the known name with the fewest edits to name, the first of equals.
func nearest(name string, known []string) string {
	best, fewest := "", int(^uint(0)>>1)
	for _, k := range known {
		if d := edits(name, k); d < fewest {
			best, fewest = k, d
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
