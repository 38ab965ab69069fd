package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"syscall"

	"github.com/danielgtaylor/huma/v2"

	"steno/internal/disk"
	"steno/job"
	"steno/store"
)

// Problem is what a request that fails is answered with (RFC 9457).
type Problem struct {
	Type   string `json:"type" doc:"always about:blank: the code says what it is" example:"about:blank"`
	Title  string `json:"title" doc:"the status in words" example:"Not Found"`
	Status int    `json:"status" doc:"the HTTP status" example:"404"`
	Detail string `json:"detail" doc:"one sentence that says what to do"`
	Code   string `json:"code" doc:"what it is, for programs; stable" example:"TASK_NOT_FOUND"`
	// RequestID is also in the header X-Request-Id and in the log.
	RequestID string  `json:"request_id" doc:"names the request in our log"`
	Errors    []Field `json:"errors,omitempty" doc:"the fields that are wrong"`

	header http.Header
}

// Field is a part of a request that is wrong.
type Field struct {
	Location string `json:"location" doc:"where it is" example:"body.language"`
	Message  string `json:"message" doc:"what is wrong with it"`
}

const problemType = "application/problem+json"

func (p *Problem) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders implements huma.HeadersError.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType implements huma.ContentTypeFilter.
func (*Problem) ContentType(string) string { return problemType }

// with sets a header of the answer.
func (p *Problem) with(name, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

func newProblem(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code}
}

// badField is the answer to one field that is wrong.
func badField(location, code, message string) *Problem {
	p := newProblem(http.StatusUnprocessableEntity, code, message)
	p.Errors = []Field{{location, message}}
	return p
}

// problem turns any error into an answer, and logs what is our fault.
func (s *Server) problem(ctx context.Context, err error) *Problem {
	var p *Problem
	if !errors.As(err, &p) {
		p = s.fromError(ctx, err)
	}
	copied := *p
	copied.RequestID = requestOf(ctx).id
	return &copied
}

// statuses are those of codes whose class alone does not tell.
var statuses = map[string]int{
	"OBJECT_BUSY":           http.StatusServiceUnavailable,
	"AUDIO_MISSING":         http.StatusGone,
	"DEAD_LETTER_NOT_FOUND": http.StatusNotFound,
	"NOT_A_JOB":             http.StatusConflict,
	"JOB_NOT_FAILED":        http.StatusConflict,
	"NODE_NOT_FOUND":        http.StatusNotFound,
	"NODE_DRAINING":         http.StatusConflict,
	"TOO_MANY_LOADS":        http.StatusConflict,
}

// full tells whether an error is for want of room on a disk.
func full(err error) bool {
	_, low := errors.AsType[*disk.LowError](err)
	return low || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (s *Server) fromError(ctx context.Context, err error) *Problem {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return newProblem(http.StatusServiceUnavailable, "CANCELLED", "the request was ended: send it again").with("Retry-After", "1")
	}
	e := job.AsError(err)
	if queueFull := e.Code == "QUEUE_STORE_FULL"; queueFull || full(err) {
		code := "DISK_FULL"
		if queueFull {
			code = e.Code
		}
		s.cfg.Log.ErrorContext(ctx, "there is no room", "request", requestOf(ctx).id, "code", code, "error", err)
		return newProblem(http.StatusInsufficientStorage, code, "the service has no room for more now: try again later").
			with("Retry-After", "60")
	}
	switch status := statuses[e.Code]; {
	case status != 0:
		return newProblem(status, e.Code, e.Message)
	case errors.Is(err, store.ErrNotFound):
		return newProblem(http.StatusNotFound, e.Code, e.Message)
	case errors.Is(err, store.ErrConflict):
		return newProblem(http.StatusConflict, e.Code, e.Message)
	case e.Class == job.Input && e.Code != "BAD_DATABASE":
		return newProblem(http.StatusUnprocessableEntity, e.Code, e.Message)
	}
	s.cfg.Log.ErrorContext(ctx, "request failed", "request", requestOf(ctx).id, "code", e.Code, "error", err)
	if e.Class == job.Transient || e.Class == job.Resource {
		// The message may name hosts and paths: it is for the log.
		return newProblem(http.StatusServiceUnavailable, e.Code, "a part of the service is busy or away: try again in a moment").
			with("Retry-After", "2")
	}
	return newProblem(http.StatusInternalServerError, e.Code,
		"something went wrong on our side: try again, and report the request id if it stays")
}

// fail answers a plain handler's request that has failed.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problem(r.Context(), err)
	var body any = p
	kind := problemType
	if strings.HasPrefix(r.URL.Path, openaiPrefix) {
		body, kind = openaiErrorOf(p), jsonType
	}
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(body) // an error means that the client has gone
	}
}

// humaCodes name what huma itself refuses.
var humaCodes = map[int]string{
	http.StatusBadRequest:            "BAD_REQUEST",
	http.StatusRequestTimeout:        "BODY_TIMEOUT",
	http.StatusRequestEntityTooLarge: "BODY_TOO_LARGE",
	http.StatusUnsupportedMediaType:  "UNSUPPORTED_MEDIA_TYPE",
	http.StatusUnprocessableEntity:   "BAD_FIELD",
}

// ours makes a problem of what huma says of a request that does not fit its schema. No value is repeated: one may be a password.
func (s *Server) ours(ctx huma.Context, _ string, v any) (any, error) {
	m, is := v.(*huma.ErrorModel)
	if !is {
		return v, nil
	}
	p := newProblem(m.Status, or(humaCodes[m.Status], "INTERNAL"), m.Detail)
	var texts []string
	for _, e := range m.Errors {
		p.Errors = append(p.Errors, Field{e.Location, e.Message})
		texts = append(texts, e.Location+": "+e.Message)
	}
	if len(texts) > 0 {
		p.Detail = strings.Join(texts, "; ")
	}
	if m.Status >= http.StatusInternalServerError {
		s.cfg.Log.Error("request failed", "request", requestOf(ctx.Context()).id, "error", p.Detail)
		p.Detail, p.Errors = "something went wrong on our side: try again", nil
	}
	p.RequestID = requestOf(ctx.Context()).id
	return p, nil
}

// logRequest writes one line for a request that has ended.
func (s *Server) logRequest(r *http.Request, status int, attrs ...slog.Attr) {
	level := slog.LevelDebug
	if status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	s.cfg.Log.LogAttrs(r.Context(), level, "request", attrs...)
}
