package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"steno/internal/failpoint"
	"steno/job"
	"steno/store"
)

// taskBody is a task as its user sees it.
type taskBody struct {
	ID         job.ID     `json:"task_id"`
	Status     job.State  `json:"status" enum:"queued,running,done,failed,cancelled"`
	Progress   float64    `json:"progress" minimum:"0" maximum:"1" doc:"the share of the audio that is done"`
	Stage      job.Stage  `json:"stage" doc:"the step of the pipeline" example:"transcribe"`
	Error      maybeError `json:"error" doc:"why the task failed, or what it is tried again for"`
	Cancelling bool       `json:"cancelling" doc:"its end was asked for and has not come yet"`
	Reused     bool       `json:"reused" doc:"the transcript is a copy of an earlier one of the same audio, model and parameters"`
	Attempt    int        `json:"attempt" doc:"how often a worker has taken it"`
	File       *string    `json:"file_id" doc:"null once the file was deleted"`
	FileName   string     `json:"file_name"`
	Duration   float64    `json:"duration" doc:"of the audio, in seconds"`
	Model      string     `json:"model"`
	Language   string     `json:"language" doc:"as asked for"`
	Created    time.Time  `json:"created_at"`
	Started    *time.Time `json:"started_at" doc:"of the last attempt"`
	Ended      *time.Time `json:"ended_at"`
}

// maybeError is a failure or null.
type maybeError struct{ *taskError }

type taskError struct {
	Class   job.Class `json:"class" doc:"who must act: INPUT is the caller" example:"INPUT"`
	Code    string    `json:"code" doc:"what it is, for programs; stable" example:"NO_AUDIO_STREAM"`
	Message string    `json:"message" doc:"one sentence that says what to do"`
}

// MarshalJSON implements json.Marshaler.
func (e maybeError) MarshalJSON() ([]byte, error) { return json.Marshal(e.taskError) }

// Schema implements huma.SchemaProvider.
func (maybeError) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{AnyOf: []*huma.Schema{schemaOf[taskError](r, "TaskError"), {Type: "null"}}}
}

func bodyOf(t store.Task) taskBody {
	b := taskBody{
		ID: t.ID, Status: t.Status, Progress: t.Progress, Stage: t.Stage, Cancelling: t.Cancelling && !t.Status.Terminal(),
		Reused: t.Reused, Attempt: t.Attempt, FileName: t.FileName, Duration: t.Duration, Model: t.Params.Model,
		Language: t.Params.Language, Created: t.Created, Started: unlessZero(t.Started), Ended: unlessZero(t.Ended),
		File: unlessZero(t.File),
	}
	if t.Error != nil {
		b.Error = maybeError{&taskError{t.Error.Class, t.Error.Code, t.Error.Message}}
	}
	return b
}

func unlessZero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

type createInput struct {
	Key  string `header:"Idempotency-Key" maxLength:"255" doc:"makes repeated calls create one task"`
	Body createBody
}

type createBody struct {
	File      string   `json:"file_id" maxLength:"64" doc:"from POST /files"`
	Model     string   `json:"model,omitempty" maxLength:"64" doc:"one of GET /v1/models" example:"whisper-turbo"`
	Language  string   `json:"language,omitempty" maxLength:"8" default:"auto" doc:"an ISO 639-1 code, or auto"`
	Task      job.Task `json:"task,omitempty" enum:"transcribe,translate" default:"transcribe" doc:"translate writes English"`
	Words     bool     `json:"words,omitempty" doc:"give the time of each word"`
	Diarize   bool     `json:"diarization,omitempty" doc:"say who speaks"`
	Speakers  int      `json:"speakers,omitempty" minimum:"0" maximum:"20" doc:"how many speak, if known; asks for diarization"`
	Prompt    string   `json:"prompt,omitempty" maxLength:"4096" doc:"text that precedes the speech, to spell names"`
	Truncated bool     `json:"allow_truncated,omitempty" doc:"take what decodes of a file that ends early"`
	Webhook   string   `json:"webhook,omitempty" maxLength:"2048" doc:"called when the task has ended"`
	Reuse     *bool    `json:"reuse,omitempty" default:"true" doc:"take a finished transcript of the same over"`
}

type createdBody struct {
	ID     job.ID    `json:"task_id"`
	Status job.State `json:"status" enum:"queued,running,done,failed,cancelled"`
	Reused bool      `json:"reused" doc:"a finished transcript was taken over"`
}

type createdOutput struct {
	Location string `header:"Location" doc:"where its status is"`
	Replayed string `header:"Idempotency-Replayed" doc:"true where the key came before"`
	Body     createdBody
}

// create makes a task of a file.
func (s *Server) create(ctx context.Context, in *createInput) (*createdOutput, error) {
	b := in.Body
	t, created, err := s.newTask(ctx, store.NewTask{
		File: plainID(b.File),
		Params: job.Params{
			Model: b.Model, Language: b.Language, Task: b.Task, Words: b.Words, Diarize: b.Diarize, Speakers: b.Speakers, Prompt: b.Prompt,
			AllowTruncated: b.Truncated,
		},
		Webhook: b.Webhook, IdempotencyKey: in.Key, RequestHash: hashOf(b), Reuse: b.Reuse == nil || *b.Reuse,
	})
	if err != nil {
		return nil, err
	}
	out := &createdOutput{
		Location: prefix + "/transcription/" + string(t.ID) + "/status", Body: createdBody{t.ID, t.Status, t.Reused},
	}
	if !created {
		out.Replayed = "true"
	}
	return out, nil
}

