package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"steno/job"
	"steno/store"
	"steno/transcript"
)

// Bounds of an upload.
const (
	uploadWait  = 5 * time.Second  // for its turn
	stallTime   = 30 * time.Second // without a byte
	uploadTime  = 2 * time.Hour    // in all
	settleTime  = 10 * time.Minute // for probe, store and record, after its last byte
	maxFields   = 64 << 10         // bytes of the other fields of a form
	maxOverhead = 1 << 20          // bytes of a form besides its file
	maxNameRune = 255
)

// upload is a file that has arrived, in a folder of its own with nothing beside it that a decoder could be made to read.
type upload struct {
	dir, path string
	name      string // as the user calls it
	sha256    string
	size      int64
}

func (u *upload) remove() {
	if u != nil {
		_ = os.RemoveAll(u.dir) // what stays is removed at the next start
	}
}

// form is what a request carries: one file, and the other fields of a multipart form.
type form struct {
	file   *upload
	fields map[string][]string
}

// receive takes a request's file, and waits for its turn before. The caller must call done at the end, also after an error; to
// call it again does nothing.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) (f form, done func(), err error) {
	done = func() { f.file.remove() }
	leave, err := s.enterUpload(r.Context())
	if err != nil {
		return f, done, err
	}
	done = sync.OnceFunc(func() {
		f.file.remove()
		leave()
	})
	if r.ContentLength > s.cfg.MaxUpload+maxOverhead {
		return f, done, s.tooLarge()
	}
	body := &steady{
		ReadCloser: http.MaxBytesReader(w, r.Body, s.cfg.MaxUpload+maxOverhead), w: w, until: time.Now().Add(uploadTime),
	}
	if f, err = s.read(r, body); err != nil {
		deadlines(w, readTime, writeTime) // for what is left of the body, and for the answer, which comes after it
		return f, done, s.cut(err)
	}
	deadlines(w, settleTime, settleTime)
	return f, done, nil
}

// enterUpload bounds the uploads at the same time, in all and of one caller, and takes none where there is no room.
func (s *Server) enterUpload(ctx context.Context) (leave func(), err error) {
	if err := s.cfg.Room(); err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, uploadWait)
	defer cancel()
	limit := "upload_share"
	if giveBack, ok := s.uploadShares.enter(requestOf(ctx).caller(), waiting.Done()); ok {
		select {
		case s.uploads <- struct{}{}:
			s.metrics.uploads.Inc()
			return func() {
				s.metrics.uploads.Dec()
				<-s.uploads
				giveBack()
			}, nil
		case <-waiting.Done():
			giveBack()
			limit = "uploads"
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.metrics.limited.WithLabelValues(limit).Inc()
	return nil, newProblem(http.StatusServiceUnavailable, "BUSY", "many files are being uploaded: try again in a moment").
		with("Retry-After", "5")
}

// steady is a body that may take long as long as bytes flow.
type steady struct {
	io.ReadCloser
	w     http.ResponseWriter
	until time.Time
}

func (b *steady) Read(p []byte) (int, error) {
	now := time.Now()
	if now.After(b.until) {
		return 0, os.ErrDeadlineExceeded
	}
	deadlines(b.w, stallTime, 0)
	return b.ReadCloser.Read(p)
}

func (s *Server) tooLarge() *Problem {
	return newProblem(http.StatusRequestEntityTooLarge, "FILE_TOO_LARGE",
		fmt.Sprintf("the file has more than %d bytes: send a smaller one, such as its audio track alone", s.cfg.MaxUpload))
}

// cut makes an answer of a body that did not arrive.
func (s *Server) cut(err error) error {
	var tooLong *http.MaxBytesError
	var known *Problem
	var failed *job.Error
	switch {
	case err == nil, errors.As(err, &known), errors.As(err, &failed), errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &tooLong):
		return s.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Without the close, the answer would wait for the rest of the body.
		return newProblem(http.StatusRequestTimeout, "UPLOAD_STALLED", "the upload has stopped: send it again").
			with("Connection", "close")
	}
	return newProblem(http.StatusBadRequest, "UPLOAD_CUT", "the upload ended early or is no proper form: send it again")
}

// read takes a form, or a body that is the file itself.
func (s *Server) read(r *http.Request, body io.Reader) (form, error) {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && mediaType == "multipart/form-data" {
		if params["boundary"] == "" {
			return form{}, newProblem(http.StatusBadRequest, "UPLOAD_CUT",
				"the form names no boundary: let your client make the Content-Type")
		}
		f, err := s.readForm(multipart.NewReader(body, params["boundary"]))
		if err == nil {
			_, err = io.Copy(io.Discard, body) // only after its last byte does the server notice a client that leaves
		}
		return f, err
	}
	name := r.URL.Query().Get("name")
	if _, p, err := mime.ParseMediaType(r.Header.Get("Content-Disposition")); err == nil && name == "" {
		name = p["filename"]
	}
	u, err := s.spool(body, name)
	return form{file: u}, err
}

