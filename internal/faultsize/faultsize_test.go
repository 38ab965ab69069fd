package faultsize

import (
	"fmt"
	"runtime"
	"testing"
)

// recorder is a test that notes what is told to it.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Helper()                        {}
func (r *recorder) Logf(format string, a ...any)   { r.said += fmt.Sprintf(format, a...) }
func (r *recorder) Fatalf(format string, a ...any) { r.Logf(format, a...); runtime.Goexit() }

func TestSizeAndSeed(t *testing.T) {
	for _, c := range []struct {
		size, seed string
		wantSize   int
		wantSeed   uint64
		said       string
	}{
		{"", "", 7, 1, "STENO_FAULT_SEED=1"},
		{"10000", "0", 10000, 0, "STENO_FAULT_SEED=0"},
		{"1", "18446744073709551615", 1, 1<<64 - 1, "STENO_FAULT_SEED=18446744073709551615"},
		{"0", "", 0, 0, `STENO_FAULT_SIZE is "0": want a number from 1 on`},
		{"-5", "", 0, 0, `STENO_FAULT_SIZE is "-5": want a number from 1 on`},
		{"1e4", "", 0, 0, `STENO_FAULT_SIZE is "1e4": want a number from 1 on`},
		{"", "-1", 7, 0, `STENO_FAULT_SEED is "-1": want a number from 0 on`},
		{"", "today", 7, 0, `STENO_FAULT_SEED is "today": want a number from 0 on`},
	} {
		t.Setenv(sizeVar, c.size)
		t.Setenv(seedVar, c.seed)
		r := &recorder{TB: t}
		size, seed, done := 0, uint64(0), make(chan struct{})
		go func() {
			defer close(done)
			size = Size(r, 7)
			seed = Seed(r)
		}()
		<-done
		if size != c.wantSize || seed != c.wantSeed || r.said != c.said {
			t.Errorf("%q, %q: size %d, seed %d, said %q; want %d, %d, %q",
				c.size, c.seed, size, seed, r.said, c.wantSize, c.wantSeed, c.said)
		}
	}
}
