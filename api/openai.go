package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"steno/job"
	"steno/store"
	"steno/transcript"
)

// openaiPrefix is where the routes begin that clients of OpenAI's API use.
const openaiPrefix = "/v1/"

// openaiError is a failure as those clients expect it.
type openaiError struct {
	Error openaiErrorBody `json:"error"`
}

type openaiErrorBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type" example:"invalid_request_error"`
	Param   *string `json:"param" doc:"the field that is wrong"`
	Code    string  `json:"code" doc:"what it is, for programs; stable"`
}

func openaiErrorOf(p *Problem) openaiError {
	e := openaiErrorBody{Message: p.Detail, Type: "invalid_request_error", Code: p.Code}
	switch {
	case p.Status == http.StatusUnauthorized:
		e.Type = "authentication_error"
	case p.Status == http.StatusForbidden:
		e.Type = "permission_error"
	case p.Status == http.StatusTooManyRequests:
		e.Type = "rate_limit_error"
	case p.Status >= http.StatusInternalServerError:
		e.Type = "server_error"
	}
	if len(p.Errors) > 0 {
		field := strings.TrimPrefix(p.Errors[0].Location, "body.")
		e.Param = &field
	}
	return openaiError{e}
}

// asked is what a client of OpenAI's API wants.
type asked struct {
	params job.Params
	format string
	words  bool
	stream bool
}

var openaiFormats = []string{"json", "text", "srt", "vtt", "verbose_json", diarizedJSON}

// openaiAsked reads a form's fields. Those that are not ours are passed over, as their service does.
func openaiAsked(fields map[string][]string, task job.Task) (asked, error) {
	one := func(name string) string {
		if v := fields[name]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	a := asked{
		params: job.Params{Model: one("model"), Language: strings.ToLower(one("language")), Prompt: one("prompt"), Task: task},
		format: cmp.Or(one("response_format"), "json"),
	}
	if !slices.Contains(openaiFormats, a.format) {
		return a, badField("body.response_format", "BAD_FIELD",
			"this response_format is not known: choose "+strings.Join(openaiFormats, ", "))
	}
	if text := one("temperature"); text != "" {
		// It decodes greedily, and hotter only where that fails, as Whisper does; so the value changes nothing.
		if v, err := strconv.ParseFloat(text, 64); err != nil || math.IsNaN(v) || v < 0 || v > 1 {
			return a, badField("body.temperature", "BAD_FIELD", "temperature is no number between 0 and 1")
		}
	}
	if text := one("stream"); text != "" {
		var err error
		if a.stream, err = strconv.ParseBool(text); err != nil {
			return a, badField("body.stream", "BAD_FIELD", "stream is neither true nor false")
		}
	}
	for _, g := range append(fields["timestamp_granularities[]"], fields["timestamp_granularities"]...) {
		switch g {
		case "word":
			a.words = true
		case "segment":
		default:
			return a, badField("body.timestamp_granularities", "BAD_FIELD", "timestamp_granularities are word and segment")
		}
	}
	if a.words && a.format != "verbose_json" {
		return a, badField("body.timestamp_granularities", "BAD_FIELD", "timestamp_granularities go with response_format verbose_json")
	}
	a.params.Words = a.words
	a.params.Diarize = a.format == diarizedJSON
	return a, nil
}

// openai takes a file and answers with its transcript. The task goes the same way as any other, and stays in the history.
func (s *Server) openai(task job.Task) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		form, done, err := s.receive(w, r)
		defer done()
		if err != nil {
			return err
		}
		want, err := openaiAsked(form.fields, task)
		if err != nil {
			return err
		}
		f, err := s.accept(r.Context(), form.file)
		if err != nil {
			return err
		}
		done() // the next may come: from here on nothing of this is in the scratch folder
		// No idempotency key is taken: the task is this request's alone, for it is cancelled with it. Whoever sends the same again gets
		// what is there.
		t, _, err := s.newTask(r.Context(), store.NewTask{File: f.ID, Params: want.params, Reuse: true})
		if err != nil {
			return err
		}
		deadlines(w, 0, 0) // it takes as long as it takes; the client may leave
		if want.stream {
			return s.openaiStream(w, r, t)
		}
		if t, err = s.wait(r.Context(), t, nil); err != nil {
			return err
		}
		result, err := s.cfg.Store.Result(r.Context(), t.User, t.ID)
		if err != nil {
			return err
		}
		deadlines(w, 0, writeTime)
		return openaiAnswer(w, want, result.Transcript)
	}
}

// wait follows a task to its end, and returns it if it is done. Where the caller leaves, the task is cancelled: nobody else
// knows of it. Beat, where there is one, is called now and then meanwhile.
func (s *Server) wait(ctx context.Context, t store.Task, beat func() error) (store.Task, error) {
	hub, leave, err := s.hubs.follow(t)
	if err != nil {
		return t, s.abandon(ctx, t, err)
	}
	defer leave()
	tick := time.NewTicker(s.cfg.Heartbeat)
	defer tick.Stop()
	for {
		_, more, ended := hub.since(0)
		if ended {
			break
		}
		select {
		case <-more:
		case <-tick.C:
			if beat != nil {
				if err := beat(); err != nil {
					return t, s.abandon(ctx, t, context.Canceled)
				}
			}
		case <-ctx.Done():
			return t, s.abandon(ctx, t, ctx.Err())
		case <-s.draining.Done():
			// The task goes on; whoever sends the same again gets what it has become.
			return t, newProblem(http.StatusServiceUnavailable, "STOPPING", "the service is stopping: send the request again in a moment").
				with("Retry-After", "5")
		}
	}
	if t, err = s.cfg.Store.Task(ctx, t.User, t.ID); err != nil {
		return t, err
	}
	return t, endOf(t)
}

