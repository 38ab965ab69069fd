//go:build cgo

package whisper

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// here are the kernels of p that this CPU has, the best first.
func (p products) here() []level {
	var all []level
	for l := p.best(best); l > 0; l = p.best(l - 1) {
		all = append(all, l)
	}
	return all
}

// agree holds all kernels of p that this CPU has to the library's for all shapes, and the best of them to being used.
func agree(t *testing.T, p products, shapes []shape, relativeError func(shape) float64) {
	before := p.used()
	if want := p.best(best); before != want {
		t.Errorf("%s is there, and %s is used: those before it have failed their trial", want, before)
	}
	defer p.use(before)
	for _, l := range p.here() {
		p.use(l)
		for _, s := range shapes {
			t.Run(fmt.Sprintf("%s/%+v", l, s), func(t *testing.T) {
				e := relativeError(s)
				t.Logf("relative error %.5f", e)
				if !(e >= 0 && e <= maxMatrixError) {
					t.Errorf("relative error %g, want at most %g", e, maxMatrixError)
				}
			})
		}
	}
}

// WithEachColumns runs a test with every set of kernels that this CPU has for few columns, and tells it whether it is the best.
func WithEachColumns(t *testing.T, test func(t *testing.T, best bool)) {
	setUp()
	defer columns.use(columns.used())
	for _, l := range columns.here() {
		columns.use(l)
		t.Run(l.String(), func(t *testing.T) { test(t, l == columns.best(best)) })
	}
}

// TestKernelsFollowTheCPU compares what we find of a CPU with what the system says of it.
func TestKernelsFollowTheCPU(t *testing.T) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Log("this system has no list of its CPU's instructions: there is nothing to compare")
		return
	}
	_, flags, _ := strings.Cut(string(info), "\nflags")
	flags, _, _ = strings.Cut(flags, "\n")
	has := strings.Fields(flags)
	for l, need := range map[string][]string{
		"avx2":    {"avx2", "fma", "f16c"},
		"avxvnni": {"avx2", "fma", "f16c", "avx_vnni"},
		"avx512":  {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "fma"},
	} {
		want := !slices.ContainsFunc(need, func(flag string) bool { return !slices.Contains(has, flag) })
		if got := slices.Contains(columns.here(), level(slices.Index(levels, l))); got != want {
			t.Errorf("%s is found: %t, the system says %t", l, got, want)
		}
	}
}

// TestKernelsAreLimited goes down, as Options.Kernels does: those taken back do not come again.
func TestKernelsAreLimited(t *testing.T) {
	setUp()
	m, c := matrix.used(), columns.used()
	defer matrix.use(m)
	defer columns.use(c)
	for _, name := range []string{"auto", "avx512", "avxvnni", "avx2", "ggml", "avx512"} {
		limitKernels(name)
		if most := slices.Index(levels, name); most >= 0 {
			m, c = min(m, matrix.best(level(most))), min(c, columns.best(level(most)))
		}
		if matrix.used() != m || columns.used() != c {
			t.Errorf("%s: %s and %s are used, want %s and %s", name, matrix.used(), columns.used(), m, c)
		}
	}
}
