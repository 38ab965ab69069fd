package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"steno/store"
)

// prefix is where the API begins.
const prefix = "/api/v1"

// maxJSON is the most bytes of a JSON body: a prompt of 224 tokens is the longest text in one.
const maxJSON = 64 << 10

// route is an operation with all that the chain has to know of it.
type route struct {
	method, path, id, tag, summary, description string

	status int  // of success; 0 is 200
	parts  bool // it gives parts, as all that is cached does
	openai bool // it fails in the form of OpenAI's API
	public bool // anybody may call
	ticket bool // whoever has a ticket may call as well
	admin  bool // only administrators may
	body   bool // it has a JSON body
	// maxBody is the most bytes of the body. 0 is maxJSON.
	maxBody int64
	free    bool // it is not counted among the requests in flight
	stream  bool // its answer is written as it comes: no cache, no deadline of its own
	// cached names what its answer depends on; nil: it is not cached.
	cached func(r *http.Request) string
	// fails are statuses besides those that every route of its kind has.
	fails []int
	// done are the answers of a plain handler, by status.
	done map[int]*huma.Response
	// params and request document a plain handler's input.
	params  []*huma.Param
	request *huma.RequestBody
}

func (t route) pattern() string { return t.method + " " + t.path }

// operation documents the route.
func (s *Server) operation(t route) huma.Operation {
	op := huma.Operation{
		Method: t.method, Path: t.path, OperationID: t.id, Summary: t.summary, Description: t.description, Tags: []string{t.tag},
		Parameters: t.params, RequestBody: t.request, Responses: map[string]*huma.Response{},
		MaxBodyBytes: or(t.maxBody, maxJSON), DefaultStatus: t.status,
	}
	if !t.public {
		op.Security = []map[string][]string{{"token": {}}}
	}
	for status, response := range t.done {
		op.Responses[strconv.Itoa(status)] = response
	}
	if t.cached != nil || t.parts {
		s.documentParts(op.Responses)
	}
	for _, status := range t.failures() {
		op.Responses[strconv.Itoa(status)] = s.failure(status, t.openai)
	}
	return op
}

// documentParts adds the answers of requests for a part, or for what has changed, which each kept answer gives.
func (*Server) documentParts(to map[string]*huma.Response) {
	for status, r := range map[int]*huma.Response{
		http.StatusPartialContent:               {Description: "the part of it that Range asks for", Content: anything()},
		http.StatusNotModified:                  {Description: "If-None-Match names what is there"},
		http.StatusPreconditionFailed:           {Description: "If-Match names something else"},
		http.StatusRequestedRangeNotSatisfiable: {Description: "there is no such part", Content: anything()},
	} {
		if to[strconv.Itoa(status)] == nil {
			to[strconv.Itoa(status)] = r
		}
	}
}

// anything is a body of any type.
func anything() map[string]*huma.MediaType { return map[string]*huma.MediaType{"*/*": {}} }

// failures are all statuses with which the route may fail, the least first.
func (t route) failures() []int {
	all := map[int]bool{http.StatusInternalServerError: true}
	add := func(list ...int) {
		for _, status := range list {
			all[status] = true
		}
	}
	add(t.fails...)
	if !t.free {
		add(http.StatusTooManyRequests, http.StatusServiceUnavailable)
	}
	if !t.public {
		add(http.StatusUnauthorized)
	}
	if t.admin {
		add(http.StatusForbidden)
	}
	if t.body {
		add(http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
			http.StatusUnprocessableEntity, http.StatusInsufficientStorage)
	}
	return slices.Sorted(maps.Keys(all))
}

// failure documents an answer that is a problem.
func (s *Server) failure(status int, openai bool) *huma.Response {
	r := &huma.Response{
		Description: http.StatusText(status),
		Content:     map[string]*huma.MediaType{problemType: {Schema: s.problemSchema}},
	}
	if openai {
		r.Content = map[string]*huma.MediaType{jsonType: {Schema: s.openaiSchema}}
	}
	if slices.Contains([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage}, status) {
		r.Headers = map[string]*huma.Param{"Retry-After": {
			Description: "seconds to wait", Schema: &huma.Schema{Type: huma.TypeInteger},
		}}
	}
	return r
}

// register adds an operation whose input and output huma reads and writes.
func register[I, O any](s *Server, t route, handle func(context.Context, *I) (*O, error)) {
	s.routes[t.pattern()] = t
	huma.Register(s.huma, s.operation(t), func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
}

// plain adds an operation of a handler that reads and writes by itself.
func (s *Server) plain(t route, handle func(http.ResponseWriter, *http.Request) error) {
	s.routes[t.pattern()] = t
	op := s.operation(t)
	s.huma.OpenAPI().AddOperation(&op)
	s.HandleFunc(t.pattern(), s.answering(handle))
}

// answering turns a handler's error into its answer.
func (s *Server) answering(handle func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := handle(w, r); err != nil {
			s.fail(w, r, err)
		}
	}
}

// HandleFunc implements humago.Mux: what is registered here passes the part of the chain that depends on the route.
func (s *Server) HandleFunc(pattern string, handle func(http.ResponseWriter, *http.Request)) {
	t := s.routes[pattern]
	if t.cached != nil {
		handle = s.caching(t, handle)
	}
	s.mux.HandleFunc(pattern, s.answering(func(w http.ResponseWriter, r *http.Request) error {
		requestOf(r.Context()).route = t.path
		if !t.public {
			authenticate := s.authenticate
			if t.ticket && r.URL.Query().Has(ticketParam) {
				authenticate = s.admitTicket
			}
			if err := authenticate(r); err != nil {
				return err
			}
		}
		if t.admin && requestOf(r.Context()).user.Role != store.RoleAdmin {
			return newProblem(http.StatusForbidden, "NOT_ADMIN", "only administrators may do this: ask one")
		}
		if !t.free && !t.stream {
			leave, err := s.admit(requestOf(r.Context()))
			if err != nil {
				return err
			}
			defer leave()
		}
		handle(w, r)
		return nil
	}))
}

// admit lets a request in where there are not too many already, in all and of its caller.
func (s *Server) admit(q *request) (leave func(), err error) {
	busy := func(limit string) error {
		s.metrics.limited.WithLabelValues(limit).Inc()
		return newProblem(http.StatusServiceUnavailable, "BUSY", "the service is busy: try again in a moment").
			with("Retry-After", seconds(time.Second))
	}
	giveBack, ok := s.requestShares.enter(q.caller(), nil)
	if !ok {
		return nil, busy("share")
	}
	select {
	case s.inFlight <- struct{}{}:
		return func() { <-s.inFlight; giveBack() }, nil
	default:
		giveBack()
		return nil, busy("in_flight")
	}
}

// lost answers for paths and methods that are not there.
func (s *Server) lost(w http.ResponseWriter, r *http.Request) {
	handler, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	probe := &headerOnly{header: http.Header{}}
	handler.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		allow := probe.header.Get("Allow")
		p := newProblem(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "this path takes "+allow+" only")
		s.fail(w, r, p.with("Allow", allow))
		return
	}
	s.fail(w, r, newProblem(http.StatusNotFound, "NO_SUCH_PATH", "there is nothing here: see /docs for the paths"))
}

// headerOnly takes an answer without its body.
type headerOnly struct {
	header http.Header
	status int
}

func (h *headerOnly) Header() http.Header         { return h.header }
func (h *headerOnly) Write(p []byte) (int, error) { return len(p), nil }
func (h *headerOnly) WriteHeader(status int)      { h.status = status }
