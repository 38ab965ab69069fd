package store

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"steno/job"
)

// row is a task as the tests of the history see it.
type row struct {
	id      job.ID
	user    string
	name    string
	status  job.State
	created time.Time
}

// insert adds rows in one transaction, past CreateTask, so that times and states are free.
func (f *fixture) insert(file File, rows ...row) {
	f.t.Helper()
	err := f.tx(context.Background(), func(c session) error {
		for _, r := range rows {
			task := Task{
				ID: r.id, User: r.user, File: file.ID, FileName: r.name, SHA256: file.SHA256, Params: job.Params{}.WithDefaults(),
				Status: job.Queued, Stage: job.StageQueue, Created: r.created,
			}
			if _, err := c.addTask(context.Background(), task, NewTask{}); err != nil {
				return err
			}
			var ended any
			if r.status.Terminal() {
				ended = micros(r.created)
			}
			end := statement{"test", "UPDATE tasks SET status = $2, error_code = 'X', ended_at = $3 WHERE id = $1"}
			if _, err := c.exec(context.Background(), end, r.id, r.status, ended); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func newest(a, b row) int {
	return cmp.Or(b.created.Compare(a.created), cmp.Compare(b.id, a.id))
}

func (r row) matches(f Filter) bool {
	return (f.Status == "" || f.Status == r.status) && strings.HasPrefix(r.name, f.Prefix)
}

func ids(tasks []Task) []job.ID {
	list := []job.ID{}
	for _, t := range tasks {
		list = append(list, t.ID)
	}
	return list
}

func testHistory(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	eve := f.addUser("eve")
	file := f.addFile(f.user, "x", "x")
	var rows []row
	for i, name := range []string{"a.mp3", "ab.mp3", "b.mp3", "ab", "a%b", "a_b", "A.mp3", "Ärger", "日本", "日本語", "\U0010FFFE", "a\uD7FFx"} {
		rows = append(rows, row{job.NewID(), f.user.ID, name, []job.State{job.Done, job.Failed}[i%2], epoch.Add(time.Duration(i/3) * time.Second)})
	}
	f.insert(file, rows...)
	hers := row{job.NewID(), eve.ID, "ab", job.Done, epoch}
	f.insert(file, hers)

	for _, filter := range []Filter{
		{}, {Status: job.Done}, {Status: job.Queued}, {Prefix: "a"}, {Prefix: "ab"}, {Prefix: "a%"}, {Prefix: "a_"}, {Prefix: "A"},
		{Prefix: "Ä"}, {Prefix: "日本"}, {Prefix: "日本語"}, {Prefix: "\U0010FFFE"}, {Prefix: "a\uD7FF"}, {Prefix: "none"},
		{Status: job.Failed, Prefix: "a"},
	} {
		var want []row
		for _, r := range rows {
			if r.matches(filter) {
				want = append(want, r)
			}
		}
		slices.SortFunc(want, newest)
		wantIDs := []job.ID{}
		for _, r := range want {
			wantIDs = append(wantIDs, r.id)
		}
		tasks, next, err := f.History(ctx, f.user.ID, filter, "", 100)
		if err != nil || next != "" || !slices.Equal(ids(tasks), wantIDs) {
			t.Errorf("%+v: %v, %q, %v; want %v", filter, ids(tasks), next, err, wantIDs)
		}
		for page := 1; page <= 5; page++ {
			from, to := min(len(wantIDs), 4*(page-1)), min(len(wantIDs), 4*page)
			tasks, total, err := f.HistoryPage(ctx, f.user.ID, filter, page, 4)
			if err != nil || total != len(want) || !slices.Equal(ids(tasks), wantIDs[from:to]) {
				t.Errorf("%+v page %d: %v of %d, %v; want %v of %d", filter, page, ids(tasks), total, err, wantIDs[from:to], len(want))
			}
		}
	}

	everybody := append(slices.Clone(rows), hers)
	slices.SortFunc(everybody, newest)
	for i, cursor := 0, ""; ; i += 5 {
		tasks, next, err := f.AllHistory(ctx, Filter{}, cursor, 5)
		if err != nil {
			t.Fatal(err)
		}
		for k, task := range tasks {
			if task.ID != everybody[i+k].id {
				t.Errorf("of all users: %s, want %s", task.ID, everybody[i+k].id)
			}
		}
		if cursor = next; next == "" {
			if i+len(tasks) != len(everybody) {
				t.Errorf("%d tasks of all users, want %d", i+len(tasks), len(everybody))
			}
			break
		}
	}
	if tasks, _, err := f.AllHistory(ctx, Filter{Status: job.Done}, "", 100); err != nil || len(tasks) != 7 {
		t.Errorf("%d tasks of all users are done, %v", len(tasks), err)
	}
	if got, want := f.get(Task{ID: rows[0].id}), must(f.Task(ctx, f.user.ID, rows[0].id))(t); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %+v", got, want)
	}
}

func testHistoryErrors(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "x", "x")
	for range 3 {
		f.addTask(f.user, file)
	}
	_, cursor, err := f.History(ctx, f.user.ID, Filter{}, "", 2)
	if err != nil || cursor == "" || strings.ContainsAny(cursor, "+/=&?#") {
		t.Fatalf("cursor %q, %v", cursor, err)
	}
	flipped := []byte(cursor)
	flipped[20] ^= 1
	calls := map[string]func() error{}
	for name, c := range map[string]string{
		"text": "next", "damaged": string(flipped), "short": cursor[:len(cursor)-4], "long": cursor + "AAAA", "padded": cursor + "=",
		"huge": strings.Repeat("A", 1<<20),
	} {
		calls["BAD_CURSOR "+name] = func() error { _, _, err := f.History(ctx, f.user.ID, Filter{}, c, 2); return err }
	}
	calls["BAD_CURSOR filter"] = func() error {
		_, _, err := f.History(ctx, f.user.ID, Filter{Status: job.Queued}, cursor, 2)
		return err
	}
	calls["BAD_CURSOR prefix"] = func() error { _, _, err := f.History(ctx, f.user.ID, Filter{Prefix: "x"}, cursor, 2); return err }
	calls["BAD_CURSOR user"] = func() error { _, _, err := f.History(ctx, "eve", Filter{}, cursor, 2); return err }
	calls["BAD_CURSOR everybody"] = func() error { _, _, err := f.AllHistory(ctx, Filter{}, cursor, 2); return err }
	for _, limit := range []int{0, -1, 101} {
		calls[fmt.Sprint("BAD_LIMIT ", limit)] = func() error { _, _, err := f.History(ctx, f.user.ID, Filter{}, "", limit); return err }
		calls[fmt.Sprint("BAD_LIMIT page ", limit)] = func() error { _, _, err := f.HistoryPage(ctx, f.user.ID, Filter{}, 1, limit); return err }
	}
	for _, page := range []int{0, -1, 1 << 40} {
		calls[fmt.Sprint("BAD_PAGE ", page)] = func() error { _, _, err := f.HistoryPage(ctx, f.user.ID, Filter{}, page, 10); return err }
	}
	for name, filter := range map[string]Filter{
		"status": {Status: "odd"}, "NUL": {Prefix: "a\x00"}, "no text": {Prefix: "\xff"}, "last": {Prefix: "a\U0010FFFF"},
	} {
		calls["BAD_FILTER "+name] = func() error { _, _, err := f.History(ctx, f.user.ID, filter, "", 2); return err }
	}
	calls["BAD_FILTER everybody"] = func() error { _, _, err := f.AllHistory(ctx, Filter{Prefix: "a"}, "", 2); return err }
	for name, call := range calls {
		code, _, _ := strings.Cut(name, " ")
		if err := call(); err == nil || job.AsError(err).Class != job.Input || job.AsError(err).Code != code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tasks, total, err := f.HistoryPage(ctx, f.user.ID, Filter{}, 1<<30, 100); err != nil || total != 3 || len(tasks) != 0 {
		t.Errorf("far beyond the end: %v of %d, %v", tasks, total, err)
	}
}

// Walks through a history in which most times are equal, while others add to it between the pages.
func testHistoryWalk(t *testing.T, e engine) {
	f, ctx := open(t, e), t.Context()
	file := f.addFile(f.user, "x", "x")
	rapid.Check(t, func(r *rapid.T) {
		user := f.user.ID
		if err := clear(f); err != nil {
			r.Fatal(err)
		}
		draw := func(label string, most int) []row {
			var rows []row
			for range rapid.IntRange(0, most).Draw(r, label) {
				rows = append(rows, row{
					job.NewID(), user, rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(r, "name"),
					rapid.SampledFrom([]job.State{job.Queued, job.Done}).Draw(r, "status"),
					epoch.Add(time.Duration(rapid.IntRange(0, 3).Draw(r, "time")) * time.Microsecond),
				})
			}
			return rows
		}
		rows := draw("rows", 40)
		f.insert(file, rows...)
		filter := Filter{
			Status: rapid.SampledFrom([]job.State{"", job.Done}).Draw(r, "filter status"),
			Prefix: rapid.SampledFrom([]string{"", "a", "ab"}).Draw(r, "filter prefix"),
		}
		limit := rapid.IntRange(1, 9).Draw(r, "limit")
		all := slices.Clone(rows)
		adds := rapid.IntRange(0, 8).Draw(r, "adds") // a bound: additions may outrun a walk of small pages
		add := func() {
			if adds--; adds < 0 {
				return
			}
			added := draw("added", 3)
			f.insert(file, added...)
			all = append(all, added...)
		}
		var walked, paged []job.ID
		for cursor := ""; ; add() {
			tasks, next, err := f.History(ctx, user, filter, cursor, limit)
			if err != nil || len(tasks) > limit || next != "" && len(tasks) < limit {
				r.Fatalf("page of %d, next %q, %v", len(tasks), next, err)
			}
			walked = append(walked, ids(tasks)...)
			if cursor = next; next == "" {
				break
			}
		}
		adds = rapid.IntRange(0, 8).Draw(r, "adds")
		began := slices.Clone(all)
		for page := 1; ; page++ {
			tasks, total, err := f.HistoryPage(ctx, user, filter, page, limit)
			if err != nil {
				r.Fatal(err)
			}
			checkPage(r, all, filter, page, limit, tasks, total)
			paged = append(paged, ids(tasks)...)
			if len(tasks) < limit {
				break
			}
			add()
		}
		checkWalk(r, rows, all, filter, walked)
		for _, b := range began { // offset pages may repeat, but leave nothing out
			if b.matches(filter) && !slices.Contains(paged, b.id) {
				r.Fatalf("offset pages left out %s", b.id)
			}
		}
	})
}

// checkPage holds an offset page to the same slice of all rows.
func checkPage(r *rapid.T, all []row, filter Filter, page, limit int, tasks []Task, total int) {
	var match []row
	for _, a := range all {
		if a.matches(filter) {
			match = append(match, a)
		}
	}
	slices.SortFunc(match, newest)
	want := []job.ID{}
	for _, m := range match[min(len(match), (page-1)*limit):min(len(match), page*limit)] {
		want = append(want, m.id)
	}
	if total != len(match) || !slices.Equal(ids(tasks), want) {
		r.Fatalf("page %d: %v of %d, want %v of %d", page, ids(tasks), total, want, len(match))
	}
}

// checkWalk holds a walk to its promise: in order, nothing twice, nothing left out that was there at its start.
func checkWalk(r *rapid.T, before, all []row, filter Filter, walked []job.ID) {
	byID := map[job.ID]row{}
	for _, a := range all {
		byID[a.id] = a
	}
	for i, id := range walked {
		if !byID[id].matches(filter) {
			r.Fatalf("%s does not match", id)
		}
		if i > 0 && newest(byID[walked[i-1]], byID[id]) >= 0 {
			r.Fatalf("%s comes before or twice", id)
		}
	}
	for _, b := range before {
		if b.matches(filter) && !slices.Contains(walked, b.id) {
			r.Fatalf("the walk left out %s", b.id)
		}
	}
}

func clear(f *fixture) error {
	_, err := f.write.Exec("DELETE FROM tasks")
	return err
}

func FuzzCursor(f *testing.F) {
	sc := scope{user: "u"}
	p := position{1234567, job.NewID()}
	f.Add(p.cursor(sc))
	f.Add("")
	f.Add("!!!")
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, cursorLength)))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseCursor(text, sc)
		if err != nil {
			if job.AsError(err).Code != "BAD_CURSOR" {
				t.Fatal(err)
			}
			return
		}
		if text != "" && p.cursor(sc) != text {
			t.Fatalf("%q is read as %+v, which is %q", text, p, p.cursor(sc))
		}
	})
}

func FuzzPrefix(f *testing.F) {
	for _, s := range []string{"a", "ab", "\uD7FF", "日本", "\U0010FFFE", "z\x7f"} {
		f.Add(s, s+"x")
		f.Add(s, "b")
	}
	f.Fuzz(func(t *testing.T, prefix, name string) {
		if !validName(prefix) || !validName(name) {
			return
		}
		if in := name >= prefix && name < afterPrefix(prefix); in != strings.HasPrefix(name, prefix) {
			t.Fatalf("%q in the range of %q: %v", name, prefix, in)
		}
	})
}
