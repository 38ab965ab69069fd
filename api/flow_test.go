package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"steno/job"
)

// The whole way over HTTP: token, upload, create, events to the end, status, history, all five downloads, delete.
func TestFlow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release := make(chan struct{})
	r.work(hold(release))
	f := r.upload(r.ada, "Rede – Übung.wav", wav(1))
	if f.ID == "" || len(f.SHA256) != 64 || f.Size != int64(len(wav(1))) || f.Duration != 1 || f.Name != "Rede – Übung.wav" {
		t.Errorf("file %+v", f)
	}
	task := r.create(r.ada, f.ID)
	if task.Status != job.Queued {
		t.Errorf("created %+v", task)
	}
	r.await(r.ada, task.ID, job.Running)
	path := "/api/v1/transcription/" + string(task.ID)
	r.call(r.ada, "GET", path+"/download", nil).problem(409, "NOT_DONE")

	s := r.events(r.ada, task.ID, "")
	if e := s.next(); e.name != "status" || e.task().Status != job.Running {
		t.Errorf("first event %+v", e)
	}
	close(release)
	var names []string
	for e := s.next(); e.name != ""; e = s.next() {
		names = append(names, e.name)
		if e.name == "done" && (e.task().Status != job.Done || e.task().Progress != 1) {
			t.Errorf("end %+v", e)
		}
	}
	if len(names) == 0 || names[len(names)-1] != "done" {
		t.Errorf("events %q", names)
	}

	if got := r.status(r.ada, task.ID); got.Status != job.Done || got.Error != nil || *got.File != f.ID {
		t.Errorf("status %+v", got)
	}
	var history struct {
		Items []taskOf `json:"items"`
		Total *int     `json:"total"`
	}
	r.call(r.ada, "GET", "/api/v1/user/history?page=1&limit=10", nil).want(200).json(&history)
	if len(history.Items) != 1 || history.Items[0].ID != task.ID || *history.Total != 1 {
		t.Errorf("history %+v", history)
	}
	for format, want := range map[string]struct{ kind, part string }{
		"":     {"text/plain; charset=utf-8", "released"},
		"text": {"text/plain; charset=utf-8", "released"},
		"srt":  {"application/x-subrip; charset=utf-8", "00:00:00,000 --> 00:00:01,000"},
		"vtt":  {"text/vtt; charset=utf-8", "WEBVTT"},
		"json": {"application/json", `"text":`},
		"docx": {"application/vnd.openxmlformats-officedocument.wordprocessingml.document", "word/document.xml"},
	} {
		got := r.call(r.ada, "GET", path+"/download?format="+format, nil).want(200)
		if got.Header.Get("Content-Type") != want.kind || !strings.Contains(string(got.body), want.part) {
			t.Errorf("format %q: %s: %.200s", format, got.Header.Get("Content-Type"), got.body)
		}
		if d := got.Header.Get("Content-Disposition"); !strings.Contains(d, `filename*=UTF-8''Rede%20%E2%80%93%20%C3%9Cbung.`) {
			t.Errorf("disposition %q", d)
		}
	}
	part := r.call(r.ada, "GET", path+"/download?format=json", nil, "Range", "bytes=0-0").want(206)
	if string(part.body) != "{" {
		t.Errorf("part %q", part.body)
	}
	r.call(r.ada, "GET", path+"/download?format=pdf", nil).problem(422, "BAD_FIELD")

	r.call(r.ada, "DELETE", path, nil).want(204)
	for _, at := range []string{"/status", "/download", "/events"} {
		r.call(r.ada, "GET", path+at, nil).problem(404, "TASK_NOT_FOUND")
	}
	r.call(r.ada, "DELETE", path, nil).problem(404, "TASK_NOT_FOUND")
	r.call(r.ada, "GET", "/api/v1/user/history", nil).want(200).json(&history)
	if len(history.Items) != 0 {
		t.Errorf("history %+v", history)
	}
}

// sse reads a stream of events.
type sse struct {
	t *testing.T
	*http.Response
	lines *bufio.Scanner
}

type sseEvent struct {
	t              *testing.T
	id, name, data string
}

// task is the task that an event tells of.
func (e sseEvent) task() (v taskOf) {
	e.t.Helper()
	if err := json.Unmarshal([]byte(e.data), &v); err != nil {
		e.t.Fatalf("event %+v: %v", e, err)
	}
	return v
}

// events follows a task from the event after last.
func (r *rig) events(as user, id job.ID, last string) *sse {
	r.Helper()
	return r.stream(as, taskPath(id, "/events"), last)
}

// stream opens a stream of events.
func (r *rig) stream(as user, path, last string) *sse {
	r.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.Cleanup(cancel)
	req := must(http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil))(r.T)
	req.Header.Set("Authorization", "Bearer "+as.token)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res := must(http.DefaultClient.Do(req))(r.T)
	r.Cleanup(func() { _ = res.Body.Close() })
	return &sse{r.T, res, bufio.NewScanner(res.Body)}
}

// next returns the next event, and none at the end. Signs of life are passed over.
func (s *sse) next() sseEvent {
	e := sseEvent{t: s.t}
	for s.lines.Scan() {
		line := s.lines.Text()
		if line == "" && e.name != "" {
			return e
		}
		switch key, value, _ := strings.Cut(line, ": "); key {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		}
	}
	return e
}
