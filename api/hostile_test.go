package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"steno/api"
)

// logBuffer is a log of a test. It is safe for concurrent use.
type logBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

const canary = "canary that no answer may hold"

// climbs are the ways out of a folder, as they are written in a path of HTTP: bare and in all the codings that some layer decodes.
func climbs(target string) (list []string) {
	for _, up := range []string{
		"../", "..%2f", "%2e%2e/", "%2e%2e%2f", "%252e%252e%252f", "..%5c", "..\\", "%2e%2e%5c", "..%c0%af", "%c0%ae%c0%ae/", "..%e0%80%af",
		"....//", "..;/", "..%00/", "..%0d/", "%uff0e%uff0e%u2215", "%ef%bc%8e%ef%bc%8e%ef%bc%8f", "./../", ".%2f..%2f", "x/../../", "..%09/", "..%20/",
	} {
		for _, n := range []int{1, 4, 12} {
			list = append(list, strings.Repeat(up, n)+target)
		}
	}
	return list
}

// hostileIDs are more than 200 things that are the id of nothing: id is one that is the id of something.
func hostileIDs(id, secret string) []string {
	list := climbs("etc/passwd")
	list = append(list, climbs(strings.TrimPrefix(secret, "/"))...)
	list = append(list, climbs(id)...)
	for _, text := range []string{
		secret, "/etc/passwd", "file:" + secret, "file://" + secret, "//etc/passwd", `C:\Windows\win.ini`, `\\host\share`, `\\?\C:\`, "~root", "~",
		".", "..", "...", " ", "%", "%s%n", "*", "?", "[a-z]*", "{a,b}", "$HOME", "$(id)", "`id`", "|id", ";id", "&id", "\x00", id + "\x00", id + "\x00.wav",
		"\x00" + id, id + "/", id + "/.", "./" + id, id + "/..", id + " ", " " + id, id + "\n", id + "%", id + "#x", id + id, id[1:], id[:25], id + ".json",
		"-i", "-f lavfi", "--help", "concat:" + secret, "pipe:0", "subfile,,start,0,end,9,,:" + secret, "http://127.0.0.1/", "' OR '1'='1",
		"'; DROP TABLE tasks; --", id + "' --", "\" OR 1=1", "{{7*7}}", "${7*7}", "<script>", "null", "undefined", "NaN", "-1", "0", "1e9", "true", "[]", "{}",
		"CON", "nul.wav", "..\u2215..\u2215etc", "．．／etc", "\u202e" + id, "\ufeff" + id, "İ" + id[1:], strings.Repeat("A", 4096), strings.Repeat("../", 1000),
		strings.Repeat("é", 1000), "\xff\xfe", "\xc0\xae", "steno_audio", "KV_steno_jobs", "$JS.API.STREAM.DELETE", "steno.>", "*.>", "seq-1",
	} {
		list = append(list, url.PathEscape(text))
	}
	return list
}

// rawly sends a request line as it is and returns the answer.
func (r *rig) rawly(method, target string) (int, http.Header, []byte) {
	r.Helper()
	conn := must(new(net.Dialer).DialContext(r.Context(), "tcp", strings.TrimPrefix(r.base, "http://")))(r.T)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: steno\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", method, target, r.ada.token)
	res := must(http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method}))(r.T)
	defer res.Body.Close()
	return res.StatusCode, res.Header, must(io.ReadAll(res.Body))(r.T)
}

// What is no id of the caller's own leads nowhere, on each route that takes one, in the path and in the body.
func TestHostileIDs(t *testing.T) {
	t.Parallel()
	var log logBuffer
	r, scratch := newUploads(t, func(c *api.Config) {
		c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	home := t.TempDir()
	secret := filepath.Join(home, "secret.wav")
	if err := os.WriteFile(secret, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	file := r.upload(r.ada, "a.wav", wav(1))
	task := r.finished(r.ada, file.ID)
	before := r.all(r.ada)
	asked := 0
	judge := func(what string, code int, header http.Header, body []byte, want ...int) {
		asked++
		if !slices.Contains(want, code) || bytes.Contains(body, []byte(canary)) || bytes.Contains(body, []byte("root:x:")) {
			t.Errorf("%.200s: %d: %.300s", what, code, body)
		}
		if to := header.Get("Location"); to != "" && !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") {
			t.Errorf("%.200s: leads to %s", what, to)
		}
	}
	rows := 0
	for _, id := range []string{file.ID, string(task)} {
		for _, bad := range hostileIDs(id, secret) {
			rows++
			for _, route := range []string{
				"GET /api/v1/files/%s", "GET /api/v1/files/%s/content", "DELETE /api/v1/files/%s", "GET /api/v1/transcription/%s/status",
				"GET /api/v1/transcription/%s/download", "GET /api/v1/transcription/%s/events", "DELETE /api/v1/transcription/%s",
				"DELETE /api/v1/user/keys/%s", "GET /v1/models/%s",
			} {
				if rows%4 != 0 && !strings.HasPrefix(route, "GET /api/v1/files/%s/c") && !strings.HasPrefix(route, "DELETE /api/v1/t") {
					continue // all routes for a quarter of the rows, and for all rows one that reads and one that writes
				}
				method, path, _ := strings.Cut(route, " ")
				code, header, body := r.rawly(method, strings.Replace(path, "%s", bad, 1))
				judge(fmt.Sprintf("%s with %.80s", route, bad), code, header, body, 400, 404, 405, 301, 307, 308, 431)
			}
			text, err := url.PathUnescape(bad)
			if err != nil {
				text = bad
			}
			for _, body := range []map[string]any{
				{"file_id": text}, {"file_id": file.ID, "model": text}, {"file_id": file.ID, "webhook": text}, {"file_id": file.ID, "language": text},
			} {
				got := r.call(r.ada, "POST", "/api/v1/transcription/create", body)
				judge(fmt.Sprintf("create with %.80v", body), got.StatusCode, got.Header, got.body, 400, 404, 422)
			}
		}
	}
	if rows < 400 {
		t.Errorf("only %d rows", rows)
	}
	if after := r.all(r.ada); after != before {
		t.Errorf("from %s\nto %s", before, after)
	}
	r.empty(scratch)
	if left := must(os.ReadDir(home))(t); len(left) != 1 || string(must(os.ReadFile(secret))(t)) != canary {
		t.Errorf("beside the canary are %v", left)
	}
	for line := range strings.Lines(log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the log is no JSON: %q", line)
		}
	}
	t.Logf("%d rows, %d requests", rows, asked)
}

// hostileNames are file names that want to be more than that: a path, a header, a line of a log, a command, a formula, another ending.
func hostileNames() []string {
	list := []string{
		"a\r\nSet-Cookie: x=1.wav", "a\r\n\r\n<html>.wav", "a\nlevel=ERROR msg=forged.wav", "a\n{\"level\":\"ERROR\"}.wav", "a\"; filename=\"b.exe",
		"a.wav\x00.exe", "\x00", "\u202egnp.exe", "\u2066a\u2069.wav", "a\u2028b\u2029c\u0085.wav", "\x1b[2J.wav", "\u009b31m.wav", "\x1b]0;t\x07.wav",
		"-->.wav", "=cmd|'/C calc'!A0.wav", "+1.wav", "-1.wav", "@SUM(A1).wav", "\t=1.wav", "-i.wav", "-y.wav", "--help", "<script>alert(1)</script>.wav",
		"<img src=x onerror=alert(1)>.wav", "$(id).wav", "`id`.wav", "|id", ";id;.wav", "&id.wav", "%0d%0aX: y.wav", "%00.wav", "%2e%2e%2fa.wav",
		"a%5c..%5cb.wav", "file:///etc/passwd", "http://127.0.0.1/a.wav", "concat:a.wav|b.wav", "pipe:0", "CON", "nul.wav", "aux", "a.wav:stream", "a. ", "a..",
		".htaccess", "~", "*", "?", "a'b.wav", "a\\\"b.wav", "a;b.wav", "a,b.wav", "a=b.wav", "ünïcödé.wav", "日本語.wav", "\u200fאב.wav", "😀.wav",
		strings.Repeat("x", 5000) + ".wav", strings.Repeat("é", 300) + ".wav", strings.Repeat("../", 500) + "a.wav", "\xff\xfe.wav", "\xc0\xaf..\xc0\xaf.wav",
		"{{7*7}}.wav", "${jndi:ldap://x}.wav", "' OR 1=1 --.wav", "\ufeff.wav", "\U0010ffff.wav",
	}
	for _, c := range climbs("tmp/x.wav") {
		text, err := url.PathUnescape(c)
		if err != nil {
			text = c
		}
		list = append(list, text)
	}
	return list
}

// A file's name is text wherever it comes back: in answers, as the name of what is saved, in transcripts and in the log.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	var log logBuffer
	r, scratch := newUploads(t, unprobed, func(c *api.Config) {
		c.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	r.finished(r.ada, r.upload(r.ada, "first.wav", wav(1)).ID) // whose transcript all others take over
	odd := func(c rune) bool {
		return unicode.IsControl(c) || strings.ContainsRune("/\\\u2028\u2029\u202e\u2066\u2069", c)
	}
	names := hostileNames()
	for i, name := range names {
		var f fileOf
		if i%2 == 0 {
			r.call(r.ada, "POST", filesPath+"?name="+url.QueryEscape(name), wav(1), "Content-Type", "audio/wav").want(201).json(&f)
		} else {
			form, contentType := formOf(t, name, wav(1))
			got := r.call(r.ada, "POST", filesPath, form, "Content-Type", contentType)
			if got.StatusCode == 400 { // a head that is none
				continue
			}
			got.want(201).json(&f)
		}
		if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsFunc(f.Name, odd) {
			t.Errorf("%.60q is called %q", name, f.Name)
		}
		var made taskOf
		r.call(r.ada, "POST", "/api/v1/transcription/create", map[string]any{"file_id": f.ID}).want(201).json(&made)
		for _, path := range []string{
			"/api/v1/files/" + f.ID + "/content", taskPath(made.ID, "/download?format=text"), taskPath(made.ID, "/download?format=srt"),
			taskPath(made.ID, "/download?format=vtt"), taskPath(made.ID, "/download?format=json"), taskPath(made.ID, "/download?format=docx"),
		} {
			got := r.call(r.ada, "GET", path, nil).want(200)
			kind, params, err := mime.ParseMediaType(got.Header.Get("Content-Disposition"))
			saved := params["filename"]
			if err != nil || kind != "attachment" && kind != "inline" || saved == "" || strings.ContainsFunc(saved, odd) {
				t.Errorf("%.60q is saved by %s as %q: %v", name, got.Header.Get("Content-Disposition"), saved, err)
			}
			if got.Header.Get("Set-Cookie") != "" || got.Header.Get("X-Content-Type-Options") != "nosniff" ||
				strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") {
				t.Errorf("%.60q: header %v", name, got.Header)
			}
		}
	}
	for line := range strings.Lines(log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the log is no JSON: %q", line)
		}
	}
	if strings.Contains(log.String(), "forged") {
		t.Error("the log holds what a name says")
	}
	r.empty(scratch)
	if len(names) < 50 {
		t.Errorf("only %d names", len(names))
	}
	t.Logf("%d names, each in six answers", len(names))
}
