package api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/oklog/ulid/v2"

	"steno/api"
	"steno/store"
)

const (
	allowOrigin  = "Access-Control-Allow-Origin"
	allowMethods = "Access-Control-Allow-Methods"
	allowHeaders = "Access-Control-Allow-Headers"
)

// Pages of the origins that are named may call and read the answers, whatever these are; pages of others may not.
func TestOrigins(t *testing.T) {
	t.Parallel()
	some := []string{"https://app.example", "http://localhost:3000"}
	for name, row := range map[string]struct {
		origins []string
		origin  string
		allowed bool
	}{
		"named":             {some, "https://app.example", true},
		"named too":         {some, "http://localhost:3000", true},
		"none":              {some, "", false},
		"other":             {some, "https://evil.example", false},
		"other scheme":      {some, "http://app.example", false},
		"other port":        {some, "https://app.example:8443", false},
		"below":             {some, "https://x.app.example", false},
		"that begins so":    {some, "https://app.example.evil.example", false},
		"that ends so":      {some, "https://evil-app.example", false},
		"null":              {some, "null", false},
		"star as a text":    {some, "*", false},
		"all":               {[]string{"*"}, "https://anybody.example", true},
		"all, null":         {[]string{"*"}, "null", true},
		"all, none":         {[]string{"*"}, "", false},
		"nobody may":        {nil, "https://app.example", false},
		"nobody, no origin": {nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBare(t, func(c *api.Config) { c.Origins = row.origins })
			var headers []string
			if row.origin != "" {
				headers = []string{"Origin", row.origin}
			}
			check := func(got *reply) http.Header {
				t.Helper()
				want, policy := "", "same-origin"
				if row.allowed {
					want, policy = row.origin, "cross-origin"
				}
				h := got.Header
				if h.Get(allowOrigin) != want || h.Get("Cross-Origin-Resource-Policy") != policy ||
					h.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("%s: %d, %v", got.what, got.StatusCode, h)
				}
				// Whoever keeps the answer must not show it to pages of another origin.
				if slices.Contains(h.Values("Vary"), "Origin") != (len(row.origins) > 0) {
					t.Errorf("%s: Vary is %q", got.what, h.Values("Vary"))
				}
				return h
			}
			for path, status := range map[string]int{
				"/api/v1/user/me": 200, historyPath: 200, "/v1/models": 200, "/health": 200, "/nothing": 404, "/openapi.json": 200,
				"/api/v1/files/nothing": 404, "/v1/models/nothing": 404, "/docs": 301,
			} {
				h := check(b.call(b.ada, "GET", path, nil, headers...).want(status))
				if exposed := h.Get("Access-Control-Expose-Headers"); strings.Contains(exposed, "X-Request-Id") != row.allowed {
					t.Errorf("%s exposes %q", path, exposed)
				}
			}
			check(b.call(user{}, "GET", "/api/v1/user/me", nil, headers...).want(401))
			check(b.call(b.ada, "PUT", "/api/v1/user/me", nil, headers...).want(405))
			// A question that a browser asks before carries no token.
			headers = append(headers, "Access-Control-Request-Method", "DELETE", "Access-Control-Request-Headers", "authorization")
			ask := b.call(user{}, "OPTIONS", "/api/v1/files/x", nil, headers...)
			h := check(ask)
			if (ask.StatusCode == 204) != row.allowed || (h.Get(allowMethods) != "") != row.allowed ||
				(h.Get(allowHeaders) != "") != row.allowed {
				t.Errorf("preflight: %d, %v", ask.StatusCode, h)
			}
			check(b.call(user{}, "OPTIONS", "/api/v1/files/x", nil, headers[:len(headers)-4]...).want(405)) // it is no question
		})
	}
}

