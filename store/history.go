package store

import (
	"context"
	"fmt"
	"math"
	"strings"

	"steno/job"
)

// Filter picks tasks of a history. The zero value picks all.
type Filter struct {
	Status job.State
	// Prefix is how the file's name begins; upper and lower case differ.
	Prefix string
}

// MaxLimit is the most rows that a page of a history may have.
const MaxLimit = 100

// History returns up to limit (1 to MaxLimit) of the user's tasks, newest first, and the cursor of the next page, which is empty
// on the last. An empty cursor is the first page. A cursor goes with its user and filter and is good for ever.
//
// A walk from page to page sees each task that was there when it began exactly once, whatever is added meanwhile and however
// many have the same time; a task that is deleted before the walk comes to it is not seen. A page costs the same wherever it is.
//
// Codes: BAD_LIMIT, BAD_FILTER, BAD_CURSOR.
func (s *Store) History(ctx context.Context, user string, f Filter, cursor string, limit int) (_ []Task, next string, _ error) {
	return s.history(ctx, scope{user: user, Filter: f}, cursor, limit)
}

// AllHistory is History over the tasks of all users, for administrators. Its filter has no prefix.
func (s *Store) AllHistory(ctx context.Context, f Filter, cursor string, limit int) (_ []Task, next string, _ error) {
	if f.Prefix != "" {
		return nil, "", bad("BAD_FILTER", "the history of all users has no filter by file name: leave it out")
	}
	return s.history(ctx, scope{everybody: true, Filter: f}, cursor, limit)
}

func (s *Store) history(ctx context.Context, sc scope, cursor string, limit int) ([]Task, string, error) {
	if err := sc.check(limit); err != nil {
		return nil, "", err
	}
	from, err := parseCursor(cursor, sc)
	if err != nil {
		return nil, "", err
	}
	c := s.reader()
	if sc.narrow, err = c.isNarrow(ctx, sc); err != nil {
		return nil, "", forUser(ctx, "read the history", err)
	}
	q, args := sc.after(from, limit+1) // one more tells whether there is another page
	tasks, err := all(ctx, c, scanTask, q, args...)
	if err != nil {
		return nil, "", forUser(ctx, "read the history", err)
	}
	if len(tasks) <= limit {
		return tasks, "", nil
	}
	tasks = tasks[:limit]
	last := tasks[limit-1]
	return tasks, position{last.Created.UnixMicro(), last.ID}.cursor(sc), nil
}

// HistoryPage returns page number page, from 1, of limit (1 to MaxLimit) of the user's tasks each, newest first, and how many
// there are on all pages, both of the same moment. A page beyond the last is empty.
//
// Pages move on when tasks are added: a walk from page to page still sees each task that was there when it began, some of them
// twice. The database counts through all rows before a page, so that late pages of long histories are slow; History is not.
//
// Codes: BAD_LIMIT, BAD_PAGE, BAD_FILTER.
func (s *Store) HistoryPage(ctx context.Context, user string, f Filter, page, limit int) (tasks []Task, total int, err error) {
	sc := scope{user: user, Filter: f}
	if err := sc.check(limit); err != nil {
		return nil, 0, err
	}
	if page < 1 || page > math.MaxInt32 {
		return nil, 0, bad("BAD_PAGE", "page %d does not exist: pages count from 1", page)
	}
	err = s.snapshot(ctx, func(c session) (err error) {
		if sc.narrow, err = c.isNarrow(ctx, sc); err != nil {
			return err
		}
		q, args := sc.count()
		if err := c.row(ctx, q, args...).Scan(&total); err != nil {
			return fmt.Errorf("%s: %w", q.Name, err)
		}
		q, args = sc.page((page-1)*limit, limit)
		tasks, err = all(ctx, c, scanTask, q, args...)
		return err
	})
	if err != nil {
		return nil, 0, forUser(ctx, "read the history", err)
	}
	return tasks, total, nil
}

// scope is the tasks that a history is about.
type scope struct {
	user      string
	everybody bool // and not only user
	Filter
	// narrow says that few file names have the prefix, so that it is best to gather and sort them; else it is best to read in the
	// order of time and pick.
	narrow bool
}

// fewNames is the number of rows up to which a prefix is narrow. SQLite takes 20 ms to sort as many. With more, one row in a
// hundred matches in a history of a million, so that a page of 100 is found among the next 10,000.
const fewNames = 10_000

