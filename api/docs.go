package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"
)

// docsPolicy lets the page of the documentation run its own script, which is part of the page, and nothing from elsewhere. No
// text of users is ever on it.
const docsPolicy = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; " +
	"img-src 'self' data:; frame-ancestors 'none'"

// docRoutes serves the description of all routes, and a page to browse it. Call it last.
func (s *Server) docRoutes() error {
	spec, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		return fmt.Errorf("describe the API: %w", err)
	}
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		requestOf(r.Context()).route = "/openapi.json"
		w.Header().Set("Content-Type", jsonType)
		w.Header().Set("ETag", `"`+hashOf(json.RawMessage(spec))+`"`)
		serveContent(w, r, bytes.NewReader(spec))
	})
	page := v5emb.NewHandlerWithConfig(swgui.Config{
		Title: "steno", SwaggerJSON: "/openapi.json", BasePath: "/docs",
	})
	s.mux.HandleFunc("GET /docs/", func(w http.ResponseWriter, r *http.Request) {
		requestOf(r.Context()).route = "/docs"
		w.Header().Set("Content-Security-Policy", docsPolicy)
		if strings.TrimSuffix(r.URL.Path, "/") != "/docs" {
			w.Header().Set("Cache-Control", "public, max-age=86400")
		}
		page.ServeHTTP(w, r)
	})
	s.mux.Handle("GET /docs", http.RedirectHandler("/docs/", http.StatusMovedPermanently))
	home := "/docs/"
	if c := s.cfg.Console; c.Handler != nil {
		home = c.Path
		s.mux.HandleFunc("GET "+c.Path, func(w http.ResponseWriter, r *http.Request) {
			requestOf(r.Context()).route = c.Path
			c.Handler.ServeHTTP(w, r)
		})
	}
	s.mux.Handle("GET /{$}", http.RedirectHandler(home, http.StatusFound))
	return nil
}
