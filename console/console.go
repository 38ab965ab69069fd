// Package console is the web page on which people send recordings, watch, listen and correct. It is built by `make console` into
// dist/app, which is embedded in the binary, and talks to the HTTP API as any other client does.
package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"strings"
)

// Path is where the page is served. Its files name it, so that no other will do.
const Path = "/console/"

// all: for the folder is empty where nothing was built.
//
//go:embed all:dist
var embedded embed.FS

// policy lets the page run and show nothing but its own files, and speak to its own host. Saving a file under a name goes by a
// blob's address, which needs no leave.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page under Path. It is safe for concurrent use.
func Handler() http.Handler {
	files, err := fs.Sub(embedded, "dist/app")
	if err != nil {
		panic(err) // the name is a constant
	}
	index, err := fs.ReadFile(files, "index.html")
	if err != nil {
		return http.HandlerFunc(unbuilt)
	}
	sum := sha256.Sum256(index)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	plain := http.StripPrefix(Path, http.FileServerFS(files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		switch name := strings.TrimPrefix(r.URL.Path, Path); {
		case strings.HasPrefix(name, "assets/") && !strings.HasSuffix(name, "/"): // their names change with their content
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		case name == "":
			h.Set("Cache-Control", "no-cache")
			h.Set("ETag", tag)
		default:
			http.NotFound(w, r)
			return
		}
		plain.ServeHTTP(w, r)
	})
}

func unbuilt(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "this steno was built without its page: run `make build`", http.StatusNotFound)
}
