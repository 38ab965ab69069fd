package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/tus/tusd/v2/pkg/filestore"
	tus "github.com/tus/tusd/v2/pkg/handler"
	"github.com/tus/tusd/v2/pkg/memorylocker"
	"golang.org/x/exp/slog"

	"steno/job"
	"steno/store"
)

// Bounds of uploads in parts.
const (
	openUploads  = 100            // of one user
	partialTime  = 24 * time.Hour // after its last byte an upload that nobody finishes goes
	partialSweep = time.Hour
)

const (
	tusVersion = "1.0.0"
	tusType    = "application/offset+octet-stream"
)

// resumable takes files in parts, by the tus protocol (https://tus.io/protocols/resumable-upload) of which tusd does the work: a
// client asks how far an upload has come and goes on from there, after a break of the line as after a restart of the server.
//
// In dir, ID.info is what tusd notes of an upload and ID/ the folder with its bytes, where nothing lies beside them that a
// decoder could be made to read; ID.file names the file that an upload became. An id begins with that of its user. Gateways do
// not share the folder: an upload goes on at the one where it began.
type resumable struct {
	s       *Server
	dir     string
	tus     *tus.UnroutedHandler
	bytes   filestore.FileStore
	uploads *interrupts
}

func newResumable(s *Server) (*resumable, error) {
	if err := os.MkdirAll(s.cfg.Partial, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for uploads: %w", err)
	}
	u := &resumable{s: s, dir: s.cfg.Partial, bytes: filestore.New(s.cfg.Partial)}
	u.bytes.DirModePerm, u.bytes.FileModePerm = 0o700, 0o600
	u.uploads = &interrupts{
		DataStore: u.bytes, TerminaterDataStore: u.bytes, Locker: memorylocker.New(), waiting: map[string]chan struct{}{},
	}
	parts := tus.NewStoreComposer()
	parts.UseCore(u.uploads)
	parts.UseTerminater(u.uploads)
	parts.UseLocker(u.uploads)
	var err error
	u.tus, err = tus.NewUnroutedHandler(tus.Config{
		StoreComposer: parts, BasePath: uploadsPath, MaxSize: s.cfg.MaxUpload, DisableDownload: true, DisableConcatenation: true,
		Cors: &tus.CorsConfig{Disable: true}, NetworkTimeout: stallTime, GracefulRequestCompletionTimeout: time.Second,
		PreUploadCreateCallback: u.begin, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	return u, err
}

// begin is asked before an upload is made.
func (u *resumable) begin(e tus.HookEvent) (tus.HTTPResponse, tus.FileInfoChanges, error) {
	var none tus.HTTPResponse
	user := userOf(e.Context)
	if e.Upload.Size == 0 {
		return none, tus.FileInfoChanges{}, tus.NewError("EMPTY", "the file is empty: choose another", http.StatusUnprocessableEntity)
	}
	open, err := filepath.Glob(filepath.Join(u.dir, user+".*.info"))
	if err != nil {
		return none, tus.FileInfoChanges{}, fmt.Errorf("count the open uploads: %w", err)
	}
	if len(open) >= openUploads {
		return none, tus.FileInfoChanges{}, tus.NewError("TOO_MANY_UPLOADS",
			fmt.Sprintf("%d uploads of yours are not finished: finish or delete some", openUploads), http.StatusConflict)
	}
	id, name := user+"."+rand.Text(), cleanName(e.Upload.MetaData["filename"])
	return none, tus.FileInfoChanges{
		ID: id, MetaData: tus.MetaData{"filename": name},
		Storage: map[string]string{filestore.StorageKeyPath: filepath.Join(id, "audio"+extension(name))},
	}, nil
}

// serve lets tusd answer, and turns its errors into ours.
func (u *resumable) serve(w http.ResponseWriter, r *http.Request, handle http.HandlerFunc) error {
	w.Header().Set("Tus-Resumable", tusVersion)
	if r.Method != http.MethodHead && r.Header.Get("Tus-Resumable") != tusVersion {
		return newProblem(http.StatusPreconditionFailed, "TUS_VERSION", "this is the tus protocol: send Tus-Resumable: "+tusVersion).
			with("Tus-Version", tusVersion)
	}
	a := &tusAnswer{ResponseWriter: w}
	http.StripPrefix(uploadsPath, handle).ServeHTTP(a, r)
	if a.status < http.StatusBadRequest {
		return nil
	}
	code, text, _ := strings.Cut(strings.TrimSpace(a.failure.String()), ": ")
	switch {
	case a.status == http.StatusNotFound:
		return errNoUpload()
	case a.status == http.StatusRequestEntityTooLarge:
		return u.s.tooLarge()
	case a.status == http.StatusConflict && code == "ERR_MISMATCHED_OFFSET":
		return newProblem(a.status, "UPLOAD_OFFSET",
			"the upload has not come so far, or farther: ask by HEAD how far, and go on from there")
	case a.status >= http.StatusInternalServerError:
		if err := u.s.cfg.Room(); err != nil {
			return err
		}
		return newProblem(http.StatusServiceUnavailable, "UPLOAD_CUT",
			"the upload was cut: ask by HEAD how far it has come, and go on").with("Retry-After", "1")
	}
	return newProblem(a.status, strings.TrimPrefix(cmp.Or(code, "UPLOAD_REFUSED"), "ERR_"), cmp.Or(text, "the upload was refused"))
}

func errNoUpload() *Problem {
	return newProblem(http.StatusNotFound, "UPLOAD_NOT_FOUND", "this upload is not there, or no more: begin it anew")
}

// tusAnswer passes an answer on, and keeps one that tells of a failure.
type tusAnswer struct {
	http.ResponseWriter
	status  int
	failure bytes.Buffer
}

func (a *tusAnswer) WriteHeader(status int) {
	a.status = status
	h := a.Header()
	if status >= http.StatusBadRequest {
		h.Del("Content-Type")
		h.Del("Content-Length")
		return
	}
	if at := h.Get("Location"); at != "" { // without a host: a proxy may stand before us
		h.Set("Location", uploadsPath+"/"+at[strings.LastIndexByte(at, '/')+1:])
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *tusAnswer) Write(p []byte) (int, error) {
	if a.status >= http.StatusBadRequest {
		return a.failure.Write(p)
	}
	return a.ResponseWriter.Write(p)
}

func (a *tusAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// own is the id in a request's path, if the upload is the caller's.
func (u *resumable) own(r *http.Request) (string, error) {
	id := r.PathValue("upload_id")
	user, random, _ := strings.Cut(id, ".")
	odd := func(c rune) bool { return (c < 'A' || c > 'Z') && (c < '2' || c > '7') } // of base32
	if user != userOf(r.Context()) || len(random) != len(rand.Text()) || strings.ContainsFunc(random, odd) {
		return "", errNoUpload()
	}
	return id, nil
}

func (u *resumable) create(w http.ResponseWriter, r *http.Request) error {
	if err := u.s.cfg.Room(); err != nil {
		return err
	}
	// Of the protocol's extensions there are creation and termination.
	if r.Header.Get("Content-Type") == tusType {
		return newProblem(http.StatusUnprocessableEntity, "BAD_FIELD", "an upload begins without bytes: send them by PATCH")
	}
	if r.Header.Get("Upload-Length") == "" {
		return newProblem(http.StatusBadRequest, "NO_LENGTH", "say how many bytes the file has, as Upload-Length")
	}
	return u.serve(w, r, u.tus.PostFile)
}

func (u *resumable) head(w http.ResponseWriter, r *http.Request) error {
	if _, err := u.own(r); err != nil {
		return err
	}
	return u.serve(w, r, u.tus.HeadFile)
}

// patch takes the next bytes. It is one of the uploads at the same time while they flow.
func (u *resumable) patch(w http.ResponseWriter, r *http.Request) error {
	if _, err := u.own(r); err != nil {
		return err
	}
	leave, err := u.s.enterUpload(r.Context())
	if err != nil {
		return err
	}
	defer leave()
	deadlines(w, stallTime, 0) // tusd moves it on with each read
	return u.serve(w, r, u.tus.PatchFile)
}

func (u *resumable) remove(w http.ResponseWriter, r *http.Request) error {
	id, err := u.own(r)
	if err != nil {
		return err
	}
	if err := u.serve(w, r, u.tus.DelFile); err != nil {
		return err
	}
	return u.forget(id)
}

// forget removes what tusd leaves, or all where it was not asked.
func (u *resumable) forget(id string) error {
	return errors.Join(removeAny(filepath.Join(u.dir, id+".info")), os.RemoveAll(filepath.Join(u.dir, id)))
}

// finish makes an upload that is whole a file. To call it again gives the same file.
func (u *resumable) finish(w http.ResponseWriter, r *http.Request) error {
	id, err := u.own(r)
	if err != nil {
		return err
	}
	leave, err := u.s.enterUpload(r.Context())
	if err != nil {
		return err
	}
	defer leave()
	lock, err := u.uploads.NewLock(id)
	if err != nil {
		return err
	}
	if err := lock.Lock(r.Context(), func() {}); err != nil {
		return newProblem(http.StatusServiceUnavailable, "BUSY", "the upload is still at work: try again in a moment").
			with("Retry-After", "2")
	}
	defer func() { _ = lock.Unlock() }() // never fails
	deadlines(w, settleTime, settleTime)
	f, err := u.file(r.Context(), id)
	if err != nil {
		return err
	}
	w.Header().Set("Location", prefix+"/files/"+f.ID)
	return writeJSON(w, http.StatusCreated, fileBodyOf(f))
}

func (u *resumable) file(ctx context.Context, id string) (store.File, error) {
	became := filepath.Join(u.dir, id+".file")
	if file, err := os.ReadFile(became); err == nil {
		return u.s.cfg.Store.File(ctx, userOf(ctx), string(file))
	}
	up, err := u.whole(ctx, id)
	if err != nil {
		return store.File{}, err
	}
	f, err := u.s.accept(ctx, up)
	switch {
	case err == nil:
		if err := writeWhole(became, f.ID); err != nil {
			u.s.cfg.Log.WarnContext(ctx, "note what an upload has become", "upload", id, "error", err) // a second call makes a second file
		}
	case job.AsError(err).Class != job.Input:
		return store.File{}, err // it stays, to be finished later
	}
	if err := u.forget(id); err != nil {
		u.s.cfg.Log.WarnContext(ctx, "remove an upload", "upload", id, "error", err) // the sweep will
	}
	return f, err
}

// whole is an upload all of whose bytes are there.
func (u *resumable) whole(ctx context.Context, id string) (*upload, error) {
	there, err := u.bytes.GetUpload(ctx, id)
	if errors.Is(err, tus.ErrNotFound) {
		return nil, errNoUpload()
	}
	if err != nil {
		return nil, fmt.Errorf("look at the upload: %w", err)
	}
	info, err := there.GetInfo(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the upload: %w", err)
	}
	if info.Offset != info.Size {
		return nil, newProblem(http.StatusConflict, "UPLOAD_OPEN",
			fmt.Sprintf("%d of %d bytes are here: send the others first", info.Offset, info.Size))
	}
	path := info.Storage[filestore.StorageKeyPath]
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the upload: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return nil, fmt.Errorf("read the upload: %w", err)
	}
	return &upload{
		dir: filepath.Dir(path), path: path, name: info.MetaData["filename"], size: info.Size,
		sha256: hex.EncodeToString(sum.Sum(nil)),
	}, nil
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path, text string) error {
	beside := path + ".new"
	if err := os.WriteFile(beside, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(beside, path)
}

// sweep removes what nobody has touched for long, until ctx ends.
func (u *resumable) sweep(ctx context.Context) {
	tick := time.NewTicker(partialSweep)
	defer tick.Stop()
	for {
		if err := u.sweepOnce(); err != nil {
			u.s.cfg.Log.Warn("remove old uploads", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (u *resumable) sweepOnce() error {
	entries, err := os.ReadDir(u.dir)
	last := map[string]time.Time{} // when an upload, or what it became, was touched
	for _, e := range entries {
		id := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".new"), ".info"), ".file")
		inside, _ := os.ReadDir(filepath.Join(u.dir, e.Name())) // of a file there are none
		for _, e := range append(inside, e) {
			if st, err := e.Info(); err == nil && st.ModTime().After(last[id]) {
				last[id] = st.ModTime()
			}
		}
	}
	for id, touched := range last {
		if time.Since(touched) > partialTime {
			file := filepath.Join(u.dir, id+".file")
			err = errors.Join(err, u.forget(id), removeAny(file), removeAny(file+".new"))
		}
	}
	return err
}

// removeAny removes a file that may not be there.
func removeAny(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

const uploadsPath = prefix + "/uploads"

func (s *Server) resumableRoutes() {
	const one = uploadsPath + "/{upload_id}"
	id := pathParam("upload_id", "the upload, as Location names it")
	version := headerParam("Tus-Resumable", tusVersion)
	s.plain(route{
		method: http.MethodPost, path: uploadsPath, id: "begin-upload", tag: "files",
		summary: "Begin an upload in parts, by the tus protocol",
		description: "For large files and bad lines: after a break `HEAD` tells how far it has come, and `PATCH` goes on from there. " +
			"When all is sent, `finish` makes it a file. Clients for tus 1.0 do all but the last by themselves.",
		params: []*huma.Param{
			version, headerParam("Upload-Length", "bytes of the file"),
			headerParam("Upload-Metadata", "`filename` and its value in base64"),
		},
		done: map[int]*huma.Response{http.StatusCreated: tusResponse("it is begun", "Location", "where its bytes go")},
		fails: []int{
			http.StatusBadRequest, http.StatusConflict, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge,
			http.StatusUnprocessableEntity, http.StatusInsufficientStorage,
		},
	}, s.uploading.create)
	s.plain(route{
		method: http.MethodHead, path: one, id: "upload-offset", tag: "files", summary: "See how far an upload has come",
		params: []*huma.Param{id}, fails: []int{http.StatusNotFound},
		done: map[int]*huma.Response{http.StatusOK: tusResponse("it is there", "Upload-Offset", "bytes that are here")},
	}, s.uploading.head)
	s.plain(route{
		method: http.MethodPatch, path: one, id: "continue-upload", tag: "files", stream: true,
		summary: "Send the next bytes of an upload",
		params:  []*huma.Param{id, version, headerParam("Upload-Offset", "bytes that are here already")},
		request: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			tusType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		}},
		done: map[int]*huma.Response{http.StatusNoContent: tusResponse("they are here", "Upload-Offset", "bytes that are here now")},
		fails: []int{
			http.StatusBadRequest, http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusPreconditionFailed,
			http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusLocked, http.StatusInsufficientStorage,
		},
	}, s.uploading.patch)
	s.plain(route{
		method: http.MethodDelete, path: one, id: "drop-upload", tag: "files", summary: "Give an upload up",
		params: []*huma.Param{id, version}, fails: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusPreconditionFailed},
		done: map[int]*huma.Response{http.StatusNoContent: {Description: "it is gone"}},
	}, s.uploading.remove)
	s.plain(route{
		method: http.MethodPost, path: one + "/finish", id: "finish-upload", tag: "files", stream: true,
		summary:     "Make a file of an upload that is whole",
		description: "It is probed before it is accepted. Once more gives the same file.",
		params:      []*huma.Param{id},
		done:        map[int]*huma.Response{http.StatusCreated: answerOf[fileBody](s, "FileBody", "it is stored")},
		fails: []int{
			http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusInsufficientStorage,
		},
	}, s.uploading.finish)
}

// tusResponse documents an answer that is all header.
func tusResponse(description, header, says string) *huma.Response {
	return &huma.Response{Description: description, Headers: map[string]*huma.Param{
		header: {Description: says, Schema: &huma.Schema{Type: huma.TypeString}},
	}}
}
