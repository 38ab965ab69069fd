package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"steno/job"
	"steno/store"
)

// writer changes tasks and files of its own, one after the other, and knows how they must look. Another writer of the same user
// has others, and shares the history. It is owned by its goroutine.
type writer struct {
	*world
	as    user
	rnd   *rand.Rand
	file  string
	gone  string // the file before, deleted
	tasks map[job.ID]*shown
	open  job.ID // "" for none
}

// shown is how a task must look.
type shown struct {
	file     string
	states   []job.State // one of them
	canceled bool
	deleted  bool
}

// shownTask is how it looks.
type shownTask struct {
	taskOf
	Cancelling bool `json:"cancelling"`
}

var errOdd = errors.New("the answer is not what it should be")

// run makes steps, and looks after each whether what it reads is fresh: as soon as the write was answered, while an answer from
// before it may be on its way into the cache, and when that has arrived.
func (w *writer) run(ctx context.Context, content fileOf, steps int) error {
	for i := range steps {
		if w.file == "" {
			f, err := w.store.AddFile(ctx, store.File{
				User: w.as.ID, Name: "a.wav", SHA256: content.SHA256, Object: content.SHA256, Size: content.Size, Duration: content.Duration,
			})
			if err != nil {
				return err
			}
			w.file = f.ID
		}
		// The limit makes it an answer that is not kept yet, so that it is worked out while the write goes on.
		history := fmt.Sprintf("%s?limit=%d%s", historyPath, 60+w.rnd.IntN(41), []string{"", "", "", "&page=1"}[w.rnd.IntN(4)])
		seen := w.any(func(*shown) bool { return true })
		other := []string{taskPath(seen, "/status"), taskPath(seen, "/download"), "/api/v1/files/" + w.file}[w.rnd.IntN(3)]
		what, slow, write := w.choose()
		arrived := w.read(ctx, slow, []string{history, history, other}[i%3])
		touched, err := write(ctx)
		if err != nil {
			return errors.Join(fmt.Errorf("step %d, %s: %w", i, what, err), arrived())
		}
		err = errors.Join(
			w.get(ctx, history, 200, &shownPage{}), arrived(), w.get(ctx, history, 200, &shownPage{}), w.task(ctx, touched),
		)
		if i%4 == 0 {
			err = errors.Join(err, w.task(ctx, seen), w.files(ctx))
		}
		if err != nil {
			return fmt.Errorf("after step %d, %s of %s: %w", i, what, touched, err)
		}
	}
	return nil
}

// read asks for a path while the write goes on: once, or again and again where that is slow. What it returns waits for the
// answer.
func (w *writer) read(ctx context.Context, slow bool, path string) (arrived func() error) {
	ctx = context.WithoutCancel(ctx)
	rnd := rand.New(rand.NewPCG(w.rnd.Uint64(), 0))
	var written atomic.Bool
	end := make(chan error, 1)
	go func() {
		var err error
		for again := true; again; again = slow && !written.Load() {
			if slow {
				time.Sleep(rand.N(20 * time.Millisecond)) // at any moment of it, and not all the time
			}
			status, data, where := w.call(ctx, rnd, w.as, "GET", path, "")
			if status != 200 && status != 404 && status != 409 {
				err = fmt.Errorf("%w: %s has status %d: %s", errOdd, where, status, data)
			}
		}
		end <- err
	}()
	return func() error {
		written.Store(true)
		return <-end
	}
}

