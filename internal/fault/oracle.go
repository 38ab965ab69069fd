package fault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Sound is a recording that jobs are made of.
type Sound struct {
	name  string
	data  []byte
	model string // that transcribes it
	id    string // of the file, on the service that the oracle watches
}

// want is what must come of a task.
type want struct {
	state string
	or    string // another state that will do
	code  string // of a failure; empty for any, where only its having one counts
	class string // of a failure; the same
}

// met reports whether a task came to what was wanted of it.
func (w want) met(t task) bool {
	code, class := "", ""
	if t.Error != nil {
		code, class = t.Error.Code, t.Error.Class
	}
	state := t.Status == w.state || w.or != "" && t.Status == w.or
	return state && (w.code == "" || w.code == code) && (w.class == "" || w.class == class)
}

var done = want{state: "done"}

// givenUp is the code of a job that too many workers died with: it may be what kills them, so it ends there, as a dead letter.
const givenUp = "WORKER_DIED"

// accepted is a task that the service has answered with 201.
type accepted struct {
	id    string
	sound string
	want  want
	at    time.Time
	last  task      // as the oracle has seen it last
	ended time.Time // when the oracle saw that it had ended
	gone  bool      // its user has asked that it be cancelled or deleted, and was not told that it still runs
}

// Oracle gives work to a service, remembers what was accepted, and finds out what came of it. It is safe for concurrent use.
//
// Its golden transcripts come from the same service before the first fault.
type Oracle struct {
	row    string
	client *Client
	ledger *Ledger
	rand   *rand.Rand
	killed bool // whether workers are killed here, so that a job may meet too many that die
	// dead lists the ids of the dead letters.
	dead     func(context.Context) ([]string, error)
	patience time.Duration // for dead letters: who buries may have died, and the reconciler comes every 30 s
	gap      time.Duration // at least that between two jobs of Load; 0 is none

	mu     sync.Mutex
	sounds []*Sound
	golden map[string]string // by the sound's name
	tasks  map[string]*accepted
	keys   int
	faults []time.Time
	wrong  []string // broken promises
}

func newOracle(row string, c *Client, dead func(context.Context) ([]string, error), l *Ledger, seed uint64) *Oracle {
	return &Oracle{
		row: row, client: c, dead: dead, patience: 75 * time.Second, ledger: l, rand: rand.New(rand.NewPCG(seed, 1)),
		golden: map[string]string{}, tasks: map[string]*accepted{},
	}
}

