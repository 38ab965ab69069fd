package store

import (
	"strings"
	"testing"

	"steno/internal/testhistory"
)

// fillMany adds n tasks; see testhistory.Fill.
func fillMany(t testing.TB, s *Store, n int, mine string) {
	t.Helper()
	if err := testhistory.Fill(t.Context(), s.write, s.Engine(), n, mine); err != nil {
		t.Fatal(err)
	}
}

// Every statement that matters uses its index, with statistics and, on SQLite, which gathers none by itself, without.
func testExplain(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	if plans := must(f.Explain(ctx))(t); len(plans) < 20 {
		t.Errorf("%d plans of an empty database", len(plans))
	}
	fillMany(t, f.Store, 40000, "i % 5 = 0")
	check := func(when string) {
		t.Helper()
		for _, p := range must(f.Explain(ctx))(t) {
			if !p.Used {
				t.Errorf("%s: %s uses none of %v:\n%s\n%s", when, p.Name, p.Indexes, strings.Join(p.Lines, "\n"), p.SQL)
			}
			broad := strings.HasSuffix(p.Name, ".prefix")
			if broad && f.Engine() == "sqlite" && strings.Contains(strings.Join(p.Lines, "\n"), "tasks_user_file_name") {
				t.Errorf("%s: %s does not read in the order of time:\n%s", when, p.Name, strings.Join(p.Lines, "\n"))
			}
			if strings.HasPrefix(p.Name, "history.after") && !strings.Contains(p.Name, "prefix") {
				for _, line := range p.Lines {
					if strings.Contains(line, "TEMP B-TREE") || strings.Contains(line, "Sort") {
						t.Errorf("%s: %s sorts:\n%s", when, p.Name, strings.Join(p.Lines, "\n"))
					}
				}
			}
		}
	}
	gather := "VACUUM ANALYZE"
	if f.Engine() == "sqlite" {
		check("before ANALYZE")
		gather = "ANALYZE"
	}
	if _, err := f.write.Exec(gather); err != nil {
		t.Fatal(err)
	}
	check("after ANALYZE")

	// And the test notices when an index is gone.
	if _, err := f.write.Exec("DROP INDEX tasks_user_status"); err != nil {
		t.Fatal(err)
	}
	missed := false
	for _, p := range must(f.Explain(ctx))(t) {
		missed = missed || p.Name == "history.after.status" && !p.Used
	}
	if !missed {
		t.Error("history.after.status is said to use an index that is not there")
	}
}
