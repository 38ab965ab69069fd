package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"steno/internal/testpg"
	"steno/store"
)

func TestDB(t *testing.T) {
	dir := t.TempDir()
	for name, dsn := range map[string]string{
		"default":    "",
		"sqlite":     filepath.Join(dir, "other.db"),
		"postgresql": testpg.Start(t, "fsync=off").Database(t),
	} {
		t.Run(name, func(t *testing.T) {
			steno := func(want int, args ...string) (stdout, stderr string) {
				t.Helper()
				var out, errs bytes.Buffer
				args = append([]string{"db"}, args...)
				if dsn != "" {
					args = append(args, "--db", dsn)
				}
				env := []string{"HOME=" + dir, "STENO_DATA=" + filepath.Join(dir, "data")}
				if code := run(t.Context(), args, streams{strings.NewReader(""), &out, &errs}, env); code != want {
					t.Fatalf("steno %v: exit code %d, want %d: %s", args, code, want, &errs)
				}
				return out.String(), errs.String()
			}
			wantCode := exitFailed // an empty PostgreSQL database is there, and too old
			if name != "postgresql" {
				wantCode = exitUsage // a file is not
			}
			if _, stderr := steno(wantCode, "explain"); !strings.Contains(stderr, "steno db migrate") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("before there are tables: %q", stderr)
			}
			if out, _ := steno(exitOK, "migrate"); !strings.Contains(out, "from schema version 0 to ") {
				t.Errorf("migrate: %q", out)
			}
			var versions map[string]int
			out, _ := steno(exitOK, "migrate", "--json")
			if err := json.Unmarshal([]byte(out), &versions); err != nil || versions["from"] != versions["to"] || versions["to"] < 3 {
				t.Errorf("migrate again: %q, %v", out, err)
			}
			out, _ = steno(exitOK, "explain")
			if !strings.Contains(out, "history.after.status\n      ") {
				t.Errorf("explain: %q", out)
			}
			var plans []store.Plan
			out, _ = steno(exitOK, "explain", "--json")
			if err := json.Unmarshal([]byte(out), &plans); err != nil || len(plans) < 20 || len(plans[0].Lines) == 0 {
				t.Errorf("explain as JSON: %q, %v", out, err)
			}
		})
	}
	var errs bytes.Buffer
	args := []string{"db", "migrate", "--db", "mysql://host/x"}
	if code := run(t.Context(), args, streams{strings.NewReader(""), &errs, &errs}, []string{"HOME=" + dir}); code != exitUsage {
		t.Errorf("mysql: exit code %d, %s", code, &errs)
	}
}