// newTask puts a task into the record for the user who calls. When it returns, the task is on the disk.
func (s *Server) newTask(ctx context.Context, n store.NewTask) (store.Task, bool, error) {
	var err error
	if err := s.cfg.Room(); err != nil {
		return store.Task{}, false, err
	}
	n.User = userOf(ctx)
	if n.Params, err = s.cfg.Resolve(n.Params); err != nil {
		return store.Task{}, false, err
	}
	if n.Webhook != "" {
		if err := s.cfg.CheckWebhook(n.Webhook); err != nil {
			return store.Task{}, false, err
		}
	}
	t, created, err := s.cfg.Store.CreateTask(ctx, n)
	if err != nil {
		return store.Task{}, false, err
	}
	if failpoint.On && created {
		failpoint.Hit(failpoint.CreateCommitted)
	}
	if created {
		s.drop(historyTag(n.User))
		s.boards.changed(n.User)
		s.cfg.Notify()
	}
	return t, created, nil
}

// hashOf identifies a request's body.
func hashOf(body any) string {
	data, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("a body that was decoded cannot be encoded: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

type taskInput struct {
	ID string `path:"task_id"`
}

type taskOutput struct{ Body taskBody }

// status tells where a task stands.
func (s *Server) status(ctx context.Context, in *taskInput) (*taskOutput, error) {
	t, err := s.task(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &taskOutput{bodyOf(t)}, nil
}

// task is one of the caller's tasks. A text that is no id is that of no task.
func (s *Server) task(ctx context.Context, text string) (store.Task, error) {
	id, err := job.ParseID(text)
	if err != nil {
		return store.Task{}, newProblem(http.StatusNotFound, "TASK_NOT_FOUND", fmt.Sprintf("there is no task %q: check its id", text))
	}
	return s.cfg.Store.Task(ctx, userOf(ctx), id)
}

// remove cancels an open task, or deletes one that has ended.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) error {
	ctx, user := r.Context(), userOf(r.Context())
	withFile, err := flag(r, "file")
	if err != nil {
		return err
	}
	t, err := s.task(ctx, r.PathValue("task_id"))
	if err != nil {
		return err
	}
	if !t.Status.Terminal() {
		if t, err = s.cfg.Store.CancelTask(ctx, user, t.ID); err != nil {
			if e := job.AsError(err); e.Code == "TASK_ENDED" {
				e.Message = "the task has just ended: send the request again to delete it with its transcript"
			}
			return err
		}
		s.InvalidateTask(user, t.ID)
		s.cfg.Notify()
		return writeJSON(w, http.StatusAccepted, bodyOf(t))
	}
	if err := s.cfg.Store.DeleteTask(ctx, user, t.ID); err != nil {
		return err
	}
	s.InvalidateTask(user, t.ID)
	s.cfg.Notify()
	if withFile && t.File != "" {
		// Where other tasks need it, or somebody was faster, the task alone is gone.
		err := s.deleteFile(ctx, user, t.File)
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// flag reads a yes or no of the query.
func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, badField("query."+name, "BAD_FIELD", name+" is neither true nor false")
	}
	return v, nil
}

func (s *Server) taskRoutes() {
	const one = prefix + "/transcription/{task_id}"
	register(s, route{
		method: http.MethodPost, path: prefix + "/transcription/create", id: "create-task", tag: "tasks", body: true,
		status: http.StatusCreated, summary: "Transcribe a file",
		description: "The task is on the disk when the answer comes. Where a finished transcript of the same content, model and " +
			"parameters is there, the task is done at once and `reused` says so.",
		fails: []int{http.StatusNotFound, http.StatusConflict},
	}, s.create)
	register(s, route{
		method: http.MethodGet, path: one + "/status", id: "task-status", tag: "tasks", summary: "See where a task stands",
		cached: taskOfRoute, fails: []int{http.StatusNotFound},
	}, s.status)
	s.plain(route{
		method: http.MethodDelete, path: one, id: "delete-task", tag: "tasks",
		summary: "Cancel a task, or delete one that has ended with its transcript",
		params: []*huma.Param{
			pathParam("task_id", "the task"),
			{
				Name: "file", In: "query", Description: "delete its file too, where no other task needs it",
				Schema: &huma.Schema{Type: huma.TypeBoolean},
			},
		},
		done: map[int]*huma.Response{
			http.StatusAccepted:  answerOf[taskBody](s, "TaskBody", "it is being cancelled"),
			http.StatusNoContent: {Description: "it is deleted"},
		},
		fails: []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, s.remove)
	s.plain(route{
		method: http.MethodGet, path: one + "/download", id: "download-transcript", tag: "tasks", summary: "Get the transcript",
		cached: taskOfRoute, params: []*huma.Param{
			pathParam("task_id", "the task"), queryParam("format", "default text", "text", "docx", "srt", "vtt", "json"),
			queryParam("revision", "an edit by its number, or 0 for what the engine heard; default the newest"),
			headerParam("Range", "a part of it, as in bytes=0-99"),
		},
		done:  map[int]*huma.Response{http.StatusOK: downloads("the transcript")},
		fails: []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, s.download)
	s.plain(route{
		method: http.MethodGet, path: one + "/events", id: "follow-task", tag: "tasks", stream: true,
		summary: "Follow a task as server-sent events",
		description: "Events `status` (the task), `segments` (parts of the transcript as they are heard, for people to read along) " +
			"and, last, `done`, `failed`, `cancelled` or `deleted`. After a break send the id of the last event as Last-Event-ID. " +
			"Segments are lossy and may come twice after a restart; the transcript has them all.",
		params: []*huma.Param{
			pathParam("task_id", "the task"), headerParam("Last-Event-ID", "the last event that was received"),
		},
		done: map[int]*huma.Response{
			http.StatusOK:        bytesOf("events until the task ends", eventType),
			http.StatusNoContent: {Description: "Last-Event-ID names the last event there is"},
		},
		fails: []int{http.StatusNotFound},
	}, s.follow)
}
