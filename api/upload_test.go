package api_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"steno/api"
	"steno/job"
)

const filesPath = "/api/v1/files"

// newUploads starts a rig, and names the folder in which its uploads are on their way.
func newUploads(t *testing.T, change ...func(*api.Config)) (r *rig, scratch string) {
	t.Helper()
	r = newRig(t, append(change, func(c *api.Config) { scratch = c.Scratch })...)
	return r, scratch
}

// unprobed takes any file for a second of audio: for tests that are about something else, and would run ffprobe many times.
func unprobed(c *api.Config) {
	c.Probe = func(context.Context, string) (api.Media, error) { return api.Media{Duration: 1}, nil }
}

// empty checks that nothing is in a folder any more.
func (r *rig) empty(folder string) {
	r.Helper()
	if left := must(os.ReadDir(folder))(r.T); len(left) > 0 {
		r.Errorf("%d things stay behind in the scratch folder, such as %s", len(left), left[0])
	}
}

// keeps reports whether the object store holds a content.
func (r *rig) keeps(content []byte) bool {
	r.Helper()
	object, err := r.q.OpenAudio(r.Context(), sumOf(content))
	if err == nil {
		return object.Close() == nil
	}
	if code := job.AsError(err).Code; code != "AUDIO_MISSING" {
		r.Fatalf("look up the object: %v", err)
	}
	return false
}

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// gauge is the value of a metric without labels.
func (r *rig) gauge(name string) float64 {
	r.Helper()
	for _, family := range must(r.reg.Gather())(r.T) {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	r.Fatalf("there is no metric %s", name)
	return 0
}

// counted is an object store that counts what is sent to it.
type counted struct {
	api.Objects
	puts atomic.Int64
}

func (c *counted) Put(ctx context.Context, r io.Reader) (job.Source, error) {
	c.puts.Add(1)
	return c.Objects.Put(ctx, r)
}

// A file comes as a form or as the body itself, under the name that its user gives it. The same content is sent to the store
// once.
func TestUploadWays(t *testing.T) {
	t.Parallel()
	var store counted
	r, scratch := newUploads(t, func(c *api.Config) { store.Objects, c.Objects = c.Objects, &store })
	content := wav(1)
	form := func(name string) (body []byte, contentType string) { return formOf(t, name, content, "other", "field") }
	seen := map[string]bool{}
	for _, row := range []struct {
		what, query, disposition string
		form                     string // name of the file in a form
		want                     string
	}{
		{what: "body without a name", want: "audio"},
		{what: "name in the query", query: "?name=Caf%C3%A9%20%231.wav", want: "Café #1.wav"},
		{what: "name in the header", disposition: `attachment; filename="a b.wav"`, want: "a b.wav"},
		{what: "name of any script in the header", disposition: `attachment; filename*=UTF-8''%C3%9Cbung.wav`, want: "Übung.wav"},
		{what: "the query goes before the header", query: "?name=q.wav", disposition: `inline; filename=h.wav`, want: "q.wav"},
		{what: "header that is none", disposition: `;;=`, want: "audio"},
		{what: "form", form: "f.wav", want: "f.wav"},
		{what: "the form's name goes before the query", query: "?name=q.wav", form: "f.wav", want: "f.wav"},
		{what: "path in a form", form: `C:\Users\ada\Übung 1.wav`, want: "Übung 1.wav"},
		{what: "path in the query", query: "?name=../../etc/passwd", want: "passwd"},
		{what: "no name in a form", form: "..", want: "audio"},
	} {
		body, headers := content, []string{"Content-Type", "application/octet-stream"}
		if row.form != "" {
			body, headers[1] = form(row.form)
		}
		if row.disposition != "" {
			headers = append(headers, "Content-Disposition", row.disposition)
		}
		var f fileOf
		p := r.call(r.ada, "POST", filesPath+row.query, body, headers...).want(201).json(&f)
		if f.Name != row.want || f.SHA256 != sumOf(content) || f.Size != int64(len(content)) || f.Duration != 1 || seen[f.ID] {
			t.Errorf("%s: %+v, want name %q", row.what, f, row.want)
		}
		seen[f.ID] = true
		if at := p.Header.Get("Location"); at != filesPath+"/"+f.ID {
			t.Errorf("%s: Location %q", row.what, at)
		}
		var again fileOf
		if r.call(r.ada, "GET", filesPath+"/"+f.ID, nil).want(200).json(&again); again != f {
			t.Errorf("%s: asked again it is %+v, was %+v", row.what, again, f)
		}
		r.empty(scratch)
	}
	if n := store.puts.Load(); n != 1 {
		t.Errorf("the content was sent to the store %d times", n)
	}
}

// What users have in common is stored once, and stays until the last of them has let go of it.
func TestSameContent(t *testing.T) {
	t.Parallel()
	var store counted
	r, _ := newUploads(t, func(c *api.Config) { store.Objects, c.Objects = c.Objects, &store })
	content := wav(1)
	a, b := r.upload(r.ada, "a.wav", content), r.upload(r.eve, "b.wav", content)
	if a.ID == b.ID || a.SHA256 != b.SHA256 || a.SHA256 != sumOf(content) || store.puts.Load() != 1 {
		t.Errorf("files %+v and %+v, sent to the store %d times", a, b, store.puts.Load())
	}
	r.call(r.ada, "DELETE", filesPath+"/"+a.ID, nil).want(204)
	if got := r.call(r.eve, "GET", filesPath+"/"+b.ID+"/content", nil).want(200); !bytes.Equal(got.body, content) {
		t.Errorf("eve's file has %d bytes", len(got.body))
	}
	r.call(r.eve, "DELETE", filesPath+"/"+b.ID, nil).want(204)
	r.eventually("the content is gone with its last file", func() bool { return !r.keeps(content) })
	r.eventually("it is taken again", func() bool {
		return r.call(r.ada, "POST", filesPath, content).StatusCode == http.StatusCreated // 503 while the last is being deleted
	})
	if !r.keeps(content) {
		t.Error("it is not stored again")
	}
}

// refused are files that are not taken, by the code that says why.
func refused(t *testing.T) map[string]struct {
	name    string
	content []byte
	code    string
} {
	t.Helper()
	folder := t.TempDir()
	film, song := filepath.Join(folder, "film.mp4"), filepath.Join(folder, "song.m4a")
	for path, source := range map[string]string{film: "testsrc=d=0.1:s=16x16", song: "sine=d=1"} {
		if out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, path).CombinedOutput(); err != nil {
			t.Fatalf("make %s: %v: %s", path, err, out)
		}
	}
	half := must(os.ReadFile(song))(t)
	half = half[:len(half)/2]
	var archive bytes.Buffer
	zipped := zip.NewWriter(&archive)
	_, err := must(zipped.Create("a.wav"))(t).Write(wav(1))
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	list := "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
	return map[string]struct {
		name    string
		content []byte
		code    string
	}{
		"nothing":             {"a.wav", []byte{}, "FILE_EMPTY"},
		"text":                {"a.txt", []byte("These are words, and nobody speaks them.\n"), "NOT_MEDIA"},
		"page":                {"a.mp3", []byte("<!doctype html><title>Not found</title><p>404"), "NOT_MEDIA"},
		"archive":             {"a.zip", archive.Bytes(), "NOT_MEDIA"},
		"playlist":            {"song.mp3", []byte(list), "FORMAT_NOT_ALLOWED"},
		"list of files":       {"a.ffconcat", []byte("ffconcat version 1.0\nfile /etc/passwd\n"), "FORMAT_NOT_ALLOWED"},
		"film without a word": {"film.mp4", must(os.ReadFile(film))(t), "NO_AUDIO_STREAM"},
		"half a file":         {"song.m4a", half, "TRUNCATED"},
	}
}

