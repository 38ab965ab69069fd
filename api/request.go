package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/oklog/ulid/v2"

	"steno/store"
)

// request is what the chain knows of a request. It is owned by the request's goroutine.
type request struct {
	id      string
	address string // whom the limits count
	route   string // its pattern; empty for none of ours
	user    store.User
	token   *claims // nil where an API key was given
	cache   string  // HIT, MISS or nothing
}

type requestKey struct{}

// requestOf returns what is known of the request that ctx belongs to; never nil.
func requestOf(ctx context.Context) *request {
	if q, ok := ctx.Value(requestKey{}).(*request); ok {
		return q
	}
	return &request{}
}

// userOf is the id of the user who calls.
func userOf(ctx context.Context) string { return requestOf(ctx).user.ID }

// maxRequestID bounds what callers may call their requests.
const maxRequestID = 64

// requestID takes the caller's name for a request where it is a plain one, and else makes one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:", c)
	}
	if id == "" || len(id) > maxRequestID || strings.ContainsFunc(id, odd) {
		return ulid.Make().String()
	}
	return id
}

// answer notes what is written to the client.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 || a.status < http.StatusOK { // after an informational one comes another
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
