package api

import (
	"bytes"
	"fmt"
	"net/http"
	"time"
)

const eventType = "text/event-stream"

// follow sends a task's events until it ends.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) error {
	t, err := s.task(r.Context(), r.PathValue("task_id"))
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		newStream(w) // without a body there is nothing to stay for
		return nil
	}
	hub, leave, err := s.hubs.follow(t)
	if err != nil {
		return err
	}
	defer leave()
	at := hub.position(r.Header.Get("Last-Event-ID"))
	if list, _, ended := hub.since(at); ended && len(list) == 0 {
		w.WriteHeader(http.StatusNoContent) // browsers do not come again after it
		return nil
	}
	out := newStream(w)
	_ = out.write([]byte("retry: 2000\n\n")) // not for clients of OpenAI's API, which take it for an event
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	for {
		list, more, ended := hub.since(at)
		for _, e := range list {
			if err := out.event(hub.id(e), e.name, e.data); err != nil {
				return nil // the client has gone
			}
			at = e.n
		}
		if ended {
			return nil
		}
		select {
		case <-more:
		case <-beat.C:
			if err := out.comment("alive"); err != nil {
				return nil // the client has gone
			}
		case <-r.Context().Done():
			return nil
		case <-s.draining.Done():
			return nil // clients come back by themselves, to whoever is there then
		}
	}
}

// stream writes server-sent events.
type stream struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
}

// newStream begins an answer of events.
func newStream(w http.ResponseWriter) *stream {
	h := w.Header()
	h.Set("Content-Type", eventType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies are to pass events on as they come
	deadlines(w, 0, stallTime)
	w.WriteHeader(http.StatusOK)
	s := &stream{w, http.NewResponseController(w)}
	_ = s.write([]byte(": ready\n\n")) // where that fails the next write does too
	return s
}

func (s *stream) event(id, name string, data []byte) error {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	if name != "" {
		fmt.Fprintf(&b, "event: %s\n", name)
	}
	fmt.Fprintf(&b, "data: %s\n\n", data) // JSON has no line breaks
	return s.write(b.Bytes())
}

func (s *stream) comment(text string) error { return s.write([]byte(": " + text + "\n\n")) }

func (s *stream) write(p []byte) error {
	deadlines(s.w, 0, stallTime)
	if _, err := s.w.Write(p); err != nil {
		return err
	}
	return s.ctrl.Flush()
}
