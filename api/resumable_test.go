package api_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"steno/api"
)

const uploadsPath = "/api/v1/uploads"

// tus calls as a client of the protocol does.
func (r *rig) tus(as user, method, path string, body any, headers ...string) *reply {
	r.Helper()
	return r.call(as, method, path, body, append([]string{"Tus-Resumable", "1.0.0"}, headers...)...)
}

// begin begins an upload in parts and returns where it goes on.
func (r *rig) begin(as user, name string, size int) string {
	r.Helper()
	p := r.tus(as, "POST", uploadsPath, nil, "Upload-Length", strconv.Itoa(size),
		"Upload-Metadata", "filename "+base64.StdEncoding.EncodeToString([]byte(name))).want(201)
	at := p.Header.Get("Location")
	if !strings.HasPrefix(at, uploadsPath+"/") || p.Header.Get("Tus-Resumable") != "1.0.0" {
		r.Fatalf("%s: header %v", p.what, p.Header)
	}
	return at
}

// patch sends the bytes from offset on.
func (r *rig) patch(as user, at string, offset int, data []byte) *reply {
	r.Helper()
	return r.tus(as, "PATCH", at, data, "Upload-Offset", strconv.Itoa(offset), "Content-Type", "application/offset+octet-stream")
}

// offset is how far an upload has come.
func (r *rig) offset(as user, at string) int {
	r.Helper()
	n, err := strconv.Atoi(r.tus(as, "HEAD", at, nil).want(200).Header.Get("Upload-Offset"))
	if err != nil {
		r.Fatal(err)
	}
	return n
}

// A file that is sent in parts, over a cut line and a restart of the server, is the file that was sent.
func TestUploadInParts(t *testing.T) {
	t.Parallel()
	var cfg api.Config
	r := newRig(t, func(c *api.Config) { cfg = *c })
	data := wav(2)
	at := r.begin(r.ada, "../../my talk.wav", len(data))
	if p := r.patch(r.ada, at, 0, data[:1000]).want(204); p.Header.Get("Upload-Offset") != "1000" {
		t.Errorf("header %v", p.Header)
	}
	r.tus(r.ada, "POST", at+"/finish", nil).problem(409, "UPLOAD_OPEN")
	r.patch(r.ada, at, 999, data[999:]).problem(409, "UPLOAD_OFFSET")
	r.patch(r.eve, at, 1000, data[1000:]).problem(404, "UPLOAD_NOT_FOUND")

	// The line is cut in the middle of a part: what has arrived counts.
	broken := must(http.NewRequestWithContext(t.Context(), "PATCH", r.base+at, io.MultiReader(
		bytes.NewReader(data[1000:9000]), &cutReader{},
	)))(t)
	broken.ContentLength = int64(len(data) - 1000)
	for name, value := range map[string]string{
		"Tus-Resumable": "1.0.0", "Upload-Offset": "1000", "Content-Type": "application/offset+octet-stream",
		"Authorization": "Bearer " + r.ada.token,
	} {
		broken.Header.Set(name, value)
	}
	if res, err := http.DefaultClient.Do(broken); err == nil {
		_ = res.Body.Close()
		t.Fatalf("the line was not cut: %d", res.StatusCode)
	}
	r.eventually("what has arrived is there", func() bool { return r.offset(r.ada, at) == 9000 })

	again := r.quiet(cfg) // another server over the same folders, as after a restart
	if got := again.offset(r.ada, at); got != 9000 {
		t.Errorf("after a restart %d bytes are there", got)
	}
	again.patch(r.ada, at, 9000, data[9000:]).want(204)
	var first, second fileOf
	again.tus(r.ada, "POST", at+"/finish", nil).want(201).json(&first)
	again.tus(r.ada, "POST", at+"/finish", nil).want(201).json(&second)
	if first.ID == "" || first.ID != second.ID || first.Name != "my talk.wav" {
		t.Errorf("finished: %+v, and again %+v", first, second)
	}
	if got := again.call(r.ada, "GET", "/api/v1/files/"+first.ID+"/content", nil).want(200).body; !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, and are not the %d that were sent", len(got), len(data))
	}
	again.tus(r.ada, "HEAD", at, nil).want(404)
	if left := must(filepath.Glob(filepath.Join(cfg.Partial, "*")))(t); len(left) != 1 || !strings.HasSuffix(left[0], ".file") {
		t.Errorf("left: %v", left)
	}
}

// cutReader breaks the line.
type cutReader struct{}