// endOf is the error of a task that has ended without a transcript.
func endOf(t store.Task) error {
	switch {
	case t.Status == job.Done:
		return nil
	case t.Status == job.Cancelled:
		return newProblem(http.StatusConflict, "CANCELLED", "the task was cancelled: send the request again")
	case t.Error != nil && t.Error.Class == job.Input:
		return newProblem(http.StatusUnprocessableEntity, t.Error.Code, t.Error.Message)
	case t.Error != nil:
		return newProblem(http.StatusInternalServerError, t.Error.Code, t.Error.Message)
	}
	return newProblem(http.StatusServiceUnavailable, "STOPPING", "the service is stopping: send the request again in a moment").
		with("Retry-After", "5")
}

// abandon cancels a task whose caller has left, and returns why.
func (s *Server) abandon(ctx context.Context, t store.Task, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := s.cfg.Store.CancelTask(ctx, t.User, t.ID); err != nil && codeOf(err) != "TASK_ENDED" {
		s.cfg.Log.WarnContext(ctx, "cancel a task whose caller has left", "task", t.ID, "error", err)
		return why
	}
	s.InvalidateTask(t.User, t.ID)
	s.cfg.Notify()
	return why
}

// openaiStream answers with events. A transcript is whole only when all its chunks are, so its text comes last, a segment an
// event; before, comments keep the connection.
func (s *Server) openaiStream(w http.ResponseWriter, r *http.Request, t store.Task) error {
	out := newStream(w)
	send := func(v any) error {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return out.event("", "", data)
	}
	failed := func(err error) error {
		if r.Context().Err() != nil {
			return nil //nolint:nilerr // the client has gone
		}
		_ = send(openaiErrorOf(s.problem(r.Context(), err))) // the status is sent: an event is all there is left
		return nil
	}
	t, err := s.wait(r.Context(), t, func() error { return out.comment("working") })
	if err != nil {
		return failed(err)
	}
	result, err := s.cfg.Store.Result(r.Context(), t.User, t.ID)
	if err != nil {
		return failed(err)
	}
	text := result.Transcript.Text
	for _, delta := range deltas(text, result.Transcript.Segments) {
		if err := send(map[string]string{"type": "transcript.text.delta", "delta": delta}); err != nil {
			return nil //nolint:nilerr // the client has gone
		}
	}
	_ = send(map[string]any{"type": "transcript.text.done", "text": text, "usage": usageOf(result.Transcript)})
	_ = out.event("", "", []byte("[DONE]")) // an error of either means that the client has gone
	return nil
}

// deltas cuts a text at the ends of its segments, so that the pieces together are the text.
func deltas(text string, segments []transcript.Segment) (list []string) {
	for _, seg := range segments {
		i := strings.Index(text, seg.Text)
		if i < 0 || seg.Text == "" {
			continue
		}
		list = append(list, text[:i+len(seg.Text)])
		text = text[i+len(seg.Text):]
	}
	if text != "" {
		list = append(list, text)
	}
	return list
}

func (s *Server) openaiRoutes() {
	text := &huma.Schema{Type: huma.TypeString}
	list := &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Enum: []any{"word", "segment"}}}
	fields := map[string]*huma.Schema{
		"file": {Type: huma.TypeString, Format: "binary"}, "model": text, "language": text, "prompt": text,
		"response_format": {Type: huma.TypeString, Enum: []any{"json", "text", "srt", "vtt", "verbose_json", diarizedJSON}},
		"temperature":     {Type: huma.TypeNumber}, "stream": {Type: huma.TypeBoolean}, "timestamp_granularities[]": list,
	}
	for path, task := range map[string]job.Task{"transcriptions": job.Transcribe, "translations": job.Translate} {
		ok := bytesOf("the transcript", "text/plain", eventType)
		schemas := s.huma.OpenAPI().Components.Schemas
		ok.Content[jsonType] = &huma.MediaType{Schema: &huma.Schema{AnyOf: []*huma.Schema{
			schemaOf[verboseBody](schemas, "VerboseBody"), schemaOf[diarizedBody](schemas, "DiarizedBody"),
		}}}
		s.plain(route{
			method: http.MethodPost, path: openaiPrefix + "audio/" + path, id: "openai-" + path, tag: "openai", stream: true, openai: true,
			summary: fmt.Sprintf("Get a transcript at once, as clients of OpenAI's API do (%s)", task),
			description: "The answer comes when the task is done; for long files POST /api/v1/transcription/create is better. Where the " +
				"client leaves before, the task is cancelled.",
			request: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
				"multipart/form-data": {Schema: &huma.Schema{Type: huma.TypeObject, Required: []string{"file"}, Properties: fields}},
			}},
			done: map[int]*huma.Response{http.StatusOK: ok},
			fails: []int{
				http.StatusBadRequest, http.StatusRequestTimeout, http.StatusConflict, http.StatusRequestEntityTooLarge,
				http.StatusUnprocessableEntity,
			},
		}, s.openai(task))
	}
	s.plain(route{
		method: http.MethodGet, path: openaiPrefix + "models", id: "list-models", tag: "openai", openai: true,
		summary: "List the models", done: map[int]*huma.Response{http.StatusOK: answerOf[modelList](s, "ModelList", "the models")},
	}, s.models)
	s.plain(route{
		method: http.MethodGet, path: openaiPrefix + "models/{model}", id: "describe-model", tag: "openai", openai: true,
		summary: "See whether there is a model", params: []*huma.Param{pathParam("model", "its name")},
		done:  map[int]*huma.Response{http.StatusOK: answerOf[modelBody](s, "ModelBody", "the model")},
		fails: []int{http.StatusNotFound},
	}, s.model)
}
