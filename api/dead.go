package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"steno/job"
	"steno/store"
)

// DeadLetters are the jobs that failed for good.
type DeadLetters interface {
	// Page returns up to limit of them, the last first, and where the next page begins: 0 where this is the last. Before is 0 for
	// the first page.
	Page(ctx context.Context, before uint64, limit int) (page []DeadLetter, next uint64, err error)
	// Get returns one. The code of the error is DEAD_LETTER_NOT_FOUND where it is not there.
	Get(ctx context.Context, id string) (DeadLetter, error)
	// Retry has a job tried again; its task follows by way of the relay. Codes: DEAD_LETTER_NOT_FOUND, NOT_A_JOB, JOB_NOT_FAILED,
	// AUDIO_MISSING.
	Retry(ctx context.Context, id string) error
}

// DeadLetter is a job that failed for good.
type DeadLetter struct {
	ID       string // the job's, or another one where the message was no job
	Job      job.Job
	Error    *job.Error
	Stage    job.Stage
	Attempts []Attempt
	Retries  int // how often it was tried again after it had failed
	Failed   time.Time
}

// Attempt is one stay of a job with a worker.
type Attempt struct {
	Number         int
	Worker         string
	Started, Ended time.Time
	Outcome        string
	Stage          job.Stage
	Error          *job.Error
}

// letterBody is a dead letter as administrators see it: what went wrong, and nothing that its user wrote.
type letterBody struct {
	ID        string        `json:"letter_id"`
	Task      *job.ID       `json:"task_id" doc:"null for a job of the command line and a message that was no job"`
	FileName  string        `json:"file_name"`
	User      *string       `json:"user_id" doc:"whose task it is"`
	Username  *string       `json:"username"`
	Error     maybeError    `json:"error" doc:"why it failed"`
	Stage     job.Stage     `json:"stage" doc:"where it failed" example:"probe"`
	Attempts  []attemptBody `json:"attempts" nullable:"false" doc:"oldest first"`
	Retries   int           `json:"retries" doc:"how often it was tried again after it had failed"`
	Retryable bool          `json:"retryable" doc:"false for a message that was no job"`
	Failed    time.Time     `json:"failed_at"`
}

type attemptBody struct {
	Number  int        `json:"number" doc:"attempts that did not count bear the number of the one before"`
	Worker  string     `json:"worker"`
	Started time.Time  `json:"started_at"`
	Ended   time.Time  `json:"ended_at"`
	Outcome string     `json:"outcome" doc:"how it ended" example:"failed"`
	Stage   job.Stage  `json:"stage" doc:"where it ended" example:"transcribe"`
	Error   maybeError `json:"error"`
}

func maybe(e *job.Error) maybeError {
	if e == nil {
		return maybeError{}
	}
	return maybeError{&taskError{e.Class, e.Code, e.Message}}
}

// letterBodyOf looks the names of users up in names, and adds those that it has to ask for.
func (s *Server) letterBodyOf(ctx context.Context, l DeadLetter, names map[string]*string) (letterBody, error) {
	b := letterBody{
		ID: l.ID, FileName: l.Job.FileName, Error: maybe(l.Error), Stage: l.Stage, Attempts: []attemptBody{}, Retries: l.Retries,
		Retryable: l.Job.ID != "", Failed: l.Failed,
	}
	for _, a := range l.Attempts {
		b.Attempts = append(b.Attempts, attemptBody{a.Number, a.Worker, a.Started, a.Ended, a.Outcome, a.Stage, maybe(a.Error)})
	}
	if !l.Job.External {
		return b, nil
	}
	b.Task, b.User = &l.Job.ID, unlessZero(l.Job.User)
	name, known := names[l.Job.User]
	if !known {
		u, err := s.cfg.Store.User(ctx, l.Job.User)
		if err != nil && !errors.Is(err, store.ErrNotFound) { // as that of another database is
			return b, err
		}
		name = unlessZero(u.Username)
		names[l.Job.User] = name
	}
	b.Username = name
	return b, nil
}

type lettersInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"dead letters on a page"`
	Cursor string `query:"cursor" maxLength:"32" doc:"next_cursor of the page before; absent for the first"`
}

type lettersOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Items []letterBody `json:"items" nullable:"false" doc:"the last first"`
		Limit int          `json:"limit"`
		Next  *string      `json:"next_cursor" doc:"for the next page; null on the last"`
	}
}

// letters lists the dead letters.
func (s *Server) letters(ctx context.Context, in *lettersInput) (*lettersOutput, error) {
	if s.cfg.Dead == nil {
		return nil, errNoOperations()
	}
	before := uint64(0)
	if in.Cursor != "" {
		var err error
		if before, err = strconv.ParseUint(in.Cursor, cursorBase, 64); err != nil || before == 0 {
			return nil, badField("query.cursor", "BAD_CURSOR", "the cursor is none of ours: begin with the first page")
		}
	}
	page, next, err := s.cfg.Dead.Page(ctx, before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &lettersOutput{CacheControl: "no-store"}
	out.Body.Items, out.Body.Limit = make([]letterBody, len(page)), in.Limit
	names := map[string]*string{}
	for i, l := range page {
		if out.Body.Items[i], err = s.letterBodyOf(ctx, l, names); err != nil {
			return nil, err
		}
	}
	if next > 0 {
		text := strconv.FormatUint(next, cursorBase)
		out.Body.Next = &text
	}
	return out, nil
}

// cursorBase is that of the numbers in cursors of dead letters.
const cursorBase = 36

type letterInput struct {
	ID string `path:"letter_id" maxLength:"64"`
}

type letterOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         letterBody
}

// letter shows one dead letter.
func (s *Server) letter(ctx context.Context, in *letterInput) (*letterOutput, error) {
	if s.cfg.Dead == nil {
		return nil, errNoOperations()
	}
	l, err := s.cfg.Dead.Get(ctx, letterID(in.ID))
	if err != nil {
		return nil, err
	}
	body, err := s.letterBodyOf(ctx, l, map[string]*string{})
	return &letterOutput{"no-store", body}, err
}

type retryOutput struct {
	Body struct {
		ID   string  `json:"letter_id"`
		Task *job.ID `json:"task_id" doc:"the task that is open again in a moment; null for a job without one"`
	}
}

// retryLetter has a failed job tried again. The queue's record of the job decides, and the relay brings the task's after it, so
// there is nothing to be undone where this process ends at any point.
func (s *Server) retryLetter(ctx context.Context, in *letterInput) (*retryOutput, error) {
	if s.cfg.Dead == nil {
		return nil, errNoOperations()
	}
	l, err := s.cfg.Dead.Get(ctx, letterID(in.ID))
	if err != nil {
		return nil, err
	}
	out := &retryOutput{}
	out.Body.ID = l.ID
	if l.Job.External {
		out.Body.Task = &l.Job.ID
		if err := s.mayRetry(ctx, l.Job.ID); err != nil {
			return nil, err
		}
	}
	return out, s.cfg.Dead.Retry(ctx, l.ID)
}

// mayRetry refuses what the record knows better: that the task was deleted, or that it has another end.
func (s *Server) mayRetry(ctx context.Context, id job.ID) error {
	t, err := s.cfg.Store.AnyTask(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return newProblem(http.StatusNotFound, "TASK_NOT_FOUND", "its user has deleted the task: there is nothing to try again")
	case err != nil:
		return err
	case t.Status == job.Done || t.Status == job.Cancelled:
		return newProblem(http.StatusConflict, "TASK_NOT_FAILED",
			"the task is "+string(t.Status)+": only one that has failed can be tried again")
	}
	return nil // an open one is behind the queue, which says what it is
}

// letterID is an id as the queue has it: those of jobs have capitals.
func letterID(id string) string {
	if parsed, err := job.ParseID(id); err == nil {
		return string(parsed)
	}
	return id
}

func errNoOperations() error {
	return newProblem(http.StatusNotFound, "NO_OPERATIONS", "this gateway shows no queue: ask another one")
}

func (s *Server) deadRoutes() {
	const path = prefix + "/admin/dead-letters"
	register(s, route{
		method: http.MethodGet, path: path, id: "list-dead-letters", tag: "operations", admin: true,
		summary: "List the jobs that failed for good, the last first",
		fails:   []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.letters)
	register(s, route{
		method: http.MethodGet, path: path + "/{letter_id}", id: "dead-letter", tag: "operations", admin: true,
		summary: "See why a job failed for good",
		fails:   []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.letter)
	register(s, route{
		method: http.MethodPost, path: path + "/{letter_id}/retry", id: "retry-dead-letter", tag: "operations", admin: true,
		status: http.StatusAccepted, summary: "Have a failed job tried again",
		description: "The job runs again under its id, with its parameters and all attempts; what was transcribed of it is not " +
			"computed again. Its task is open again in a moment, and whoever follows it is told. 410 says that the audio is gone.",
		fails: []int{http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusUnprocessableEntity},
	}, s.retryLetter)
}
