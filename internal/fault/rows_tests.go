package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"steno/internal/proc"
)

// testRow is a row whose faults are injected by a test of a package, with a size and a seed.
func testRow(pkg, name string) func(*run, context.Context, *injection, int) (Row, error) {
	return func(r *run, ctx context.Context, _ *injection, n int) (Row, error) {
		out, err := r.tool(ctx, []string{fmt.Sprintf("STENO_FAULT_SIZE=%d", n), fmt.Sprintf("STENO_FAULT_SEED=%d", r.Seed)},
			"go", "test", "-count=1", "-timeout", "2h", "-v", "-run", "^"+name+"$", pkg)
		row := Row{}
		for line := range strings.Lines(string(out)) { // of testing.T.Attr: === ATTR  Test key value
			f := strings.SplitN(strings.TrimSpace(line), " ", 6)
			if len(f) < 6 || f[0] != "===" || f[1] != "ATTR" {
				continue
			}
			switch f[4] {
			case "injected":
				k, err := strconv.Atoi(strings.TrimSpace(f[5]))
				if err != nil {
					return row, fmt.Errorf("%s says that it injected %q", name, f[5])
				}
				row.Injected += k
			case "noted":
				row.Notes = append(row.Notes, f[5])
			}
		}
		if err == nil && row.Injected == 0 {
			err = errors.New("it injected nothing")
		}
		if err != nil {
			row.Verdict.Wrong = append(row.Verdict.Wrong, fmt.Sprintf("%s: %v: %s", name, err, tail(out)))
		}
		return row, nil
	}
}

// fuzzed are the targets of F19: job JSON, names, what ffprobe says, the merge, the writers of subtitles, the engine's frames,
// tokens, and ranges.
const fuzzed = ` Fuzz(ParseMessage|CleanName|ParseProbe|Merge|Writers|Frames|Token|Range)$`

// fuzz runs the fuzz targets for ten minutes each (F19); n is how many there are at least.
func (r *run) fuzz(ctx context.Context, _ *injection, n int) (Row, error) {
	out, err := r.tool(ctx, []string{"FUZZTIME=10m"}, "nice", "-n", "19", filepath.Join(r.Root, "scripts/fuzz.sh"), fuzzed)
	row := Row{}
	for line := range strings.Lines(string(out)) { // package target executions interesting crashes
		f := strings.Fields(line)
		if len(f) != 5 || !strings.HasPrefix(f[1], "Fuzz") {
			continue
		}
		row.Injected++
		row.Notes = append(row.Notes, fmt.Sprintf("%s %s", f[1], f[2]))
	}
	if err == nil && row.Injected < n {
		err = fmt.Errorf("there are %d targets, want %d", row.Injected, n)
	}
	if err != nil {
		row.Verdict.Wrong = append(row.Verdict.Wrong, fmt.Sprintf("fuzz: %v: %s", err, tail(out)))
	}
	return row, nil
}

// tool runs a program of the repository and keeps what it says in the row's folder.
func (r *run) tool(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	path := name
	if strings.Contains(name, "/") {
		path = filepath.Join(r.Root, name)
	}
	cmd := proc.Command(ctx, path, args...)
	var out bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.Root, append(os.Environ(), env...), &out, &out
	err := proc.Run(ctx, cmd)
	return out.Bytes(), errors.Join(err, os.WriteFile(filepath.Join(r.site.folder, "out.log"), out.Bytes(), 0o600))
}

func tail(out []byte) []byte { return out[max(0, len(out)-2000):] }
