package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// liar is a service that breaks one promise. Its transcripts are those of the real API in form alone.
type liar struct {
	lie string

	mu    sync.Mutex
	tasks []string // oldest first
	keys  map[string]string
	asked map[string]int // how often for the state of each
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := ""
	if parts := strings.Split(r.URL.Path, "/"); len(parts) > 4 {
		id = parts[4]
	}
	var body any
	switch {
	case r.Method == http.MethodDelete:
		if l.lie != "keeps what was deleted" {
			l.tasks = slices.DeleteFunc(l.tasks, func(t string) bool { return t == id })
		}
		w.WriteHeader(http.StatusNoContent)
		return
	case strings.HasSuffix(r.URL.Path, "/files"):
		w.WriteHeader(http.StatusCreated)
		body = map[string]string{"file_id": "file"}
	case strings.HasSuffix(r.URL.Path, "/create"):
		w.WriteHeader(http.StatusCreated)
		body = map[string]string{"task_id": l.create(r.Header.Get("Idempotency-Key"))}
	case strings.HasSuffix(r.URL.Path, "/status"):
		body = l.state(id)
	case strings.HasSuffix(r.URL.Path, "/history"):
		body = map[string]any{"items": l.history()}
	default:
		body = l.transcript(id)
	}
	_ = json.NewEncoder(w).Encode(body)
}

func (l *liar) create(key string) string {
	if l.keys[key] == "" {
		l.keys[key] = fmt.Sprint("task", len(l.tasks))
		l.tasks = append(l.tasks, l.keys[key])
	}
	return l.keys[key]
}

// last is the task that it lies about.
func (l *liar) last(id string) bool { return len(l.tasks) > 1 && id == l.tasks[len(l.tasks)-1] }

func (l *liar) state(id string) map[string]any {
	l.asked[id]++
	t := map[string]any{"task_id": id, "status": "done", "ended_at": "2026-01-02T03:04:05Z"}
	if !l.last(id) {
		return t
	}
	switch l.lie {
	case "never ends":
		t["status"], t["ended_at"] = "running", nil
	case "changes its end":
		if l.asked[id] > 1 {
			t["ended_at"] = "2026-01-02T03:04:06Z"
		}
	case "fails", "does not bury", "buries twice":
		t["status"], t["error"] = "failed", map[string]string{"class": "INTERNAL", "code": "INTERNAL", "message": "it went wrong"}
	case "fails without a word":
		t["status"] = "failed"
	}
	return t
}

func (l *liar) history() (items []map[string]any) {
	for _, id := range l.tasks {
		if l.lie == "forgets" && l.last(id) {
			continue
		}
		items = append(items, l.state(id))
		if l.lie == "doubles" && l.last(id) {
			items = append(items, l.state(id))
		}
	}
	if l.lie == "makes up" {
		items = append(items, map[string]any{"task_id": "nobody's", "status": "done", "ended_at": "2026-01-02T03:04:05Z"})
	}
	return items
}

// letters are the dead ones.
func (l *liar) letters(context.Context) ([]string, error) {
	last := l.tasks[len(l.tasks)-1]
	switch l.lie {
	case "fails", "fails without a word", "buries the living":
		return []string{last}, nil
	case "buries twice":
		return []string{last, last}, nil
	}
	return nil, nil
}

func (l *liar) transcript(id string) map[string]any {
	type segment struct {
		Start, End float64
		Text       string
	}
	s := []segment{{0, 1, "one"}, {1, 2, "two"}}
	if l.last(id) {
		switch l.lie {
		case "changes a word":
			s[1].Text = "three"
		case "drops a segment":
			s = s[:1]
		case "doubles a segment":
			s = append(s, s[1])
		case "goes back in time":
			s[1].Start = 0.5
		case "runs over the end":
			s[1].End = 9
		}
	}
	return map[string]any{"duration": 2, "text": "one two", "segments": s}
}

// TestOracleSees lets services break one promise each: the oracle names it, and finds nothing wrong with one that breaks none.
func TestOracleSees(t *testing.T) {
	t.Parallel()
	for lie, invariants := range map[string][]string{
		"nothing":    nil,
		"never ends": {"I1"}, "forgets": {"I1"}, "fails": {"I1"},
		"changes a word": {"I2"}, "drops a segment": {"I2"}, "doubles": {"I2"},
		"doubles a segment": {"I2", "I9"}, "goes back in time": {"I2", "I9"}, "runs over the end": {"I2", "I9"},
		"changes its end":      {"I3"},
		"fails without a word": {"I1", "I4"},
		"does not bury":        {"I1", "I4"}, "buries twice": {"I1", "I4"}, "buries the living": {"I4"},
		"makes up": {"I8"}, "keeps what was deleted": {"I3"},
	} {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			l := &liar{lie: lie, keys: map[string]string{}, asked: map[string]int{}}
			server := httptest.NewServer(l)
			t.Cleanup(server.Close)
			ledger, err := NewLedger(filepath.Join(t.TempDir(), "ledger"))
			if err != nil {
				t.Fatal(err)
			}
			o := newOracle("test", newClient(server.URL), l.letters, ledger, 1)
			o.patience = 0
			if err := o.Learn(t.Context(), Sound{name: "a"}); err != nil {
				t.Fatal(err)
			}
			var ids [3]string
			for i := range ids {
				if ids[i], err = o.Submit(t.Context(), o.any(), "", done); err != nil {
					t.Fatal(err)
				}
			}
			if err := o.Settle(t.Context(), 200*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if err := o.Cancel(t.Context(), ids[0]); err != nil {
				t.Fatal(err)
			}
			v, err := o.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var named []string
			for _, w := range v.Wrong {
				name, _, _ := strings.Cut(w, ":")
				named = append(named, name)
			}
			slices.Sort(named)
			if named = slices.Compact(named); !slices.Equal(named, invariants) {
				t.Errorf("it %s: the oracle names %v, want %v: %q", lie, named, invariants, v.Wrong)
			}
			if err := ledger.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRowsAreNamed: a row that there is not injects nothing, and must not pass.
func TestRowsAreNamed(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), Config{Rows: []string{"F99"}, Folder: t.TempDir()}); err == nil {
		t.Error("no error for row F99")
	}
}

// What a test says reaches its row: how much it injected is read from it.
func TestToolGivesWhatItSays(t *testing.T) {
	r := &run{Config: Config{Root: t.TempDir()}, site: &site{folder: t.TempDir()}}
	out, err := r.tool(t.Context(), []string{"WORD=said"}, "sh", "-c", "echo $WORD; exit 3")
	if kept, _ := os.ReadFile(filepath.Join(r.site.folder, "out.log")); string(out) != "said\n" || string(kept) != "said\n" || err == nil {
		t.Errorf("it said %q, and %q is kept: %v", out, kept, err)
	}
}