// Learn uploads recordings, and keeps what the service makes of each while nothing is wrong.
func (o *Oracle) Learn(ctx context.Context, sounds ...Sound) error {
	for _, s := range sounds {
		id, err := o.client.upload(ctx, s.name, s.data)
		if err != nil {
			return err
		}
		s.id = id
		o.sounds = append(o.sounds, &s)
		t, err := o.Submit(ctx, &s, "", done)
		if err != nil {
			return err
		}
		if err := o.Settle(ctx, time.Minute); err != nil {
			return err
		}
		if o.golden[s.name], err = o.transcript(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// Submit gives the service a job and insists until it is accepted. Prompts are for the scripted engine.
func (o *Oracle) Submit(ctx context.Context, s *Sound, prompt string, w want) (string, error) {
	return o.submit(ctx, o.key(), s, prompt, w)
}

// key makes an idempotency key.
func (o *Oracle) key() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys++
	return fmt.Sprintf("%s-%d", o.row, o.keys)
}

func (o *Oracle) submit(ctx context.Context, key string, s *Sound, prompt string, w want) (string, error) {
	var made created
	err := o.client.into(ctx, &made, http.StatusCreated, "POST", createPath, fixed(creation(s, prompt)), "Idempotency-Key", key)
	if err != nil {
		return "", err
	}
	o.accept(made.ID, key, s, prompt, w)
	return made.ID, nil
}

const createPath = "/api/v1/transcription/create"

// created is the answer to a create.
type created struct {
	ID string `json:"task_id"`
}

func creation(s *Sound, prompt string) map[string]any {
	return map[string]any{"file_id": s.id, "model": cmp.Or(s.model, model), "language": "en", "prompt": prompt, "reuse": false}
}

// accept remembers what was answered with 201.
func (o *Oracle) accept(id, key string, s *Sound, prompt string, w want) {
	o.ledger.Write(o.row, "accepted", id, key+" "+s.name+" "+prompt)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tasks[id] == nil {
		o.tasks[id] = &accepted{id: id, sound: s.name, want: w, at: time.Now()}
	}
}

// ask creates a task once, with no regard for what it is told, and returns the status of the answer and its Retry-After. It asks
// again only where nothing was answered, for then nobody knows whether there is a job.
func (o *Oracle) ask(ctx context.Context) (status int, after string, err error) {
	key, s := o.key(), o.any()
	for range 3 {
		var a answer
		if a, err = o.client.call(ctx, "POST", createPath, creation(s, ""), "Idempotency-Key", key); err != nil {
			continue
		}
		if a.status != http.StatusCreated {
			return a.status, a.after, nil
		}
		var made created
		if err := json.Unmarshal(a.body, &made); err != nil {
			return 0, "", err
		}
		o.accept(made.ID, key, s, "", done)
		return a.status, "", nil
	}
	return 0, "", fmt.Errorf("%w: %w", errAway, err)
}

// any picks a recording.
func (o *Oracle) any() *Sound {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sounds[o.rand.IntN(len(o.sounds))]
}

// Cancel asks that a task be cancelled, or deleted where it has ended by then.
func (o *Oracle) Cancel(ctx context.Context, id string) error {
	deleted := func(yes bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.tasks[id].gone = yes
	}
	deleted(true) // an answer may be lost on its way
	a, err := o.client.insist(ctx, "DELETE", "/api/v1/transcription/"+id, none)
	if err != nil {
		return err
	}
	o.ledger.Write(o.row, "cancel", id, fmt.Sprint(a.status))
	switch a.status {
	case http.StatusAccepted:
		deleted(false)
	case http.StatusNoContent, http.StatusNotFound: // not found where an answer before was lost
	default:
		return fmt.Errorf("DELETE of task %s: %d %s", id, a.status, a.body)
	}
	return nil
}

// Load keeps about so many jobs open until stop is called. A create that is under way then is seen to its answer, for nobody
// could say whether one that was left alone is a job; so the service must be there when stop is called.
func (o *Oracle) Load(ctx context.Context, depth int) (stop func() error) {
	return o.load(ctx, depth, o.any)
}

func (o *Oracle) load(ctx context.Context, depth int, pick func() *Sound) (stop func() error) {
	stopped, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			_ = o.look(ctx) // the service may be down now
			few := depth - o.open()
			if o.gap > 0 {
				few = min(few, 1)
			}
			for range few {
				if _, err := o.Submit(ctx, pick(), "", done); err != nil {
					ended <- err
					return
				}
			}
			select {
			case <-stopped:
				ended <- nil
				return
			case <-time.After(cmp.Or(o.gap, 50*time.Millisecond)):
			}
		}
	}()
	return func() error {
		close(stopped)
		return <-ended
	}
}

func (o *Oracle) open() int { return len(o.unended()) }

// unended lists the tasks that are open.
func (o *Oracle) unended() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var ids []string
	for id, t := range o.tasks {
		if t.ended.IsZero() {
			ids = append(ids, id)
		}
	}
	return ids
}

// anyOpen says whether one of the tasks is open.
func (o *Oracle) anyOpen(ids []string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(ids, func(id string) bool { return o.tasks[id].ended.IsZero() })
}

// took lists, in order, how long the jobs took from their acceptance that were done between two times.
func (o *Oracle) took(from, to time.Time) []time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []time.Duration
	for _, t := range o.tasks {
		if t.last.Status == "done" && !t.ended.Before(from) && t.ended.Before(to) {
			all = append(all, t.ended.Sub(t.at))
		}
	}
	slices.Sort(all)
	return all
}

// Fault notes that something was broken now.
func (o *Oracle) Fault(what string) {
	o.ledger.Write(o.row, "fault", "", what)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = append(o.faults, time.Now())
}

// Over says that the last fault has ended: what it held up recovers from now on.
func (o *Oracle) Over() {
	o.ledger.Write(o.row, "over", "", "")
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults[len(o.faults)-1] = time.Now()
}

// Wrong notes a broken promise.
func (o *Oracle) Wrong(invariant, format string, args ...any) {
	text := invariant + ": " + fmt.Sprintf(format, args...)
	o.ledger.Write(o.row, "wrong", "", text)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrong = append(o.wrong, text)
}

// broken lists the broken promises.
func (o *Oracle) broken() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.wrong)
}

// look asks for the state of each task that is open.
func (o *Oracle) look(ctx context.Context) error {
	o.mu.Lock()
	var ids []string
	for id, t := range o.tasks {
		if t.ended.IsZero() {
			ids = append(ids, id)
		}
	}
	o.mu.Unlock()
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		a, err := o.client.call(ctx, "GET", "/api/v1/transcription/"+id+"/status", nil)
		cancel()
		if err != nil {
			return err
		}
		var t task
		switch {
		case a.status == http.StatusNotFound && o.mayBeGone(id):
			t = task{ID: id, Status: "deleted"}
		case a.status == http.StatusNotFound:
			o.Wrong("I1", "task %s, answered with 201, is not there", id)
			t = task{ID: id, Status: "lost"}
		case a.status != http.StatusOK:
			continue
		default:
			if err := json.Unmarshal(a.body, &t); err != nil {
				return err
			}
		}
		o.note(id, t)
	}
	return nil
}