// any is one of the tasks that fit, or "".
func (w *writer) any(fits func(*shown) bool) job.ID {
	var ids []job.ID
	for id, t := range w.tasks {
		if fits(t) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	slices.Sort(ids)
	return ids[w.rnd.IntN(len(ids))]
}

// choose takes one of the writes that are possible. It returns the task that it is about when it was answered, or for an end that
// comes from the worker, which is slow, when all were told of it.
func (w *writer) choose() (what string, slow bool, write func(context.Context) (job.ID, error)) {
	ended := func(t *shown) bool { return !t.deleted && !slices.Contains(t.states, job.Queued) }
	old, open, n := w.any(ended), w.open, 0
	for _, t := range w.tasks {
		if ended(t) {
			n++
		}
	}
	about := func(id job.ID, f func(context.Context, job.ID) error) func(context.Context) (job.ID, error) {
		return func(ctx context.Context) (job.ID, error) { return id, f(ctx, id) }
	}
	switch roll := w.rnd.IntN(10); {
	case old != "" && (roll < 2 || n > 3):
		return "delete", false, about(old, w.delete)
	case open == "" && roll < 4:
		return "delete of the file", false, about(old, w.deleteFile)
	case open == "":
		return "create", false, w.create
	case w.tasks[open].canceled:
		return "end of the cancelled", true, about(open, w.end)
	case roll < 5:
		return "cancel", false, about(open, w.cancel)
	}
	return "end", true, about(open, func(ctx context.Context, id job.ID) error {
		close(release(w.released, id))
		return w.end(ctx, id)
	})
}

// expect sends a write.
func (w *writer) expect(ctx context.Context, method, path, body string, want int) ([]byte, error) {
	status, data, where := w.call(ctx, w.rnd, w.as, method, path, body)
	if status != want {
		return nil, fmt.Errorf("%w: %s has status %d, not %d: %s", errOdd, where, status, want, data)
	}
	return data, nil
}

func (w *writer) create(ctx context.Context) (job.ID, error) {
	reuse := w.rnd.IntN(15) > 0 // mostly, for the queue takes its time; the first takes it in any case
	data, err := w.expect(ctx, "POST", "/api/v1/transcription/create", fmt.Sprintf(`{"file_id":%q,"reuse":%t}`, w.file, reuse), 201)
	if err != nil {
		return "", err
	}
	var t shownTask
	if err := json.Unmarshal(data, &t); err != nil {
		return "", err
	}
	w.tasks[t.ID] = &shown{file: w.file, states: []job.State{job.Done}}
	if !t.Reused {
		w.open, w.tasks[t.ID].states = t.ID, []job.State{job.Queued, job.Running}
	}
	return t.ID, nil
}

func (w *writer) cancel(ctx context.Context, id job.ID) error {
	_, err := w.expect(ctx, "DELETE", taskPath(id, ""), "", 202)
	t := w.tasks[id]
	t.canceled, t.states = true, append(t.states, job.Cancelled)
	return err
}

// end waits until the end of the open task is in the record and all gateways were told.
func (w *writer) end(ctx context.Context, id job.ID) error {
	t := w.tasks[id]
	for told := false; !told; time.Sleep(5 * time.Millisecond) {
		now, err := w.store.AnyTask(ctx, id)
		if err != nil {
			return err
		}
		s, err := w.q.Status(ctx, id)
		unpublished := err != nil && t.canceled // the queue has never heard of it
		told = now.Status.Terminal() && (unpublished || err == nil && !s.Recorded.IsZero())
	}
	w.open = ""
	t.states = []job.State{job.Done}
	if t.canceled {
		t.states = []job.State{job.Cancelled}
	}
	return nil
}

func (w *writer) delete(ctx context.Context, id job.ID) error {
	w.tasks[id].deleted = true
	_, err := w.expect(ctx, "DELETE", taskPath(id, ""), "", 204)
	return err
}

func (w *writer) deleteFile(ctx context.Context, _ job.ID) error {
	_, err := w.expect(ctx, "DELETE", "/api/v1/files/"+w.file, "", 204)
	for _, t := range w.tasks {
		if t.file == w.file {
			t.file = ""
		}
	}
	w.gone, w.file = w.file, ""
	return err
}

// get reads, and says where it read.
func (w *writer) get(ctx context.Context, path string, want int, into any) error {
	status, data, where := w.call(ctx, w.rnd, w.as, "GET", path, "")
	if status != want {
		return fmt.Errorf("%w: %s has status %d, not %d: %s", errOdd, where, status, want, data)
	}
	if into == nil {
		return nil
	}
	err := json.Unmarshal(data, into)
	switch v := into.(type) {
	case *shownTask:
		err = w.fits(*v)
	case *shownPage:
		err = w.fitAll(*v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

type shownPage struct {
	Items []shownTask `json:"items"`
}

// task reads one of the two answers about a task.
func (w *writer) task(ctx context.Context, id job.ID) error {
	t := w.tasks[id]
	switch download := w.rnd.IntN(2) == 0; {
	case t == nil:
		return nil
	case t.deleted && download:
		return w.get(ctx, taskPath(id, "/download"), 404, nil)
	case t.deleted:
		return w.get(ctx, taskPath(id, "/status"), 404, nil)
	case download && slices.Contains(t.states, job.Done):
		return w.get(ctx, taskPath(id, "/download"), 200, nil)
	case download:
		return w.get(ctx, taskPath(id, "/download"), 409, nil)
	}
	return w.get(ctx, taskPath(id, "/status"), 200, &shownTask{})
}

func (w *writer) files(ctx context.Context) error {
	if w.file != "" {
		if err := w.get(ctx, "/api/v1/files/"+w.file, 200, nil); err != nil {
			return err
		}
	}
	if w.gone != "" {
		return w.get(ctx, "/api/v1/files/"+w.gone, 404, nil)
	}
	return nil
}

// fits compares a task with how it must look.
func (w *writer) fits(got shownTask) error {
	t := w.tasks[got.ID]
	file := ""
	if got.File != nil {
		file = *got.File
	}
	cancelling := t.canceled && !got.Status.Terminal()
	if t.deleted || !slices.Contains(t.states, got.Status) || file != t.file || got.Cancelling != cancelling {
		return fmt.Errorf("%w: task %s is %s of file %q, cancelling %t, want %+v", errOdd, got.ID, got.Status, file, got.Cancelling, *t)
	}
	return nil
}

// fitAll compares a history with all that must be in it; tasks of the other writer are none of ours.
func (w *writer) fitAll(page shownPage) error {
	seen := map[job.ID]bool{}
	for _, item := range page.Items {
		seen[item.ID] = true
		if w.tasks[item.ID] != nil {
			if err := w.fits(item); err != nil {
				return err
			}
		}
	}
	for id, t := range w.tasks {
		if !t.deleted && !seen[id] {
			return fmt.Errorf("%w: task %s is missing among %d", errOdd, id, len(page.Items))
		}
	}
	return nil
}
