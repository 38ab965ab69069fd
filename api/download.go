package api

import (
	"cmp"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"steno/transcript"
)

// formats are those of a download, by the names that clients use.
var formats = map[string]transcript.Format{
	"text": transcript.TXT, "docx": transcript.DOCX, "srt": transcript.SRT, "vtt": transcript.VTT, "json": transcript.JSON,
}

func downloads(description string) *huma.Response {
	var types []string
	for _, f := range formats {
		mediaType, _, _ := strings.Cut(f.ContentType(), ";")
		types = append(types, mediaType)
	}
	r := bytesOf(description, types...)
	r.Content[jsonType].Schema = &huma.Schema{Type: huma.TypeObject}
	return r
}

// download writes a transcript in the format that was asked for.
func (s *Server) download(w http.ResponseWriter, r *http.Request) error {
	f, known := formats[cmp.Or(r.URL.Query().Get("format"), "text")]
	if !known {
		return badField("query.format", "BAD_FIELD", "this format is not known: choose text, docx, srt, vtt or json")
	}
	revision, err := revisionOf(r)
	if err != nil {
		return err
	}
	t, err := s.task(r.Context(), r.PathValue("task_id"))
	if err != nil {
		return err
	}
	result, revision, err := s.cfg.Store.Revised(r.Context(), t.User, t.ID, revision)
	if err != nil {
		return err
	}
	w.Header().Set("Steno-Revision", strconv.Itoa(revision))
	w.Header().Set("Content-Type", f.ContentType())
	w.Header().Set("Content-Disposition", disposition("attachment", baseName(t.FileName)+"."+f.Extension()))
	return transcript.Write(w, f, result.Transcript, transcript.Options{Title: t.FileName})
}

// baseName is a file's name without its ending.
func baseName(name string) string {
	return cmp.Or(strings.TrimSuffix(name, filepath.Ext(name)), name)
}

// disposition makes a Content-Disposition with a file name in any script: RFC 6266 with the coding of RFC 5987, and a plain name
// for clients that do not read it.
func disposition(kind, name string) string {
	plain := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || strings.ContainsRune(`"\%/`, c) {
			return '_'
		}
		return c
	}, name)
	value := kind + `; filename="` + plain + `"`
	if plain != name {
		// Of what QueryEscape leaves as it is, all may stand in an ext-value.
		value += "; filename*=UTF-8''" + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	}
	return value
}
