package api_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"steno/api"
	"steno/job"
	"steno/store"
)

// bare is a gateway on a record alone, called without a network. It can stand in a bubble of synctest, where time passes only
// when the test sleeps.
type bare struct {
	*testing.T
	server   *api.Server
	store    *store.Store
	cfg      api.Config
	address  string // of those who call
	ada, eve user
}

// newBare makes a gateway; change may alter its configuration.
func newBare(t *testing.T, change ...func(*api.Config)) *bare {
	t.Helper()
	record := must(store.Open(t.Context(), filepath.Join(t.TempDir(), "steno.db"), store.Config{}))(t)
	t.Cleanup(func() { _ = record.Close() })
	cache := api.NewMemoryCache(16 << 20)
	t.Cleanup(func() { _ = cache.Close() })
	b := &bare{T: t, address: "192.0.2.1:1234", cfg: api.Config{
		Store: record, Objects: objects{}, Live: live{}, Cache: cache, Scratch: t.TempDir(), Partial: t.TempDir(),
		Keys: must(api.LoadKeys(filepath.Join(t.TempDir(), "keys")))(t),
		Probe: func(context.Context, string) (api.Media, error) {
			return api.Media{}, job.Errorf(job.Input, "NOT_MEDIA", "this is no sound: send another file")
		},
		Resolve:       resolve,
		Models:        func() []string { return []string{"base"} },
		WebhookSecret: func(user string) string { return "secret of " + user },
		Now:           time.Now,
	}}
	b = b.again(change...)
	b.ada, b.eve = b.account("ada"), b.account("eve")
	return b
}

// again is another gateway on the same record, as after a restart; change may alter its configuration.
func (b *bare) again(change ...func(*api.Config)) *bare {
	b.Helper()
	other := *b
	other.cfg.Metrics = prometheus.NewRegistry()
	for _, f := range change {
		f(&other.cfg)
	}
	other.store = other.cfg.Store
	other.server = must(api.New(other.cfg))(b.T)
	b.Cleanup(other.server.Close)
	return &other
}

// account makes a user with a token, without the work of a log-in.
func (b *bare) account(name string) user {
	b.Helper()
	u := must(b.store.CreateUser(context.WithoutCancel(b.Context()), store.User{
		Username: name, PasswordHash: must(hashed())(b.T), Role: store.RoleUser,
	}))(b.T)
	return user{u, b.token(u).String()}
}

// from is the same gateway, called from another address.
func (b *bare) from(address string) *bare {
	other := *b
	other.address = address
	return &other
}

