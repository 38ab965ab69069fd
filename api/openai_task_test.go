package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"steno/api"
	"steno/job"
	"steno/store"
)

// newest is the last task of a user.
func (r *rig) newest(as user) taskOf {
	r.Helper()
	var page struct{ Items []taskOf }
	r.call(as, "GET", historyPath+"?limit=1", nil).want(200).json(&page)
	if len(page.Items) == 0 {
		return taskOf{}
	}
	return page.Items[0]
}

// Where the client leaves before the end, its task is cancelled, however it has sent its file.
func TestOpenAIClientLeaves(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t, func(c *api.Config) { c.Heartbeat = 50 * time.Millisecond })
	r.work(hold(nil))
	content := uint32(0)
	for _, stream := range []string{"true", "false"} {
		for _, inChunks := range []bool{false, true} {
			what := fmt.Sprintf("stream %s, chunked %v", stream, inChunks)
			content++
			form, contentType := formOf(t, "a.wav", wav(content), "stream", stream)
			var body io.Reader = bytes.NewReader(form)
			if inChunks {
				body = chunked(form)
			}
			ctx, leave := context.WithCancel(t.Context())
			req := must(http.NewRequestWithContext(ctx, http.MethodPost, r.base+transcriptions, body))(t)
			req.Header.Set("Authorization", "Bearer "+r.ada.token)
			req.Header.Set("Content-Type", contentType)
			gone := make(chan error, 1)
			go func() {
				res, err := http.DefaultClient.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				gone <- err
			}()
			r.eventually(what+": its task runs", func() bool {
				got := r.newest(r.ada)
				return got.Status == job.Running && r.listed(r.ada) == int(content)
			})
			r.empty(scratch) // while it waits it holds no place of an upload
			if n := r.gauge("steno_uploads_in_flight"); n != 0 {
				t.Errorf("%s: %v uploads are under way", what, n)
			}
			leave()
			if err := <-gone; err == nil {
				t.Errorf("%s: the request has ended without an error", what)
			}
			r.eventually(what+": its task is cancelled", func() bool { return r.newest(r.ada).Status == job.Cancelled })
		}
	}
	// The end of a body may come later than what is in it.
	form, contentType := formOf(t, "a.wav", wav(99))
	w := r.dial("POST "+transcriptions, "Content-Type: "+contentType, "Transfer-Encoding: chunked")
	w.write(fmt.Appendf(nil, "%x\r\n%s\r\n", len(form), form))
	r.eventually("the upload has begun", func() bool { return r.gauge("steno_uploads_in_flight") == 1 })
	w.write([]byte("0\r\n\r\n"))
	r.eventually("its task runs", func() bool { return r.newest(r.ada).Status == job.Running })
	_ = w.Close()
	r.eventually("its task is cancelled", func() bool { return r.newest(r.ada).Status == job.Cancelled })
	r.eventually("nobody waits", func() bool { return r.gauge("steno_event_subscribers") == 0 })
}

// Somebody else of the same account may end a task that is waited for.
func TestOpenAITaskIsCancelled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.work(hold(nil))
	answer := make(chan *reply, 1)
	go func() { answer <- r.transcribe(r.ada, transcriptions, wav(1)) }()
	r.eventually("the task runs", func() bool { return r.newest(r.ada).Status == job.Running })
	r.call(r.ada, "DELETE", taskPath(r.newest(r.ada).ID, ""), nil).want(202)
	(<-answer).failed(409, "invalid_request_error", "CANCELLED")
}

// The same audio with the same wishes gets a transcript that is there, whatever the form of the answer. A key makes no difference: a
// task is its request's alone, for it is cancelled with it.
func TestOpenAIRepeats(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	send := func(content []byte, fields ...string) *reply {
		body, contentType := formOf(t, "a.wav", content, fields...)
		return r.call(r.ada, "POST", transcriptions, body, "Content-Type", contentType, "Idempotency-Key", "k")
	}
	send(wav(1)).want(200)
	first := r.newest(r.ada)
	send(wav(1), "response_format", "text").want(200)
	if got := r.newest(r.ada); got.ID == first.ID || !got.Reused || got.FileName != "a.wav" {
		t.Errorf("repeated: %+v after %+v", got, first)
	}
	for _, other := range []*reply{send(wav(2)), send(wav(1), "language", "de")} {
		if other.want(200); r.newest(r.ada).Reused {
			t.Error("another request got the transcript of the first")
		}
	}
}

// At a drain those who wait are told to come back. Their tasks go on: who comes back gets what they have become.
func TestOpenAIDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) { c.Drain = 10 * time.Second })
	release := make(chan struct{})
	r.work(hold(release))
	plain, streamed := make(chan *reply, 1), make(chan *reply, 1)
	go func() { plain <- r.transcribe(r.ada, transcriptions, wav(1)) }()
	go func() { streamed <- r.transcribe(r.eve, transcriptions, wav(2), "stream", "true") }()
	for _, u := range []user{r.ada, r.eve} {
		r.eventually("the task runs", func() bool { return r.newest(u).Status == job.Running })
	}
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the gateway stopped after %s", took)
	}
	p := <-plain
	if p.failed(503, "server_error", "STOPPING"); p.Header.Get("Retry-After") == "" {
		t.Errorf("header %v", p.Header)
	}
	list := openaiEvents(t, (<-streamed).want(200).body)
	want := `{"error":{"message":"the service is stopping: send the request again in a moment","type":"server_error",` +
		`"param":null,"code":"STOPPING"}}`
	if len(list) != 1 || list[0] != want {
		t.Errorf("the stream ends with %q", list)
	}
	close(release)
	for _, u := range []user{r.ada, r.eve} {
		r.eventually("the task is done all the same", func() bool {
			tasks, _, err := r.store.HistoryPage(t.Context(), u.ID, store.Filter{}, 1, 1)
			return err == nil && len(tasks) == 1 && tasks[0].Status == job.Done
		})
	}
}
