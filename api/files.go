package api

import (
	"cmp"
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"steno/store"
)

// fileBody is a file as its user sees it.
type fileBody struct {
	ID       string          `json:"file_id"`
	Name     string          `json:"file_name"`
	SHA256   string          `json:"sha256" doc:"of the content, 64 hex digits"`
	Size     int64           `json:"size" doc:"in bytes"`
	Duration float64         `json:"duration" doc:"in seconds, as the file says; 0 where it does not"`
	Media    json.RawMessage `json:"media" doc:"what the probe found: format, codec, channels, sample rate"`
	Created  time.Time       `json:"created_at"`
}

func fileBodyOf(f store.File) fileBody {
	return fileBody{f.ID, f.Name, f.SHA256, f.Size, f.Duration, f.Media, f.Created}
}

// upload takes a file.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) error {
	form, done, err := s.receive(w, r)
	defer done()
	if err != nil {
		return err
	}
	f, err := s.accept(r.Context(), form.file)
	if err != nil {
		return err
	}
	w.Header().Set("Location", prefix+"/files/"+f.ID)
	return writeJSON(w, http.StatusCreated, fileBodyOf(f))
}

type fileInput struct {
	ID string `path:"file_id"`
}

type fileOutput struct{ Body fileBody }

// file describes one of the caller's files.
func (s *Server) file(ctx context.Context, in *fileInput) (*fileOutput, error) {
	f, err := s.cfg.Store.File(ctx, userOf(ctx), plainID(in.ID))
	if err != nil {
		return nil, err
	}
	return &fileOutput{fileBodyOf(f)}, nil
}

// plainID is an id as the record has it. What no database takes as text is the id of nothing.
func plainID(id string) string {
	return strings.ToUpper(strings.ReplaceAll(strings.ToValidUTF8(id, "?"), "\x00", "?"))
}

// content sends one of the caller's files, or a part of it.
func (s *Server) content(w http.ResponseWriter, r *http.Request) error {
	f, err := s.cfg.Store.File(r.Context(), userOf(r.Context()), plainID(r.PathValue("file_id")))
	if err != nil {
		return err
	}
	object, err := s.cfg.Objects.Open(r.Context(), f.Object)
	if err != nil {
		return err
	}
	defer object.Close()
	deadlines(w, readTime, 0)
	kind := cmp.Or(mime.TypeByExtension(filepath.Ext(f.Name)), "application/octet-stream")
	how := "attachment"
	if strings.HasPrefix(kind, "audio/") || strings.HasPrefix(kind, "video/") {
		how = "inline" // what players fetch; nothing in it can run
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", disposition(how, f.Name))
	h.Set("ETag", `"`+f.SHA256+`"`)
	h.Set("Cache-Control", "private, no-cache")
	serveContent(&moving{ResponseWriter: w}, r, object)
	return nil
}

// moving is an answer that may take long as long as bytes flow.
type moving struct{ http.ResponseWriter }

func (m *moving) Write(p []byte) (int, error) {
	deadlines(m.ResponseWriter, 0, stallTime)
	return m.ResponseWriter.Write(p)
}

type noOutput struct{}

// removeFile deletes one of the caller's files.
func (s *Server) removeFile(ctx context.Context, in *fileInput) (*noOutput, error) {
	return nil, s.deleteFile(ctx, userOf(ctx), plainID(in.ID))
}

func (s *Server) deleteFile(ctx context.Context, user, id string) error {
	_, tasks, err := s.cfg.Store.DeleteFile(ctx, user, id)
	if err != nil {
		return err
	}
	tags := []string{fileTag(user, id), historyTag(user)}
	for _, t := range tasks {
		tags = append(tags, taskTag(user, t)) // they name no file any more
	}
	s.drop(tags...)
	s.cfg.Notify()
	return nil
}

func (s *Server) fileRoutes() {
	const one = prefix + "/files/{file_id}"
	s.plain(route{
		method: http.MethodPost, path: prefix + "/files", id: "upload-file", tag: "files", stream: true, summary: "Upload a file",
		description: "Audio or video that ffmpeg decodes, as the field `file` of a form, or as the body itself. The same content is " +
			"stored once.",
		params: []*huma.Param{queryParam("name", "the file's name, where the body is the file itself")},
		request: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"multipart/form-data": {Schema: &huma.Schema{
				Type: huma.TypeObject, Required: []string{"file"},
				Properties: map[string]*huma.Schema{"file": {Type: huma.TypeString, Format: "binary"}},
			}},
			"application/octet-stream": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}},
		done: map[int]*huma.Response{http.StatusCreated: answerOf[fileBody](s, "FileBody", "it is stored")},
		fails: []int{
			http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity,
		},
	}, s.upload)
	register(s, route{
		method: http.MethodGet, path: one, id: "describe-file", tag: "files", summary: "See what a file is", cached: fileOfRoute,
		fails: []int{http.StatusNotFound},
	}, s.file)
	s.plain(route{
		method: http.MethodGet, path: one + "/content", id: "download-file", tag: "files", stream: true, summary: "Get a file back",
		ticket: true, params: []*huma.Param{
			pathParam("file_id", "the file"), headerParam("Range", "a part of it, as in bytes=0-99"),
			queryParam(ticketParam, "stands in for the token, as in the link of POST /files/{file_id}/link"),
		},
		parts: true, done: map[int]*huma.Response{http.StatusOK: {Description: "the file", Content: anything()}},
		fails: []int{http.StatusNotFound, http.StatusGone},
	}, s.content)
	register(s, route{
		method: http.MethodPost, path: one + "/link", id: "link-file", tag: "files", status: http.StatusCreated,
		summary: "Get a link to a file for a player, which sends no token", fails: []int{http.StatusNotFound},
		description: "The link is good for as long as a token, for this file alone, and ends with the user's tokens.",
	}, s.link)
	register(s, route{
		method: http.MethodDelete, path: one, id: "delete-file", tag: "files", status: http.StatusNoContent,
		summary: "Delete a file; its tasks stay in the history", fails: []int{http.StatusNotFound, http.StatusConflict},
	}, s.removeFile)
}