func (o *Oracle) mayBeGone(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tasks[id].gone
}

// note keeps the state of a task: one that has ended must stay as it is (I3).
func (o *Oracle) note(id string, t task) {
	o.mu.Lock()
	a := o.tasks[id]
	before := a.last
	a.last = t
	first := a.ended.IsZero() && (t.terminal() || t.Status == "lost" || t.Status == "deleted")
	if first {
		a.ended = time.Now()
	}
	o.mu.Unlock()
	switch {
	case first:
		o.ledger.Write(o.row, "ended", id, t.Status)
	case before.terminal() && (t.Status != before.Status || !t.Ended.Equal(*before.Ended)):
		o.Wrong("I3", "task %s was %s at %s and is %s at %s", id, before.Status, before.Ended, t.Status, t.Ended)
	}
}

// Settle waits until all that was accepted has ended (I1).
func (o *Oracle) Settle(ctx context.Context, within time.Duration) error {
	for end := time.Now().Add(within); o.open() > 0; time.Sleep(30 * time.Millisecond) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_ = o.look(ctx) // the service may be on its way up
		if time.Now().After(end) {
			break
		}
	}
	o.mu.Lock()
	var late []string
	for id, t := range o.tasks {
		if t.ended.IsZero() {
			late = append(late, fmt.Sprintf("%s (%s, %s)", id, t.last.Status, t.last.Stage))
		}
	}
	o.mu.Unlock()
	if len(late) > 0 {
		o.Wrong("I1", "%d tasks have not ended within %s: %s", len(late), within, strings.Join(late[:min(5, len(late))], ", "))
	}
	return nil
}

// Verdict is what the oracle has found.
type Verdict struct {
	Jobs, Done, Failed, Cancelled int
	Lost, Doubled, Differing      int
	Deleted                       int // by their user, after they had ended
	GivenUp                       int // of Failed, because too many workers died with the job
	Attempts                      int // beyond the first of each job
	Recovery                      []time.Duration
	Wrong                         []string
}

// Check compares what the service says at the end with what it has accepted (I1 to I4, I8, I9).
func (o *Oracle) Check(ctx context.Context) (Verdict, error) {
	var v Verdict
	seen := map[string]int{}
	if err := o.client.history(ctx, func(t task) {
		seen[t.ID]++
		o.mu.Lock()
		known := o.tasks[t.ID] != nil
		o.mu.Unlock()
		if !known {
			v.Doubled++
			o.Wrong("I8", "task %s is in the history, and nobody was told of it", t.ID)
			return
		}
		o.note(t.ID, t)
	}); err != nil {
		return v, err
	}
	o.mu.Lock()
	tasks := make([]*accepted, 0, len(o.tasks))
	for _, t := range o.tasks {
		tasks = append(tasks, t)
	}
	o.mu.Unlock()
	v.Jobs = len(tasks)
	for _, t := range tasks {
		switch n := seen[t.id]; {
		case n == 0 && t.gone:
			v.Deleted++
			continue
		case t.gone:
			o.Wrong("I3", "task %s was deleted and is in the history", t.id)
		case n == 0:
			v.Lost++
			o.Wrong("I1", "task %s is not in the history", t.id)
			continue
		case n > 1:
			v.Doubled++
			o.Wrong("I2", "task %s is in the history %d times", t.id, n)
		}
		if err := o.judge(ctx, t, &v); err != nil {
			return v, err
		}
	}
	if err := o.letters(ctx, tasks); err != nil {
		return v, err
	}
	v.Recovery = o.recovery(tasks)
	v.Wrong = o.broken()
	return v, nil
}

// letters compares the failed tasks with the dead letters: one for each, and for nobody else (I4).
func (o *Oracle) letters(ctx context.Context, tasks []*accepted) error {
	var failed, gone []string
	for _, t := range tasks {
		switch {
		case t.gone: // its letter may have gone with it
			gone = append(gone, t.id)
		case t.last.Status == "failed":
			failed = append(failed, t.id)
		}
	}
	slices.Sort(failed)
	for end := time.Now().Add(o.patience); ; time.Sleep(time.Second) {
		letters, err := o.dead(ctx)
		if err != nil {
			return err
		}
		letters = slices.DeleteFunc(letters, func(id string) bool { return slices.Contains(gone, id) })
		slices.Sort(letters)
		if slices.Equal(letters, failed) {
			return nil
		}
		if time.Now().After(end) {
			o.Wrong("I4", "the dead letters are %q, and failed have %q", letters, failed)
			return nil
		}
	}
}

