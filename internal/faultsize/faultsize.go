// Package faultsize says how much a test of the fault programme injects, and from which seed: a little in every run of the tests,
// and the full number where the programme asks for it.
package faultsize

import (
	"os"
	"strconv"
	"testing"
)

// The variables that a run sets to ask for more than a test does by itself.
const (
	sizeVar = "STENO_FAULT_SIZE"
	seedVar = "STENO_FAULT_SEED"
)

// Size is how much the test injects: the number in STENO_FAULT_SIZE, or def where there is none. What is no number above 0 fails
// the test.
func Size(t testing.TB, def int) int {
	t.Helper()
	text := os.Getenv(sizeVar)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: want a number from 1 on", sizeVar, text)
	}
	return n
}

// Seed is what the test's choices come from: the number in STENO_FAULT_SEED, or 1. It is logged, so that a failure can be had
// again. What is no number fails the test.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(1)
	if text := os.Getenv(seedVar); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s is %q: want a number from 0 on", seedVar, text)
		}
	}
	t.Logf("%s=%d", seedVar, seed)
	return seed
}