func (*cutReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Many who finish at once make one file.
func TestFinishAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	data := wav(1)
	at := r.begin(r.ada, "a.wav", len(data))
	r.patch(r.ada, at, 0, data).want(204)
	var all sync.WaitGroup
	files := make([]fileOf, 8)
	for i := range files {
		all.Go(func() { r.tus(r.ada, "POST", at+"/finish", nil).want(201).json(&files[i]) })
	}
	all.Wait()
	for _, f := range files {
		if f.ID != files[0].ID {
			t.Errorf("files %s and %s", files[0].ID, f.ID)
		}
	}
}

func TestUploadInPartsRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) { c.MaxUpload = 1 << 20 })
	r.call(r.ada, "POST", uploadsPath, nil, "Upload-Length", "10").problem(412, "TUS_VERSION")
	r.tus(r.ada, "POST", uploadsPath, nil).problem(400, "NO_LENGTH")
	r.tus(r.ada, "POST", uploadsPath, nil, "Upload-Length", "-1").problem(400, "INVALID_UPLOAD_LENGTH")
	r.tus(r.ada, "POST", uploadsPath, nil, "Upload-Length", "0").problem(422, "EMPTY")
	r.tus(r.ada, "POST", uploadsPath, nil, "Upload-Length", strconv.Itoa(1<<20+1)).problem(413, "FILE_TOO_LARGE")
	r.tus(r.ada, "POST", uploadsPath, nil, "Upload-Defer-Length", "1").problem(400, "NO_LENGTH")
	for _, id := range []string{
		r.ada.ID, r.ada.ID + ".", r.ada.ID + "..", r.ada.ID + ".%2e%2e%2fx", strings.Repeat("A", 300), r.ada.ID + "." + strings.Repeat("A", 26),
	} {
		r.tus(r.ada, "HEAD", uploadsPath+"/"+id, nil).want(404)
		r.patch(r.ada, uploadsPath+"/"+id, 0, []byte("x")).problem(404, "UPLOAD_NOT_FOUND")
	}

	// What is no audio is said when it is whole, and goes.
	at := r.begin(r.ada, "letter.txt", 5)
	r.patch(r.ada, at, 0, []byte("hello")).want(204)
	if p := r.tus(r.ada, "POST", at+"/finish", nil).want(422); !strings.Contains(string(p.body), `"code":`) {
		t.Errorf("%s", p.body)
	}
	r.tus(r.ada, "HEAD", at, nil).want(404)
	r.patch(r.ada, r.begin(r.ada, "a.wav", 3), 0, []byte("hello")).problem(413, "FILE_TOO_LARGE")

	given := r.begin(r.ada, "given up.wav", 100)
	r.tus(r.ada, "DELETE", given, nil).want(204)
	r.tus(r.ada, "HEAD", given, nil).want(404)
	for range 99 { // besides the one that was too long
		r.begin(r.ada, "a.wav", 100)
	}
	r.tus(r.ada, "POST", uploadsPath, nil, "Upload-Length", "100").problem(409, "TOO_MANY_UPLOADS")
	r.begin(r.eve, "a.wav", 100)
}

