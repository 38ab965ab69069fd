package api_test

import (
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// described is what the OpenAPI object says of an operation.
type described struct {
	ID          string `json:"operationId"`
	Summary     string
	Description string
	Tags        []string
	Security    []map[string][]string
	Parameters  []struct {
		Name, In, Description string
		Required              bool
		Schema                map[string]any
	}
	RequestBody *struct {
		Required bool
		Content  map[string]any
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct {
			Schema struct {
				Ref string `json:"$ref"`
			}
		}
		Headers map[string]any
	}
}

// spec reads the OpenAPI object: operations by "METHOD path".
func (s *stage) spec() map[string]described {
	s.Helper()
	var doc struct {
		Version string `json:"openapi"`
		Info    struct{ Title, Version, Description string }
		Paths   map[string]map[string]described
		Parts   struct {
			Schemes map[string]map[string]string `json:"securitySchemes"`
		} `json:"components"`
	}
	p := s.call(user{}, "GET", "/openapi.json", nil).want(200).json(&doc)
	if !strings.HasPrefix(doc.Version, "3.1.") || doc.Info.Title == "" || doc.Info.Version == "" || doc.Info.Description == "" {
		s.Errorf("OpenAPI %s, info %+v", doc.Version, doc.Info)
	}
	if token := doc.Parts.Schemes["token"]; token["type"] != "http" || token["scheme"] != "bearer" {
		s.Errorf("security schemes %v", doc.Parts.Schemes)
	}
	if p.Header.Get("Content-Type") != "application/json" {
		s.Errorf("type %s", p.Header.Get("Content-Type"))
	}
	list := map[string]described{}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			list[strings.ToUpper(method)+" "+path] = op
		}
	}
	return list
}

// What is described is what there is: all of it, and nothing else.
func TestRoutes(t *testing.T) {
	t.Parallel()
	s := newStage(t).open()
	ops := s.spec()
	names := slices.Sorted(maps.Keys(ops))
	if routes := slices.Sorted(slices.Values(s.server.Patterns())); !slices.Equal(names, routes) {
		t.Errorf("described are\n%q\nand there are\n%q", names, routes)
	}
	got := strings.Join(names, "\n") + "\n"
	golden := filepath.Join("testdata", "routes.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want := must(os.ReadFile(golden))(t); got != string(want) {
		t.Errorf("the routes are\n%s\nand %s says\n%s\n(-update writes it anew)", got, golden, want)
	}
	for name, op := range ops {
		method, path, _ := strings.Cut(name, " ")
		path = regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(path, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
		p := s.call(user{}, method, path, nil)
		switch needs := len(op.Security) > 0; {
		case needs != (p.StatusCode == http.StatusUnauthorized) && path != "/api/v1/auth/token":
			t.Errorf("%s: without a token %d, and needs one: %v", name, p.StatusCode, needs)
		case p.StatusCode == http.StatusNotFound || p.StatusCode == http.StatusMethodNotAllowed:
			t.Errorf("%s is described, and there is nothing: %s", name, p.body)
		}
		if _, known := op.Responses[strconv.Itoa(p.StatusCode)]; !known {
			t.Errorf("%s answers with %d, which is not described", name, p.StatusCode)
		}
	}
}

// Each operation has all that a reader, or what makes clients of it, has to know.
func TestOperations(t *testing.T) {
	t.Parallel()
	ids := map[string]string{}
	for name, op := range newStage(t).open().spec() {
		method, path, _ := strings.Cut(name, " ")
		if op.ID == "" || ids[op.ID] != "" {
			t.Errorf("%s: its id %q is that of %q, too", name, op.ID, ids[op.ID])
		}
		ids[op.ID] = name
		if len(op.Summary) < 10 || strings.HasSuffix(op.Summary, ".") || len(op.Tags) != 1 || op.Tags[0] == "" {
			t.Errorf("%s: summary %q, tags %q", name, op.Summary, op.Tags)
		}
		for _, part := range regexp.MustCompile(`\{([a-z_]+)\}`).FindAllStringSubmatch(path, -1) {
			named := false
			for _, p := range op.Parameters {
				named = named || p.In == "path" && p.Name == part[1] && p.Required
			}
			if !named {
				t.Errorf("%s: %s is not described", name, part[1])
			}
		}
		for _, p := range op.Parameters {
			if p.Name == "" || len(p.Schema) == 0 || !slices.Contains([]string{"path", "query", "header"}, p.In) {
				t.Errorf("%s: parameter %+v", name, p)
			}
		}
		if body := op.RequestBody; body != nil && (method != "POST" && method != "PATCH" || len(body.Content) == 0 || !body.Required) {
			t.Errorf("%s: body %+v", name, body)
		}
		checkResponses(t, name, op)
	}
}

// checkResponses checks that success and failures are described, each failure as the problem that it is.
func checkResponses(t *testing.T, name string, op described) {
	t.Helper()
	public, free := len(op.Security) == 0, strings.Contains(name, "/health")
	if !public && (len(op.Security) != 1 || op.Security[0]["token"] == nil) {
		t.Errorf("%s: security %v", name, op.Security)
	}
	kind, schema := "application/problem+json", "#/components/schemas/Problem"
	if strings.Contains(name, " /v1/") {
		kind, schema = "application/json", "#/components/schemas/OpenaiError"
	}
	success := 0
	for text, response := range op.Responses {
		status, err := strconv.Atoi(text)
		if err != nil || response.Description == "" {
			t.Errorf("%s: response %s: %+v", name, text, response)
		}
		switch {
		case status < 300:
			success++
			if status != http.StatusNoContent && len(response.Content) == 0 && len(response.Headers) == 0 {
				t.Errorf("%s: what %d holds is not described", name, status)
			}
		case status == http.StatusPartialContent, status == http.StatusNotModified, status == http.StatusPreconditionFailed,
			status == http.StatusRequestedRangeNotSatisfiable, free && status == http.StatusServiceUnavailable:
		case len(response.Content) != 1 || response.Content[kind].Schema.Ref != schema:
			t.Errorf("%s: %d holds %+v, and should %s", name, status, response.Content, schema)
		}
		if status == http.StatusTooManyRequests && response.Headers["Retry-After"] == nil {
			t.Errorf("%s: the 429 has no Retry-After", name)
		}
	}
	needed := []int{http.StatusInternalServerError}
	if !free {
		needed = append(needed, http.StatusTooManyRequests, http.StatusServiceUnavailable)
	}
	if !public {
		needed = append(needed, http.StatusUnauthorized)
	}
	if strings.Contains(name, "{") {
		needed = append(needed, http.StatusNotFound)
	}
	if op.RequestBody != nil {
		needed = append(needed, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
			http.StatusUnprocessableEntity)
	}
	for _, status := range needed {
		if _, described := op.Responses[strconv.Itoa(status)]; !described {
			t.Errorf("%s: %d is not described", name, status)
		}
	}
	if success == 0 {
		t.Errorf("%s: no success is described", name)
	}
}

// Whatever the OpenAPI object refers to is in it, and whoever has it need not get it again.
func TestOpenAPIObject(t *testing.T) {
	t.Parallel()
	s := newStage(t).open()
	whole := s.call(user{}, "GET", "/openapi.json", nil).want(200)
	var doc any
	whole.json(&doc)
	refs := 0
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case []any:
			for i, inner := range v {
				walk(at+"/"+strconv.Itoa(i), inner)
			}
		case map[string]any:
			for name, inner := range v {
				walk(at+"/"+name, inner)
			}
			ref, is := v["$ref"].(string)
			if !is {
				return
			}
			refs++
			there := doc
			for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
				inner, _ := there.(map[string]any)
				there = inner[part]
			}
			if there == nil {
				t.Errorf("%s refers to %s, which is not there", at, ref)
			}
		}
	}
	if walk("", doc); refs < 50 {
		t.Errorf("only %d references: the object is not read as it is meant", refs)
	}
	tag := whole.Header.Get("ETag")
	if len(tag) < 10 || !json.Valid(whole.body) {
		t.Errorf("ETag %q", tag)
	}
	if p := s.call(user{}, "GET", "/openapi.json", nil, "If-None-Match", tag).want(304); len(p.body) > 0 {
		t.Errorf("304 with %d bytes", len(p.body))
	}
	s.call(user{}, "GET", "/openapi.json", nil, "If-None-Match", `"other"`).want(200)
	if p := s.call(user{}, "HEAD", "/openapi.json", nil).want(200); p.ContentLength != int64(len(whole.body)) {
		t.Errorf("HEAD has length %d, GET %d", p.ContentLength, len(whole.body))
	}
	if again := newStage(t).open().call(user{}, "GET", "/openapi.json", nil); again.Header.Get("ETag") != tag {
		t.Error("two gateways of one version describe themselves in different bytes")
	}
}

