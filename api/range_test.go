package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"steno/api"
	"steno/job"
	"steno/store"
	"steno/transcript"
)

// memory is an object store of one object.
type memory struct {
	objects
	data []byte
}

type closing struct{ io.ReadSeeker }

func (closing) Close() error { return nil }

func (m memory) Open(context.Context, string) (io.ReadSeekCloser, error) {
	return closing{bytes.NewReader(m.data)}, nil
}

// whole is what can be got in parts: an answer to GET without Range.
type whole struct {
	path, tag string
	body      []byte
}

// ranged is a gateway on a record alone, with a file and the transcript of it.
func ranged(f *testing.F) (get func(method, path string, headers ...string) *httptest.ResponseRecorder, all []whole) {
	ctx := context.Background()
	record := must(store.Open(ctx, filepath.Join(f.TempDir(), "steno.db"), store.Config{}))(f)
	f.Cleanup(func() { _ = record.Close() })
	cache := api.NewMemoryCache(16 << 20)
	f.Cleanup(func() { _ = cache.Close() })
	content := wav(7)[:3000]
	for i := range content {
		content[i] = byte(i ^ i>>8)
	}
	keys := must(api.LoadKeys(filepath.Join(f.TempDir(), "keys")))(f)
	server := must(api.New(api.Config{
		Store: record, Objects: memory{data: content}, Live: live{}, Cache: cache, Scratch: f.TempDir(), Partial: f.TempDir(), Keys: keys, Resolve: resolve,
		Probe: func(context.Context, string) (api.Media, error) { return api.Media{}, nil },
	}))(f)
	f.Cleanup(server.Close)
	u := must(record.CreateUser(ctx, store.User{Username: "ada", PasswordHash: must(hashed())(f), Role: store.RoleUser}))(f)
	sum := sha256.Sum256(content)
	file := must(record.AddFile(ctx, store.File{
		User: u.ID, Name: "a.wav", SHA256: hex.EncodeToString(sum[:]), Object: hex.EncodeToString(sum[:]), Size: int64(len(content)),
	}))(f)
	done := func(segs []transcript.Segment) job.ID {
		task, _, err := record.CreateTask(ctx, store.NewTask{User: u.ID, File: file.ID, Params: job.Params{}.WithDefaults()})
		if err != nil {
			f.Fatal(err)
		}
		must(record.Apply(ctx, store.Update{
			Task: task.ID, State: job.Done, Attempt: 1, Version: 1, Result: &transcript.Transcript{Text: transcript.Text(segs), Segments: segs},
		}))(f)
		return task.ID
	}
	silent := done(nil)
	task := done([]transcript.Segment{{End: 2, Text: "Ask not what your country can do for you."}, {Start: 3, End: 5, Text: "日本 – ask."}})
	token := (&bare{cfg: api.Config{Keys: keys, Now: time.Now}}).token(u).String()
	get = func(method, path string, headers ...string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, path, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		for i := 0; i+1 < len(headers); i += 2 {
			if headers[i+1] != "" {
				req.Header.Set(headers[i], headers[i+1])
			}
		}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, req)
		return w
	}
	paths := []string{filesPath + "/" + file.ID + "/content", filesPath + "/" + file.ID, taskPath(silent, "/download?format=text")}
	for _, format := range []string{"text", "docx", "srt", "vtt", "json"} {
		paths = append(paths, taskPath(task, "/download?format="+format))
	}
	for _, path := range paths {
		w := get("GET", path)
		if w.Code != http.StatusOK || w.Header().Get("ETag") == "" {
			f.Fatalf("%s: %d, %v, %s", path, w.Code, w.Header(), w.Body)
		}
		all = append(all, whole{path, w.Header().Get("ETag"), w.Body.Bytes()})
	}
	if !bytes.Equal(all[0].body, content) || len(all[2].body) > 0 {
		f.Fatal("the file is not what was stored, or silence says something")
	}
	return get, all
}