// What is no audio is not taken, in whatever way it comes, and nothing of it stays.
func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t)
	for what, f := range refused(t) {
		form, contentType := formOf(t, f.name, f.content)
		r.call(r.ada, "POST", filesPath, form, "Content-Type", contentType).problem(422, f.code)
		r.empty(scratch)
		if f.code == "FORMAT_NOT_ALLOWED" { // the body itself goes the same way from here on, and so do OpenAI's clients
			r.call(r.ada, "POST", filesPath+"?name="+f.name, f.content).problem(422, f.code)
			r.call(r.ada, "POST", transcriptions, form, "Content-Type", contentType).failed(422, "invalid_request_error", f.code)
			r.empty(scratch)
		}
		if r.keeps(f.content) {
			t.Errorf("%s is in the store", what)
		}
	}
}

// chunked is a body that does not say how long it is.
func chunked(content []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(content)} }

// A file may have MaxUpload bytes, and not one more.
func TestLargeFiles(t *testing.T) {
	t.Parallel()
	const most = 64 << 10
	r, scratch := newUploads(t, func(c *api.Config) { c.MaxUpload = most })
	sized := func(n int) []byte { return append(wav(1), make([]byte, n-len(wav(1)))...) }
	form := func(content []byte) *reply {
		body, contentType := formOf(t, "a.wav", content)
		return r.call(r.ada, "POST", filesPath, body, "Content-Type", contentType)
	}
	r.call(r.ada, "POST", filesPath, sized(most)).want(201)
	form(sized(most)).want(201)
	for what, content := range map[string][]byte{"one byte too many": sized(most + 1), "twice as many": sized(2 * most)} {
		r.call(r.ada, "POST", filesPath, content).problem(413, "FILE_TOO_LARGE")
		r.call(r.ada, "POST", filesPath, chunked(content)).problem(413, "FILE_TOO_LARGE")
		form(content).problem(413, "FILE_TOO_LARGE")
		if r.keeps(content) {
			t.Errorf("%s: it is in the store", what)
		}
	}
	// What is too large by its header is refused before a byte of it has come.
	r.dial("POST "+filesPath, "Content-Length: 3000000000").answer().problem(413, "FILE_TOO_LARGE")
	// The bytes around the file are bounded, too.
	body, contentType := formOf(t, "a.wav", wav(1))
	around := io.MultiReader(strings.NewReader(strings.Repeat("preamble\r\n", 200_000)), bytes.NewReader(body))
	r.call(r.ada, "POST", filesPath, around, "Content-Type", contentType).problem(413, "FILE_TOO_LARGE")
	r.empty(scratch)
	if n := r.gauge("steno_uploads_in_flight"); n != 0 {
		t.Errorf("%v uploads are under way", n)
	}
}

