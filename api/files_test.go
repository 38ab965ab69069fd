package api_test

import (
	"bytes"
	"strings"
	"testing"

	"steno/job"
)

// A file that a task needs stays. Once it is deleted, its tasks name it no more, also where the cache knew better.
func TestDeleteFile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	r.work(hold(release))
	f := r.upload(r.ada, "a.wav", wav(1))
	path := filesPath + "/" + f.ID
	task := r.create(r.ada, f.ID)
	r.call(r.ada, "DELETE", path, nil).problem(409, "FILE_IN_USE")
	r.await(r.ada, task.ID, job.Running)
	r.call(r.ada, "DELETE", path, nil).problem(409, "FILE_IN_USE")
	r.call(r.ada, "GET", path, nil).want(200)
	close(release)
	r.recorded(task.ID)

	shown := func() (status, listed taskOf, from string) {
		t.Helper()
		var history struct{ Items []taskOf }
		p := r.call(r.ada, "GET", taskPath(task.ID, "/status"), nil).want(200).json(&status)
		r.call(r.ada, "GET", historyPath, nil).want(200).json(&history)
		if len(history.Items) != 1 {
			t.Fatalf("history %+v", history)
		}
		return status, history.Items[0], p.Header.Get("X-Cache")
	}
	shown()
	status, listed, from := shown()
	if from != "HIT" || status.File == nil || *status.File != f.ID || listed.File == nil || *listed.File != f.ID {
		t.Fatalf("from the cache (%s): %+v and %+v", from, status, listed)
	}
	r.call(r.eve, "DELETE", path, nil).problem(404, "FILE_NOT_FOUND")
	r.call(user{}, "DELETE", path, nil).problem(401, "UNAUTHORIZED")
	r.call(r.ada, "DELETE", strings.ToLower(path), nil).want(204) // ids are the same in lower case
	status, listed, _ = shown()
	if status.File != nil || listed.File != nil || status.FileName != "a.wav" || status.Status != job.Done {
		t.Errorf("after the delete: %+v and %+v", status, listed)
	}
	for _, call := range [][2]string{{"GET", path}, {"GET", path + "/content"}, {"DELETE", path}} {
		r.call(r.ada, call[0], call[1], nil).problem(404, "FILE_NOT_FOUND")
	}
	r.call(r.ada, "GET", taskPath(task.ID, "/download"), nil).want(200)
	r.eventually("the content is gone", func() bool { return !r.keeps(wav(1)) })
}

func TestFileContent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	content := wav(7)
	f := r.upload(r.ada, "a.wav", content)
	path, tag := filesPath+"/"+f.ID+"/content", `"`+f.SHA256+`"`
	end := content[16000:]
	for _, row := range []struct {
		what    string
		method  string
		headers []string
		status  int
		body    []byte
		span    string // Content-Range
	}{
		{"all", "GET", nil, 200, content, ""},
		{"head", "HEAD", nil, 200, nil, ""},
		{"start", "GET", []string{"Range", "bytes=0-43"}, 206, content[:44], "bytes 0-43/16044"},
		{"middle", "GET", []string{"Range", "bytes=100-199"}, 206, content[100:200], "bytes 100-199/16044"},
		{"last", "GET", []string{"Range", "bytes=-44"}, 206, end, "bytes 16000-16043/16044"},
		{"rest", "GET", []string{"Range", "bytes=16000-"}, 206, end, "bytes 16000-16043/16044"},
		{"more than there is", "GET", []string{"Range", "bytes=16000-99999"}, 206, end, "bytes 16000-16043/16044"},
		{"head of a part", "HEAD", []string{"Range", "bytes=0-43"}, 206, nil, "bytes 0-43/16044"},
		{"outside", "GET", []string{"Range", "bytes=16044-"}, 416, nil, "bytes */16044"},
		{"last none", "GET", []string{"Range", "bytes=-0"}, 416, nil, "bytes */16044"},
		{"start and last none", "GET", []string{"Range", "bytes=0-43, -0"}, 206, content[:44], "bytes 0-43/16044"},
		{"range that is none", "GET", []string{"Range", "seconds=1-2"}, 416, nil, ""},
		{"what the client has", "GET", []string{"If-None-Match", tag}, 304, nil, ""},
		{"what it has not", "GET", []string{"If-None-Match", `"other"`}, 200, content, ""},
		{"rest of what it has", "GET", []string{"Range", "bytes=16000-", "If-Range", tag}, 206, end, "bytes 16000-16043/16044"},
		{"rest of something else", "GET", []string{"Range", "bytes=16000-", "If-Range", `"other"`}, 200, content, ""},
		{"only if it is something else", "GET", []string{"If-Match", `"other"`}, 412, nil, ""},
	} {
		p := r.call(r.ada, row.method, path, nil, row.headers...).want(row.status).from("")
		if p.Header.Get("Content-Range") != row.span || row.status < 300 && !bytes.Equal(p.body, row.body) {
			t.Errorf("%s: %d bytes, Content-Range %q, want %d, %q",
				row.what, len(p.body), p.Header.Get("Content-Range"), len(row.body), row.span)
		}
		if row.status < 400 && (p.Header.Get("ETag") != tag || p.Header.Get("Cache-Control") != "private, no-cache") {
			t.Errorf("%s: header %v", row.what, p.Header)
		}
		if row.method == "HEAD" && row.status == 200 && p.ContentLength != int64(len(content)) {
			t.Errorf("%s: Content-Length %d", row.what, p.ContentLength)
		}
	}
	r.call(r.eve, "GET", path, nil).problem(404, "FILE_NOT_FOUND")
	r.call(user{}, "GET", path, nil).problem(401, "UNAUTHORIZED")
	r.call(r.ada, "GET", strings.ToLower(path), nil).want(200)
	if err := r.q.DeleteAudio(t.Context(), f.SHA256); err != nil {
		t.Fatal(err)
	}
	r.call(r.ada, "GET", path, nil).problem(410, "AUDIO_MISSING")
}

// The name says what a player is told that the file is; nothing that a browser could run is shown by it.
func TestContentType(t *testing.T) {
	t.Parallel()
	r := newRig(t, unprobed)
	for name, want := range map[string]struct{ kind, disposition string }{
		"a.wav":          {"audio/", `inline; filename="a.wav"`},
		"a.MP3":          {"audio/mpeg", `inline; filename="a.MP3"`},
		"a.mp4":          {"video/mp4", `inline; filename="a.mp4"`},
		"audio":          {"application/octet-stream", `attachment; filename="audio"`},
		"a.nonsense":     {"application/octet-stream", `attachment; filename="a.nonsense"`},
		"a.html":         {"text/html", `attachment; filename="a.html"`},
		"a.svg":          {"image/svg+xml", `attachment; filename="a.svg"`},
		`a".wav`:         {"audio/", `inline; filename="a_.wav"; filename*=UTF-8''a%22.wav`},
		"Übung 50%.wav":  {"audio/", `inline; filename="_bung 50_.wav"; filename*=UTF-8''%C3%9Cbung%2050%25.wav`},
		"a;b=c, d~!.wav": {"audio/", `inline; filename="a;b=c, d~!.wav"`},
	} {
		f := r.upload(r.ada, name, wav(1))
		h := r.call(r.ada, "HEAD", filesPath+"/"+f.ID+"/content", nil).want(200).Header
		if !strings.HasPrefix(h.Get("Content-Type"), want.kind) || h.Get("Content-Disposition") != want.disposition {
			t.Errorf("%s: %s; %s", name, h.Get("Content-Type"), h.Get("Content-Disposition"))
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: header %v", name, h)
		}
	}
}