var contentRange = regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+)$`)

// checkPart wants the bytes that a Content-Range says.
func (a whole) checkPart(header string, body []byte, bodiless bool) error {
	m := contentRange.FindStringSubmatch(header)
	if m == nil {
		return fmt.Errorf("Content-Range %q", header)
	}
	from, _ := strconv.Atoi(m[1])
	to, _ := strconv.Atoi(m[2])
	if m[3] != strconv.Itoa(len(a.body)) || from > to || to >= len(a.body) {
		return fmt.Errorf("Content-Range %q of %d bytes", header, len(a.body))
	}
	if !bodiless && !bytes.Equal(body, a.body[from:to+1]) {
		return fmt.Errorf("Content-Range %q with other %d bytes", header, len(body))
	}
	return nil
}

// checkParts reads several parts, which together are no more than the whole.
func (a whole) checkParts(boundary string, body []byte) error {
	sum := 0
	for r := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) && sum > 0 && sum <= len(a.body) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after parts of %d bytes: %w", sum, err)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return err
		}
		sum += len(data)
		if err := a.checkPart(part.Header.Get("Content-Range"), data, false); err != nil {
			return err
		}
	}
}

// check holds an answer to what was asked for.
func (a whole) check(w *httptest.ResponseRecorder, head bool, ranges, condition string) error {
	h, body := w.Header(), w.Body.Bytes()
	if head && w.Code < 400 && len(body) > 0 { // a server drops that of a failure
		return fmt.Errorf("%d bytes for HEAD", len(body))
	}
	if length := h.Get("Content-Length"); !head && length != "" && length != strconv.Itoa(len(body)) {
		return fmt.Errorf("Content-Length %s, %d bytes", length, len(body))
	}
	switch w.Code {
	case http.StatusOK:
		if want := simple(ranges, len(a.body)); want != "" && condition == "" {
			return fmt.Errorf("all, and %q asks for %s", ranges, want)
		}
		if !head && !bytes.Equal(body, a.body) || h.Get("Content-Range") != "" {
			return fmt.Errorf("%d bytes, Content-Range %q", len(body), h.Get("Content-Range"))
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		if h.Get("Content-Range") == "" || h.Get("Content-Range") == fmt.Sprintf("bytes */%d", len(a.body)) {
			return nil
		}
		return fmt.Errorf("416 with Content-Range %q", h.Get("Content-Range"))
	case http.StatusPartialContent:
		if ranges == "" || condition != "" && condition != a.tag {
			return fmt.Errorf("a part for Range %q, If-Range %q", ranges, condition)
		}
		kind, params, _ := mime.ParseMediaType(h.Get("Content-Type"))
		if want := simple(ranges, len(a.body)); want != "" && h.Get("Content-Range") != want {
			return fmt.Errorf("Content-Range %q, and %q asks for %s", h.Get("Content-Range"), ranges, want)
		}
		if kind != "multipart/byteranges" {
			return a.checkPart(h.Get("Content-Range"), body, head)
		}
		if head {
			return nil
		}
		return a.checkParts(params["boundary"], body)
	}
	return fmt.Errorf("status %d", w.Code)
}

var oneRange = regexp.MustCompile(`^bytes=(\d{1,9})-(\d{1,9})$`)

// simple is the Content-Range that answers a plain range within size bytes, or "" for any other.
func simple(ranges string, size int) string {
	m := oneRange.FindStringSubmatch(ranges)
	if m == nil {
		return ""
	}
	from, _ := strconv.Atoi(m[1])
	to, _ := strconv.Atoi(m[2])
	if from > to || from >= size {
		return ""
	}
	return fmt.Sprintf("bytes %d-%d/%d", from, min(to, size-1), size)
}

// FuzzRange: whatever part of a file or a transcript a client asks for, it gets all of it, the bytes that the answer says, or the
// answer that there is no such part.
func FuzzRange(f *testing.F) {
	get, all := ranged(f)
	for i, ranges := range []string{
		"", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=5-", "bytes=0-99999", "bytes=99999-", "bytes=5-2", "bytes=0-1,3-4", "bytes=,",
		"bytes=0-0,-1", "bytes=" + strings.Repeat("0-,", 100), "bytes=" + strings.Repeat("1-1,", 400), "bytes= 1 - 2 ", "BYTES=0-1", "seconds=1-2",
		"bytes=9223372036854775807-", "bytes=-9223372036854775808", "bytes=18446744073709551616-1", "bytes=+1-2", "bytes=0x1-2", "bytes=1-2\x00",
	} {
		f.Add(uint8(2), false, ranges, uint8(0)) // of nothing
		f.Add(uint8(i), i%5 == 4, ranges, uint8(0))
		f.Add(uint8(i+1), false, ranges, uint8(1+i%3))
	}
	f.Fuzz(func(t *testing.T, what uint8, head bool, ranges string, condition uint8) {
		a := all[int(what)%len(all)]
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		if strings.Trim(ranges, " \t") != ranges {
			return // a server has trimmed it
		}
		tag := []string{"", a.tag, `"other"`, "Thu, 01 Jan 1970 00:00:00 GMT"}[condition%4]
		w := get(method, a.path, "Range", ranges, "If-Range", tag)
		if err := a.check(w, head, ranges, tag); err != nil {
			t.Errorf("%s %s, Range %q, If-Range %q: %v", method, a.path, ranges, tag, err)
		}
	})
}
