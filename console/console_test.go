package console

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, path string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

// Everything that the page names is there, comes from this host, and is allowed by its own policy.
func TestPageIsWhole(t *testing.T) {
	page, err := fs.ReadFile(embedded, "dist/app/index.html")
	if err != nil {
		t.Fatalf("the page is not built: run `make console`: %v", err)
	}
	named := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(string(page), -1)
	if len(named) < 3 {
		t.Errorf("the page names %v", named)
	}
	for _, n := range named {
		res := get(t, n[1])
		if !strings.HasPrefix(n[1], Path+"assets/") || res.StatusCode != http.StatusOK ||
			res.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d, %v", n[1], res.StatusCode, res.Header)
		}
	}
	if strings.Contains(string(page), "<style") || regexp.MustCompile(`<script(>| [^>]*>)[^<]`).Match(page) || strings.Contains(string(page), "style=") {
		t.Errorf("the policy forbids a part of the page:\n%s", page)
	}
	err = fs.WalkDir(embedded, "dist/app", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasSuffix(name, ".map") || path.Ext(name) == "" {
			t.Errorf("%s has no business in the binary", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestPageIsServed(t *testing.T) {
	res := get(t, Path)
	h := res.Header
	if res.StatusCode != http.StatusOK || h.Get("Cache-Control") != "no-cache" || h.Get("ETag") == "" || !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		t.Errorf("%d, %v", res.StatusCode, h)
	}
	policy := h.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self'; ") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("policy %s", policy)
	}
	if again := get(t, Path, "If-None-Match", h.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("unchanged: %d", again.StatusCode)
	}
	for _, p := range []string{"nothing", "assets/", "assets/nothing.js", "assets/../index.html", "index.html", ".gitignore", "../console.go"} {
		if res := get(t, Path+p); res.StatusCode == http.StatusOK {
			t.Errorf("%s is served", p)
		}
	}
}