// The page of the documentation gets all that it needs from here, and may get nothing from elsewhere.
func TestDocs(t *testing.T) {
	t.Parallel()
	s := newStage(t).open()
	for from, to := range map[string]string{"/": "/docs/", "/docs": "/docs/"} {
		if p := s.call(user{}, "GET", from, nil); p.StatusCode/100 != 3 || p.Header.Get("Location") != to {
			t.Errorf("%s: %d to %q", from, p.StatusCode, p.Header.Get("Location"))
		}
	}
	page := s.call(user{}, "GET", "/docs/", nil).want(200)
	html := string(page.body)
	if !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") || !strings.Contains(html, `/openapi.json`) {
		t.Errorf("%s: %s", page.Header.Get("Content-Type"), html)
	}
	if away := regexp.MustCompile(`(?:(?:https?|wss?):)?//[a-z0-9-]+\.[^\s"']*`).FindAllString(html, -1); len(away) > 0 {
		t.Errorf("the page names other hosts: %q", away)
	}
	assets := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(html, -1)
	if len(assets) < 3 {
		t.Errorf("assets %q: the page is not read as it is meant", assets)
	}
	pages := map[string]*reply{"/docs/": page}
	for _, a := range assets {
		path := strings.TrimPrefix(a[1], ".")
		if !strings.HasPrefix(path, "/") {
			path = "/docs/" + path
		}
		p := s.call(user{}, "GET", path, nil).want(200)
		if len(p.body) < 100 || p.Header.Get("Cache-Control") != "public, max-age=86400" {
			t.Errorf("%s: %d bytes, header %v", path, len(p.body), p.Header)
		}
		pages[path] = p
	}
	for path, p := range pages {
		policy := p.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'self'; ") || !strings.Contains(policy, "frame-ancestors 'none'") ||
			strings.Contains(policy, "*") || strings.Contains(policy, "http") || strings.Contains(policy, "unsafe-eval") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if h := p.Header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" ||
			h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: header %v", path, h)
		}
	}
	s.call(user{}, "GET", "/docs/nothing.js", nil).want(404)
	s.call(user{}, "POST", "/docs/", nil).problem(405, "METHOD_NOT_ALLOWED")
}