func (s *Server) readForm(parts *multipart.Reader) (form, error) {
	f := form{fields: map[string][]string{}}
	left := int64(maxFields)
	for {
		part, err := parts.NextPart()
		if err == io.EOF { //nolint:errorlint // one that is wrapped means that the form lacks its end
			break
		}
		if err != nil {
			return f, err
		}
		if part.FormName() == "file" {
			if f.file != nil {
				return f, badField("body.file", "BAD_FIELD", "the form has two files: send one at a time")
			}
			if f.file, err = s.spool(part, part.FileName()); err != nil {
				return f, err
			}
			continue
		}
		text, err := io.ReadAll(io.LimitReader(part, left+1))
		if err != nil {
			return f, err
		}
		if left -= int64(len(text)); left < 0 {
			return f, badField("body", "BAD_FIELD", fmt.Sprintf("the form's fields have more than %d bytes: send less", maxFields))
		}
		f.fields[part.FormName()] = append(f.fields[part.FormName()], string(text))
	}
	if f.file == nil {
		return f, badField("body.file", "BAD_FIELD", "the form has no file: put one into its field file")
	}
	return f, nil
}

// spool writes a file to the scratch folder and hashes it on the way. On error there is nothing.
func (s *Server) spool(r io.Reader, name string) (_ *upload, err error) {
	u := &upload{name: cleanName(name)}
	if u.dir, err = os.MkdirTemp(s.cfg.Scratch, "upload-"); err != nil { // of mode 0700
		return nil, job.Errorf(job.Resource, "SCRATCH", "make a folder for the upload: %w", err)
	}
	defer func() {
		if err != nil {
			u.remove()
		}
	}()
	u.path = filepath.Join(u.dir, "audio"+extension(u.name))
	f, err := os.OpenFile(u.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, job.Errorf(job.Resource, "SCRATCH", "make a file for the upload: %w", err)
	}
	sum := sha256.New()
	u.size, err = io.Copy(io.MultiWriter(sum, scratchFile{f}), io.LimitReader(r, s.cfg.MaxUpload+1))
	if err := errors.Join(err, scratchError(f.Close())); err != nil {
		return nil, err
	}
	if u.size > s.cfg.MaxUpload {
		return nil, s.tooLarge()
	}
	u.sha256 = hex.EncodeToString(sum.Sum(nil))
	return u, nil
}

// scratchFile tells an error of our disk from one of the client's connection.
type scratchFile struct{ f *os.File }

func (s scratchFile) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	return n, scratchError(err)
}

func scratchError(err error) error {
	if err == nil {
		return nil
	}
	return job.Errorf(job.Resource, "SCRATCH", "write the upload: %w", err)
}

// cleanName is a file's name without folders and what no name has: control characters, which a terminal would obey, line ends of
// all kinds, and what turns the characters after it around, so that gnp.exe reads as exe.png.
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "")
	name = path.Base(strings.ReplaceAll(name, `\`, "/")) // browsers of old send whole paths
	name = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == 0x2028 || c == 0x2029 || transcript.TurnsDirection(c) || c == utf8.MaxRune {
			return -1
		}
		return c
	}, name)
	if runes := []rune(name); len(runes) > maxNameRune { // raw formats are known by their ending alone
		end := []rune(extension(name))
		name = string(runes[:maxNameRune-len(end)]) + string(end)
	}
	if name = strings.TrimSpace(name); name == "" || name == "." || name == "/" || name == ".." {
		return "audio"
	}
	return name
}

// extension is a file name's ending if it is a plain one: raw formats are known by nothing else.
func extension(name string) string {
	ext := strings.ToLower(filepath.Ext(name))
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	if len(ext) < 2 || len(ext) > 6 || strings.ContainsFunc(ext[1:], odd) {
		return ""
	}
	return ext
}

// accept probes an upload, and puts it into the object store and the record.
func (s *Server) accept(ctx context.Context, u *upload) (store.File, error) {
	media, err := s.probed.media(ctx, userOf(ctx), u)
	if err != nil {
		return store.File{}, err
	}
	// The same content is stored once, and mostly need not be sent again.
	if there, err := s.stored(ctx, u.sha256); err != nil {
		return store.File{}, err
	} else if !there {
		if err := s.put(ctx, u); err != nil {
			return store.File{}, err
		}
	}
	f, err := s.cfg.Store.AddFile(ctx, store.File{
		User: userOf(ctx), Name: u.name, SHA256: u.sha256, Object: u.sha256, Size: u.size,
		Duration: media.Duration, Media: media.Details,
	})
	if err != nil {
		return store.File{}, err
	}
	// From here on nobody deletes the content; before, somebody may have.
	err = s.cfg.Objects.Keep(ctx, f.Object)
	if codeOf(err) == "AUDIO_MISSING" {
		if err = s.put(ctx, u); err == nil {
			err = s.cfg.Objects.Keep(ctx, f.Object)
		}
	}
	if err != nil {
		if _, _, undo := s.cfg.Store.DeleteFile(context.WithoutCancel(ctx), f.User, f.ID); undo != nil {
			s.cfg.Log.WarnContext(ctx, "take back a file that could not be stored", "file", f.ID, "error", undo)
		}
		return store.File{}, err
	}
	s.metrics.uploaded.Add(float64(u.size))
	return f, nil
}

// stored reports whether an object is in the store.
func (s *Server) stored(ctx context.Context, object string) (bool, error) {
	r, err := s.cfg.Objects.Open(ctx, object)
	if codeOf(err) == "AUDIO_MISSING" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.Close()
}

// put sends an upload to the object store.
func (s *Server) put(ctx context.Context, u *upload) error {
	f, err := os.Open(u.path)
	if err != nil {
		return fmt.Errorf("read the upload: %w", err)
	}
	defer f.Close()
	source, err := s.cfg.Objects.Put(ctx, f)
	if err == nil && source.Object != u.sha256 {
		return fmt.Errorf("store the upload: it has become another object, %s", source.Object)
	}
	return err
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return job.AsError(err).Code
}