// What nobody finishes goes after a day, and nothing else.
func TestOldUploadsGo(t *testing.T) {
	t.Parallel()
	var cfg api.Config
	r := newRig(t, func(c *api.Config) { cfg = *c })
	old, young, done := r.begin(r.ada, "old.wav", 100), r.begin(r.ada, "young.wav", 100), r.begin(r.ada, "done.wav", len(wav(1)))
	r.patch(r.ada, done, 0, wav(1)).want(204)
	r.tus(r.ada, "POST", done+"/finish", nil).want(201)
	age := func(at string, d time.Duration) {
		for _, p := range []string{".info", ".file", "", "/audio.wav"} {
			p = filepath.Join(cfg.Partial, path.Base(at)+p)
			if _, err := os.Stat(p); err == nil {
				if err := os.Chtimes(p, time.Now(), time.Now().Add(-d)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	age(old, 25*time.Hour)
	age(done, 25*time.Hour)
	age(young, 25*time.Hour)
	r.patch(r.ada, young, 0, []byte("x")).want(204) // its last byte is what counts
	again := r.quiet(cfg)
	r.eventually("the old ones have gone", func() bool {
		left := must(os.ReadDir(cfg.Partial))(t)
		return len(left) == 2
	})
	again.tus(r.ada, "HEAD", old, nil).want(404)
	if got := again.offset(r.ada, young); got != 1 {
		t.Errorf("of the young one %d bytes are there", got)
	}
}

// A link lets a player read its file, in parts, and nothing else, for as long as its maker's tokens are good.
func TestLink(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	data := wav(1)
	f, other := r.upload(r.ada, "a.wav", data), r.upload(r.ada, "b.wav", wav(2))
	var link struct {
		URL     string    `json:"url"`
		Expires time.Time `json:"expires_at"`
	}
	r.call(r.ada, "POST", "/api/v1/files/"+f.ID+"/link", nil).want(201).json(&link)
	if until := time.Until(link.Expires); until < 59*time.Minute || until > time.Hour {
		t.Errorf("it is good for %s", until)
	}
	if got := r.call(user{}, "GET", link.URL, nil).want(200).body; !bytes.Equal(got, data) {
		t.Errorf("%d bytes came", len(got))
	}
	if got := r.call(user{}, "GET", link.URL, nil, "Range", "bytes=4-7").want(206).body; !bytes.Equal(got, data[4:8]) {
		t.Errorf("a part is %q", got)
	}
	_, ticket, _ := strings.Cut(link.URL, "?ticket=")
	for _, at := range []string{
		"/api/v1/files/" + other.ID + "/content?ticket=" + ticket, "/api/v1/files/" + f.ID + "?ticket=" + ticket,
		"/api/v1/files/" + f.ID + "/content?ticket=" + ticket[:len(ticket)-2], "/api/v1/files/" + f.ID + "/content?ticket=",
		"/api/v1/files/" + f.ID + "/content?ticket=" + r.ada.token, "/api/v1/files/" + f.ID + "/content?ticket=" + strings.Repeat("a", 9000),
	} {
		r.call(user{}, "GET", at, nil).problem(401, "UNAUTHORIZED")
	}
	r.call(user{token: ticket}, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED")
	r.call(r.eve, "POST", "/api/v1/files/"+f.ID+"/link", nil).want(404)
	r.call(r.ada, "POST", "/api/v1/auth/revoke", nil).want(204)
	r.call(user{}, "GET", link.URL, nil).problem(401, "UNAUTHORIZED")
}

// An edit is what downloads give from then on, and the original stays.
func TestRevisions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.finished(r.ada, r.upload(r.ada, "a.wav", wav(1)).ID)
	all := taskPath(id, "/revisions")
	text := func(query string) string {
		return strings.TrimSpace(string(r.call(r.ada, "GET", taskPath(id, "/download"+query), nil).want(200).body))
	}
	heard := text("")
	var t0 struct {
		Segments []struct {
			ID int `json:"id"`
		}
	}
	r.call(r.ada, "GET", taskPath(id, "/download?format=json"), nil).want(200).json(&t0)
	edit := func(base int, text string) *reply {
		return r.call(r.ada, "POST", all, map[string]any{
			"base": base, "segments": []any{map[string]any{"id": t0.Segments[0].ID, "text": text, "speaker": "JFK"}},
		})
	}
	var made struct{ Revision int }
	edit(0, "Ask what you can do.").want(201).json(&made)
	if made.Revision != 1 {
		t.Errorf("made %+v", made)
	}
	if got := text(""); got != "JFK: Ask what you can do." {
		t.Errorf("after the edit: %q", got)
	}
	if got := text("?revision=0"); got != heard {
		t.Errorf("the original has become %q, and was %q", got, heard)
	}
	edit(0, "Late.").problem(409, "EDITED_MEANWHILE")
	r.call(r.ada, "POST", all, map[string]any{"base": 1, "speakers": map[string]string{"JFK": "Kennedy"}}).want(201)
	if got := text(""); got != "Kennedy: Ask what you can do." {
		t.Errorf("after the speaker got a name: %q", got)
	}
	var list struct{ Items []struct{ Revision int } }
	r.call(r.ada, "GET", all, nil).want(200).json(&list)
	if fmt.Sprint(list.Items) != "[{2} {1}]" {
		t.Errorf("list %v", list.Items)
	}
	r.call(r.ada, "POST", all, map[string]any{"base": 2, "segments": []any{map[string]any{"id": 99, "text": "x"}}}).problem(422, "BAD_EDIT")
	r.call(r.ada, "GET", taskPath(id, "/download?revision=3"), nil).problem(404, "REVISION_NOT_FOUND")
	r.call(r.ada, "GET", taskPath(id, "/download?revision=-1"), nil).problem(422, "BAD_FIELD")
}