// What browsers are told that they may send covers all that the routes take, and what they may read all that pages need.
func TestPreflightCoversRoutes(t *testing.T) {
	t.Parallel()
	b := newBare(t, func(c *api.Config) { c.Origins = []string{"*"} })
	list := func(h http.Header, name string) []string { return strings.Split(strings.ToLower(h.Get(name)), ", ") }
	asked := []string{"authorization", "content-type", "x-request-id", "if-none-match"}
	for _, o := range operations(t, b.call(user{}, "GET", "/openapi.json", nil).want(200).body) {
		got := b.call(user{}, "OPTIONS", o.at("x"), nil,
			"Origin", "https://app.example", "Access-Control-Request-Method", o.method).want(204)
		if !slices.Contains(list(got.Header, allowMethods), strings.ToLower(o.method)) {
			t.Errorf("%s %s: only %s are allowed", o.method, o.path, got.Header.Get(allowMethods))
		}
		for _, name := range append(asked, o.headers...) {
			if !slices.Contains(list(got.Header, allowHeaders), strings.ToLower(name)) {
				t.Errorf("%s %s: %s is not among %s", o.method, o.path, name, got.Header.Get(allowHeaders))
			}
		}
		if got.Header.Get("Access-Control-Max-Age") == "" || got.Header.Get("X-Request-Id") == "" || len(got.body) > 0 {
			t.Errorf("%s %s: %v, %q", o.method, o.path, got.Header, got.body)
		}
	}
	answer := b.call(b.ada, "GET", "/api/v1/user/me", nil, "Origin", "https://app.example")
	exposed := list(answer.Header, "Access-Control-Expose-Headers")
	for _, name := range []string{
		"content-disposition", "location", "retry-after", "x-request-id", "x-cache", "etag", "idempotency-replayed",
	} {
		if !slices.Contains(exposed, name) {
			t.Errorf("%s is not among %s", name, exposed)
		}
	}
}

// What is kept for a page of one origin is answered to one of another as its own, and pages can read that they ask too often.
func TestOriginsShareAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, func(c *api.Config) { c.Origins, c.UserRate = []string{"https://one.example", "https://two.example"}, 1 })
		one := b.call(b.ada, "GET", historyPath, nil, "Origin", "https://one.example").want(200).from("MISS")
		two := b.call(b.ada, "GET", historyPath, nil, "Origin", "https://two.example").want(200).from("HIT")
		if one.Header.Get(allowOrigin) != "https://one.example" || two.Header.Get(allowOrigin) != "https://two.example" {
			t.Errorf("headers %v and %v", one.Header, two.Header)
		}
		if vary := two.Header.Values("Vary"); !slices.Contains(vary, "Origin") || !slices.Contains(vary, "Authorization") {
			t.Errorf("Vary is %q", vary)
		}
		refused := b.call(b.ada, "GET", historyPath, nil, "Origin", "https://one.example").want(429).Header
		if refused.Get(allowOrigin) == "" || !strings.Contains(refused.Get("Access-Control-Expose-Headers"), "Retry-After") {
			t.Errorf("too many: %v", refused)
		}
	})
}

// Each answer has an id and the headers that keep browsers safe; a problem names the id, too.
func TestRequestID(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	for id, taken := range map[string]bool{
		"plain": true, "0": true, "3f2c-A_b.c:d": true, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, "": false,
		" ": false, "a b": false, "a\nb": false, "a\r\nX-Evil: 1": false, "ä": false, "<script>": false, `"`: false, "a,b": false,
		"a/b": false, "\x00": false,
	} {
		var p api.Problem
		got := b.call(user{}, "GET", "/nothing", nil, "X-Request-Id", id).want(404).json(&p)
		own := got.Header.Get("X-Request-Id")
		if _, err := ulid.ParseStrict(own); (own == id) != taken || !taken && err != nil || p.RequestID != own {
			t.Errorf("%q is called %q, in the body %q", id, own, p.RequestID)
		}
	}
	seen := map[string]bool{}
	for _, row := range []struct {
		as           user
		method, path string
		status       int
	}{
		{b.ada, "GET", "/api/v1/user/me", 200}, {b.ada, "GET", historyPath, 200}, {b.ada, "GET", historyPath, 200},
		{b.ada, "HEAD", historyPath, 200},
		{b.ada, "POST", "/api/v1/user/keys", 400}, {user{}, "GET", "/api/v1/user/me", 401}, {user{}, "GET", "/v1/models", 401},
		{user{}, "GET", "/nothing", 404}, {user{}, "PUT", "/health", 405}, {user{}, "GET", "/docs", 301}, {user{}, "GET", "/", 302},
		{user{}, "GET", "/docs/", 200}, {user{}, "GET", "/openapi.json", 200}, {user{}, "GET", "/health/ready", 200},
		{b.ada, "POST", "/api/v1/auth/revoke", 204}, {user{}, "GET", "/api//v1/./health", 307},
	} {
		h := b.call(row.as, row.method, row.path, nil).want(row.status).Header
		if id := h.Get("X-Request-Id"); id == "" || seen[id] || len(h.Values("X-Request-Id")) != 1 {
			t.Errorf("%s %s has the id %q", row.method, row.path, h.Values("X-Request-Id"))
		}
		seen[h.Get("X-Request-Id")] = true
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") == "" ||
			h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s %s: %v", row.method, row.path, h)
		}
	}
}