// isNarrow asks the index of names, for SQLite knows nothing of how values are spread.
func (c session) isNarrow(ctx context.Context, sc scope) (bool, error) {
	if sc.Prefix == "" {
		return false, nil
	}
	many, err := exists(ctx, c, hasManyNames, sc.user, sc.Prefix, afterPrefix(sc.Prefix), fewNames)
	return !many, err
}

func (sc scope) check(limit int) error {
	switch {
	case limit < 1 || limit > MaxLimit:
		return bad("BAD_LIMIT", "a page cannot have %d rows: ask for 1 to %d", limit, MaxLimit)
	case sc.Prefix != "" && !validName(sc.Prefix):
		return bad("BAD_FILTER", "%q cannot be the beginning of a file name", sc.Prefix)
	case sc.Status != "" && sc.Status != job.Queued && sc.Status != job.Running && !sc.Status.Terminal():
		return bad("BAD_FILTER", "status %q is not known: choose queued, running, done, failed or cancelled", sc.Status)
	}
	return nil
}

// hide keeps SQLite from looking a column up in an index: its dialect makes a unary plus of it. PostgreSQL, which knows how the
// values are spread, reads a comment and decides for itself.
const hide = "/*+*/"

// where is the scope's condition with its values, $1 and up, and its name. With a narrow prefix all but the name is hidden, with
// any other the name is.
func (sc scope) where() (name, condition string, args []any) {
	var terms []string
	add := func(term string, value any) {
		args = append(args, value)
		terms = append(terms, fmt.Sprintf("%s $%d", term, len(args)))
	}
	if sc.everybody {
		name = ".everybody"
	} else {
		add("user_id =", sc.user)
	}
	switch {
	case sc.Status != "" && sc.narrow:
		add(hide+"status =", string(sc.Status))
	case sc.Status != "":
		add("status =", string(sc.Status))
	}
	if sc.Status != "" {
		name += ".status"
	}
	if sc.Prefix != "" {
		name += ".prefix"
		column := hide + "file_name"
		if sc.narrow {
			name += ".narrow"
			column = "file_name"
		}
		add(column+" >=", sc.Prefix)
		add(column+" <", afterPrefix(sc.Prefix))
	}
	if len(terms) == 0 {
		return name, "TRUE", args
	}
	return name, strings.Join(terms, " AND "), args
}

// time is by what the history is ordered.
func (sc scope) time() string {
	if sc.narrow {
		return hide + "created_at"
	}
	return "created_at"
}

// newestFirst is the order, as the index for it has it.
func (sc scope) newestFirst() string {
	if sc.everybody {
		return " ORDER BY created_at DESC NULLS LAST, id DESC NULLS LAST"
	}
	return " ORDER BY " + sc.time() + " DESC, id DESC"
}

// after is the page that follows a position.
func (sc scope) after(p position, limit int) (statement, []any) {
	name, where, args := sc.where()
	n := len(args)
	sql := fmt.Sprintf("SELECT %s FROM tasks WHERE %s AND (%s, id) < ($%d, $%d)%s LIMIT $%d",
		taskColumns, where, sc.time(), n+1, n+2, sc.newestFirst(), n+3)
	return statement{Name: "history.after" + name, SQL: sql}, append(args, p.created, string(p.id), limit)
}

// page is the page that has so many rows before it.
func (sc scope) page(offset, limit int) (statement, []any) {
	name, where, args := sc.where()
	n := len(args)
	sql := fmt.Sprintf("SELECT %s FROM tasks WHERE %s%s LIMIT $%d OFFSET $%d",
		taskColumns, where, sc.newestFirst(), n+1, n+2)
	return statement{Name: "history.page" + name, SQL: sql}, append(args, limit, offset)
}

// count is best done in the index of names, however many have the prefix.
func (sc scope) count() (statement, []any) {
	sc.narrow = sc.Prefix != ""
	name, where, args := sc.where()
	return statement{Name: "history.count" + name, SQL: "SELECT count(*) FROM tasks WHERE " + where}, args
}

// afterPrefix is the first text that sorts behind all that begins with prefix, by bytes, which is by characters in UTF-8. The
// prefix has no U+10FFFF, so its last character has a next.
func afterPrefix(prefix string) string {
	runes := []rune(prefix)
	last := &runes[len(runes)-1]
	*last++
	if *last == 0xD800 { // surrogates are no characters
		*last = 0xE000
	}
	return string(runes)
}

// position is a place in a history: right behind the task of this time and id.
type position struct {
	created int64 // microseconds
	id      job.ID
}

// top is before the newest task.
var top = position{math.MaxInt64, "~"} // ids are digits and capitals
