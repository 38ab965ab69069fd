//go:build cgo

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"steno/internal/testmedia"
	"steno/job"
)

// caller is a client of a node's HTTP API. Answers to requests that did not come through have the status 0.
type caller struct {
	t     *testing.T
	base  string
	token string
}

// caller logs in as the first account.
func (n *node) caller() *caller {
	n.t.Helper()
	c := &caller{t: n.t, base: n.api}
	var body struct {
		Token string `json:"access_token"`
	}
	c.json(200, &body, "POST", "/api/v1/auth/token", map[string]string{"username": "admin", "password": nodePassword})
	c.token = body.Token
	return c
}

// send sends a request; the body is nil, a form or a value to be sent as JSON.
func (c *caller) send(method, path string, body any, headers ...string) (*http.Response, []byte) {
	c.t.Helper()
	var data io.Reader
	contentType := "application/json"
	switch v := body.(type) {
	case nil:
	case *form:
		data, contentType = &v.body, v.contentType
	default:
		text, err := json.Marshal(v)
		if err != nil {
			c.t.Fatal(err)
		}
		data = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, c.base+path, data)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Close = true // no connection may outlive the test
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{Timeout: 2 * time.Minute}
	res, err := client.Do(req)
	if err != nil {
		return &http.Response{Header: http.Header{}}, []byte(err.Error())
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return &http.Response{Header: http.Header{}}, []byte(err.Error())
	}
	return res, text
}

// want sends a request and checks its status.
func (c *caller) want(status int, method, path string, body any, headers ...string) (*http.Response, []byte) {
	c.t.Helper()
	res, text := c.send(method, path, body, headers...)
	if res.StatusCode != status {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, status, text)
	}
	return res, text
}

func (c *caller) json(status int, v any, method, path string, body any, headers ...string) {
	c.t.Helper()
	_, text := c.want(status, method, path, body, headers...)
	if err := json.Unmarshal(text, v); err != nil {
		c.t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
}

// form is a multipart form with a file.
type form struct {
	body        bytes.Buffer
	contentType string
}

func formOf(t *testing.T, path string) *form {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := &form{}
	w := multipart.NewWriter(&f.body)
	part, err := w.CreateFormFile("file", filepath.Base(path))
	if err == nil {
		_, err = part.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	f.contentType = w.FormDataContentType()
	return f
}

// task is a task over HTTP.
type task struct {
	ID     job.ID     `json:"task_id"`
	Status job.State  `json:"status"`
	Error  *job.Error `json:"error"`
	Reused bool       `json:"reused"`
}

// TestUpOverHTTP goes the whole way with the real engine: log in, upload, create, follow, read, delete.
func TestUpOverHTTP(t *testing.T) {
	n := startNode(t, t.TempDir())
	c := n.caller()
	var file struct {
		ID       string  `json:"file_id"`
		Duration float64 `json:"duration"`
	}
	c.json(201, &file, "POST", "/api/v1/files", formOf(t, testmedia.Sample(t, "jfk.wav")))
	if file.Duration != 11 {
		t.Errorf("file %+v", file)
	}
	var made task
	c.json(201, &made, "POST", "/api/v1/transcription/create", map[string]any{"file_id": file.ID, "language": "en", "words": true})
	path := "/api/v1/transcription/" + string(made.ID)
	_, events := c.want(200, "GET", path+"/events", nil)
	var names []string
	for s := bufio.NewScanner(bytes.NewReader(events)); s.Scan(); {
		if name, found := strings.CutPrefix(s.Text(), "event: "); found && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	if got := strings.Join(names, " "); got != "status segments status done" && got != "status segments done" && got != "status done" {
		t.Errorf("events %q", got)
	}
	var got task
	c.json(200, &got, "GET", path+"/status", nil)
	if got.Status != job.Done || got.Error != nil {
		t.Errorf("status %+v", got)
	}
	if _, text := c.want(200, "GET", path+"/download?format=text", nil); string(text) != testmedia.JFK+"\n" {
		t.Errorf("text %q", text)
	}
	for format, want := range map[string]string{"srt": "1\n00:00:0", "vtt": "WEBVTT\n", "docx": "PK\x03\x04", "json": "{"} {
		if _, text := c.want(200, "GET", path+"/download?format="+format, nil); !strings.HasPrefix(string(text), want) {
			t.Errorf("%s begins with %.20q", format, text)
		}
	}
	if _, part := c.want(206, "GET", path+"/download?format=json", nil, "Range", "bytes=0-0"); string(part) != "{" {
		t.Errorf("part %q", part)
	}
	var again task
	c.json(201, &again, "POST", "/api/v1/transcription/create", map[string]any{"file_id": file.ID, "language": "en", "words": true})
	if !again.Reused || again.Status != job.Done {
		t.Errorf("the same again is %+v", again)
	}
	_, refused := c.want(422, "POST", "/api/v1/transcription/create", map[string]any{"file_id": file.ID, "model": "large-v3"})
	if !strings.Contains(string(refused), "steno models pull large-v3") || strings.Contains(string(refused), filepath.Dir(n.data)) {
		t.Errorf("a model that is not here: %s", refused)
	}
	c.want(204, "DELETE", path, nil)
	c.want(404, "GET", path+"/status", nil)
	c.want(200, "GET", "/health", nil)
	if _, text := c.want(200, "GET", "/health/ready", nil); !strings.Contains(string(text), `"database"`) {
		t.Errorf("ready says %s", text)
	}
	if n.metric(`steno_http_request_duration_seconds_count{code="201",method="POST",route="/api/v1/files"}`) != 1 {
		t.Error("the upload is not counted")
	}
	if err := n.stop(); err != nil {
		t.Errorf("steno up ended with %v, want exit code 0", err)
	}
	n.cleanScratch()
}

// TestGatewayNeedsItsAddress says in one line what to do where another program has the address.
func TestGatewayNeedsItsAddress(t *testing.T) {
	n := startNode(t, t.TempDir())
	o := steno(t, "up", "--data", t.TempDir(), "--listen", strings.TrimPrefix(n.api, "http://"), "--admin", "off")
	if o.code != 1 || !strings.Contains(o.err, "--listen") || strings.Count(o.err, "steno: ") != 1 {
		t.Errorf("exit code %d: %s", o.code, o.err)
	}
}