// Paths and methods that are not there are said to be so, in the form of their part of the API.
func TestNoSuchPath(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	for _, path := range []string{
		"/nothing", "/api", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v2/health", "/health/", "/api/v1/files/",
		"/api/v1/files/a/b", "/api/v1/user/me/", "/openapi.yaml", "/v1/nothing", "/v1/models/", "/v1/audio", "/%2e%2e/health", "/v1",
	} {
		for _, as := range []user{{}, b.ada} {
			b.call(as, "GET", path, nil).refused(404, "invalid_request_error", "NO_SUCH_PATH")
			b.call(as, "POST", path, nil).refused(404, "invalid_request_error", "NO_SUCH_PATH")
		}
	}
	methods := map[string][]string{} // of each path
	list := operations(t, b.call(user{}, "GET", "/openapi.json", nil).want(200).body)
	for _, o := range list {
		methods[o.path] = append(methods[o.path], o.method)
		if o.method == http.MethodGet {
			methods[o.path] = append(methods[o.path], http.MethodHead)
		}
	}
	for _, o := range list {
		for _, method := range []string{"PATCH", "PUT", "OPTIONS", "TRACE", "BREW"} {
			if slices.Contains(methods[o.path], method) {
				continue
			}
			got := b.call(b.ada, method, o.at("x"), nil)
			got.refused(405, "invalid_request_error", "METHOD_NOT_ALLOWED")
			allow := strings.Split(got.Header.Get("Allow"), ", ")
			for _, m := range methods[o.path] {
				if !slices.Contains(allow, m) {
					t.Errorf("%s: Allow is %q, want %q", got.what, allow, methods[o.path])
				}
			}
			for _, m := range allow { // what is allowed is there
				if b.call(user{}, m, o.at("x"), nil).StatusCode == http.StatusMethodNotAllowed {
					t.Errorf("%s: Allow is %q, but %s is not", got.what, allow, m)
				}
			}
		}
	}
}

// shaky is an object that breaks halfway.
type shaky struct {
	api.Objects
	*bytes.Reader
}

func (s shaky) Open(context.Context, string) (io.ReadSeekCloser, error) { return s, nil }
func (s shaky) Close() error                                            { return nil }
func (s shaky) Read(p []byte) (int, error) {
	if int64(s.Len()) < s.Size()/2 {
		panic("the disk is on fire")
	}
	return s.Reader.Read(p)
}

// A handler that breaks takes neither the process with it nor its place among the requests in flight, and tells nobody why.
func TestPanic(t *testing.T) {
	t.Parallel()
	b := newBare(t, func(c *api.Config) {
		c.InFlight, c.Origins = 1, []string{"*"}
		c.Models = func() []string { panic("secret of the house") }
		c.WebhookSecret = func(string) string { panic("secret of the house") }
	})
	for range 3 {
		for _, path := range []string{"/v1/models", "/api/v1/user/webhook-secret"} {
			got := b.call(b.ada, "GET", path, nil, "Origin", "https://app.example")
			got.refused(500, "server_error", "INTERNAL")
			if strings.Contains(string(got.body), "house") || got.Header.Get(allowOrigin) == "" || got.Header.Get("X-Request-Id") == "" {
				t.Errorf("%s: %v: %s", got.what, got.Header, got.body)
			}
		}
		b.call(b.ada, "GET", "/api/v1/user/me", nil).want(200)
	}
}

// Of an answer that breaks in its middle the client sees that it is not whole.
func TestPanicInTheMiddle(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	b := newBare(t, func(c *api.Config) { c.Objects = shaky{Reader: bytes.NewReader(make([]byte, size))} })
	sum := strings.Repeat("0", 64)
	f := must(b.store.AddFile(t.Context(), store.File{User: b.ada.ID, Name: "a.wav", SHA256: sum, Object: sum, Size: size}))(t)
	at := httptest.NewServer(b.server)
	t.Cleanup(at.Close)
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, at.URL+"/api/v1/files/"+f.ID+"/content", nil))(t)
	req.Header.Set("Authorization", "Bearer "+b.ada.token)
	res := must(at.Client().Do(req))(t)
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err == nil || n == 0 || n >= size || res.StatusCode != http.StatusOK {
		t.Errorf("status %d, %d bytes of %d, error %v", res.StatusCode, n, size, err)
	}
}