// judge looks at one task and its transcript.
func (o *Oracle) judge(ctx context.Context, t *accepted, v *Verdict) error {
	v.Attempts += max(0, t.last.Attempt-1)
	switch t.last.Status {
	case "done":
		v.Done++
	case "failed":
		v.Failed++
		if e := t.last.Error; e == nil || e.Class == "" || e.Code == "" || len(e.Message) < 10 {
			o.Wrong("I4", "task %s failed without saying why: %+v", t.id, e)
		}
	case "cancelled":
		v.Cancelled++
	default:
		v.Lost++ // Settle has said so
		return nil
	}
	code := ""
	if t.last.Error != nil {
		code = t.last.Error.Code
	}
	if o.killed && code == givenUp {
		v.GivenUp++
		return nil
	}
	if !t.want.met(t.last) {
		o.Wrong("I1", "task %s is %s %s, want %+v: %+v", t.id, t.last.Status, code, t.want, t.last.Error)
	}
	if t.last.Status != "done" || t.want.state != "done" && t.want.or != "done" {
		return nil
	}
	got, err := o.transcript(ctx, t.id)
	if err != nil {
		return err
	}
	if golden := o.golden[t.sound]; got != golden {
		v.Differing++
		o.Wrong("I2", "task %s says of %s\n%.300s\nand without faults it is\n%.300s", t.id, t.sound, got, golden)
	}
	return nil
}

// recovery is, for each fault, how long it took until all had ended that had been accepted before; what the next fault hit as
// well counts from that one.
func (o *Oracle) recovery(tasks []*accepted) []time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]time.Duration, len(o.faults))
	for _, t := range tasks {
		for i := len(o.faults) - 1; i >= 0; i-- {
			if at := o.faults[i]; at.Before(t.ended) {
				if t.at.Before(at) {
					all[i] = max(all[i], t.ended.Sub(at))
				}
				break
			}
		}
	}
	slices.Sort(all)
	return all
}

// transcript is what the service says of a task: segments with their times, and nothing that differs from run to run. The times
// must rise and lie within the recording (I9).
func (o *Oracle) transcript(ctx context.Context, id string) (string, error) {
	var t struct {
		Duration float64
		Text     string
		Segments []struct {
			Start, End float64
			Text       string
		}
	}
	path := "/api/v1/transcription/" + id + "/download?format=json"
	if err := o.client.into(ctx, &t, http.StatusOK, "GET", path, none); err != nil {
		return "", err
	}
	var b bytes.Buffer
	last := 0.0
	for _, s := range t.Segments {
		if s.Start < last-0.001 || s.End < s.Start || s.End > t.Duration+0.05 {
			o.Wrong("I9", "task %s has a segment from %.3f to %.3f s after one that ends at %.3f, in %.3f s",
				id, s.Start, s.End, last, t.Duration)
		}
		last = s.End
		fmt.Fprintf(&b, "%.3f %.3f %s\n", s.Start, s.End, s.Text)
	}
	fmt.Fprintf(&b, "%.3f %s\n", t.Duration, t.Text)
	return b.String(), nil
}

// Idle checks what a node looks like when it has nothing to do: scratch empty and no decoder left (I5), nothing waiting (I7).
func (o *Oracle) Idle(ctx context.Context, n *Node) (map[string]float64, error) {
	var m map[string]float64
	var busy string
	// The lease of a dead relay takes 15 s, the grace of a lost message 30 s.
	for end := time.Now().Add(45 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		var err error
		if m, err = metrics(ctx, n.admin); err != nil {
			return nil, err
		}
		busy = ""
		for _, name := range []string{
			"steno_queue_pending_jobs", "steno_queue_in_flight_jobs", `steno_outbox_commands{lane="queue"}`, "steno_jobs_in_flight",
		} {
			if m[name] != 0 {
				busy += fmt.Sprintf(" %s is %v", name, m[name])
			}
		}
		if busy == "" || time.Now().After(end) {
			break
		}
	}
	if busy != "" {
		o.Wrong("I7", "nothing is open, but%s", busy)
	}
	if left := n.Scratch(); len(left) > 0 {
		o.Wrong("I5", "left in the scratch folder: %q", left)
	}
	// An engine that has just been started has no name of its own yet, so each look asks for the names anew.
	var helpers []child
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		helpers = slices.DeleteFunc(children(n.run.pid()), func(c child) bool { return c.name == "steno-engine" })
		if len(helpers) == 0 || time.Now().After(end) {
			break
		}
	}
	for _, c := range helpers {
		o.Wrong("I5", "process %d %s still runs", c.pid, c.name)
	}
	return m, nil
}