// call sends a request, as that of a rig does.
func (b *bare) call(as user, method, path string, body any, headers ...string) *reply {
	b.Helper()
	req := b.request(method, path, body)
	if as.token != "" {
		req.Header.Set("Authorization", "Bearer "+as.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	return b.send(req)
}

func (b *bare) request(method, path string, body any) *http.Request {
	b.Helper()
	var data io.Reader
	if body != nil {
		data = bytes.NewReader(must(json.Marshal(body))(b.T))
	}
	req := httptest.NewRequestWithContext(context.WithoutCancel(b.Context()), method, path, data)
	req.RemoteAddr = b.address
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func (b *bare) send(req *http.Request) *reply {
	w := httptest.NewRecorder()
	b.server.ServeHTTP(w, req)
	return &reply{b.T, req.Method + " " + req.URL.Path, w.Result(), w.Body.Bytes()}
}

// openaiError checks that the answer is a failure as clients of OpenAI's API expect it.
func (p *reply) openaiError(status int, kind, code string) {
	p.t.Helper()
	var v struct {
		Error struct{ Message, Type, Code string }
	}
	p.want(status).json(&v)
	if v.Error.Type != kind || v.Error.Code != code || v.Error.Message == "" || p.Header.Get("Content-Type") != "application/json" {
		p.t.Errorf("%s: %s of type %s, want type %s and code %s", p.what, p.body, p.Header.Get("Content-Type"), kind, code)
	}
}

// refused checks that the answer is a failure with this status and code, in the form of its path.
func (p *reply) refused(status int, kind, code string) {
	p.t.Helper()
	if strings.Contains(p.what, " /v1/") {
		p.openaiError(status, kind, code)
		return
	}
	if strings.HasPrefix(p.what, "HEAD ") { // the answer has no body
		p.want(status)
		return
	}
	p.problem(status, code)
}

// forged is a token that is made by hand.
type forged struct {
	header, claims map[string]any
	secret         []byte
	hash           func() hash.Hash
}

// token is a user's good token, for a test to spoil.
func (b *bare) token(u store.User) forged {
	now := b.cfg.Now().Unix()
	return forged{
		header: map[string]any{"alg": "HS256", "typ": "JWT", "kid": b.cfg.Keys[0].ID},
		claims: map[string]any{
			"iss": "steno", "aud": []string{"steno-api"}, "sub": u.ID, "iat": now, "exp": now + 3600,
			"gen": u.TokenGeneration, "auth_time": now,
		},
		secret: b.cfg.Keys[0].Secret, hash: sha256.New,
	}
}

func (f forged) String() string {
	part := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := part(f.header) + "." + part(f.claims)
	mac := hmac.New(f.hash, f.secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// operation is a route as the server itself describes it, so that a test over all of them cannot forget one.
type operation struct {
	method, path string
	public       bool
	ids          []string // parts of the path that name something
	body         []string // fields of the JSON body that name something
	query        string   // all parameters that are a choice, each with a value
	headers      []string // that it reads
	example      any      // a body that fits, where it wants one to find out what the path names
}

// at is the path with everything that it names replaced.
func (o operation) at(id string) string {
	for _, name := range o.ids {
		return strings.ReplaceAll(o.path, "{"+name+"}", id)
	}
	return o.path
}

// operations reads an OpenAPI object. Those that delete come last.
func operations(t testing.TB, spec []byte) []operation {
	t.Helper()
	type schema struct {
		Ref        string `json:"$ref"`
		Type       any
		Enum       []string
		Properties map[string]struct{}
	}
	var doc struct {
		Paths map[string]map[string]struct {
			ID         string `json:"operationId"`
			Security   []any
			Parameters []struct {
				In, Name string
				Schema   schema
			}
			RequestBody struct {
				Content map[string]struct{ Schema schema }
			}
		}
		Components struct{ Schemas map[string]schema }
	}
	if err := json.Unmarshal(spec, &doc); err != nil {
		t.Fatal(err)
	}
	var list, last []operation
	for _, at := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[at])) {
			in := doc.Paths[at][method]
			o := operation{method: strings.ToUpper(method), path: at, public: len(in.Security) == 0}
			var query []string
			for _, p := range in.Parameters {
				switch {
				case p.In == "path":
					o.ids = append(o.ids, p.Name)
				case p.In == "header":
					o.headers = append(o.headers, p.Name)
				case len(p.Schema.Enum) > 0:
					query = append(query, p.Name+"="+p.Schema.Enum[0])
				case p.Schema.Type == "boolean":
					query = append(query, p.Name+"=true")
				}
			}
			o.query = strings.Join(query, "&")
			switch in.ID {
			case "edit-transcript":
				o.example = map[string]any{"base": 0}
			case "follow-tasks": // its answer to GET never ends
				o.method = http.MethodHead
			}
			body := in.RequestBody.Content["application/json"].Schema
			for name := range doc.Components.Schemas[path.Base(body.Ref)].Properties {
				if strings.HasSuffix(name, "_id") {
					o.body = append(o.body, name)
				}
			}
			if strings.Count(at, "{") != len(o.ids) || len(o.ids) > 1 {
				t.Fatalf("%s names %v in its path: teach the tests that use this list what they are", at, o.ids)
			}
			if o.method == http.MethodDelete {
				last = append(last, o)
				continue
			}
			list = append(list, o)
		}
	}
	if len(list) < 20 || len(last) < 3 {
		t.Fatalf("only %d and %d operations: the OpenAPI object is not read as it is meant", len(list), len(last))
	}
	return append(list, last...)
}