func TestBadForms(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t)
	content := wav(1)
	whole, contentType := formOf(t, "a.wav", content)
	_, boundary, _ := strings.Cut(contentType, "boundary=")
	first := strings.Index(string(whole), "--"+boundary)
	long, longType := formOf(t, "a.wav", content, "prompt", strings.Repeat("x", 40<<10), "more", strings.Repeat("x", 40<<10))
	none := []byte("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nbase\r\n--b--\r\n")
	for what, row := range map[string]struct {
		body   []byte
		kind   string
		status int
		code   string
	}{
		"two files": {
			slices.Concat(bytes.TrimSuffix(whole, []byte("--\r\n")), []byte("\r\n"), whole[first+len(boundary)+4:]),
			contentType, 422, "BAD_FIELD",
		},
		"no file":                {none, `multipart/form-data; boundary=b`, 422, "BAD_FIELD"},
		"no part at all":         {[]byte("--b--\r\n"), `multipart/form-data; boundary=b`, 422, "BAD_FIELD"},
		"nothing":                {nil, contentType, 400, "UPLOAD_CUT"},
		"no boundary":            {whole, "multipart/form-data", 400, "UPLOAD_CUT"},
		"another boundary":       {whole, "multipart/form-data; boundary=another", 400, "UPLOAD_CUT"},
		"end within the file":    {whole[:len(whole)/2], contentType, 400, "UPLOAD_CUT"},
		"end before the last --": {bytes.TrimSuffix(whole, []byte("--\r\n")), contentType, 400, "UPLOAD_CUT"},
		"end within a header":    {whole[:first+len(boundary)+20], contentType, 400, "UPLOAD_CUT"},
		"header that is none":    {[]byte("--b\r\nno header\r\n\r\nx\r\n--b--"), "multipart/form-data; boundary=b", 400, "UPLOAD_CUT"},
		"fields without end":     {long, longType, 422, "BAD_FIELD"},
	} {
		p := r.call(r.ada, "POST", filesPath, row.body, "Content-Type", row.kind)
		var v api.Problem
		if p.json(&v); v.Status != row.status || v.Code != row.code || p.StatusCode != row.status {
			t.Errorf("%s: %d %+v, want %d %s", what, p.StatusCode, v, row.status, row.code)
		}
		r.empty(scratch)
	}
	if r.keeps(content) {
		t.Error("the content is in the store")
	}
	r.call(user{}, "POST", filesPath, content).problem(401, "UNAUTHORIZED")
}
