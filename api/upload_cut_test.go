package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"steno/api"
)

// wire is a connection on which a test writes what it likes.
type wire struct {
	*rig
	net.Conn
}

// dial begins a request of ada's. Headers are whole lines.
func (r *rig) dial(request string, headers ...string) wire {
	r.Helper()
	conn := must(new(net.Dialer).DialContext(r.Context(), "tcp", strings.TrimPrefix(r.base, "http://")))(r.T)
	r.Cleanup(func() { _ = conn.Close() })
	w := wire{r, conn}
	headers = append([]string{request + " HTTP/1.1", "Host: steno", "Authorization: Bearer " + r.ada.token}, headers...)
	w.write([]byte(strings.Join(headers, "\r\n") + "\r\n\r\n"))
	return w
}

func (w wire) write(p []byte) {
	w.Helper()
	if _, err := w.Write(p); err != nil {
		w.Fatal(err)
	}
}

// answer reads the answer.
func (w wire) answer() *reply {
	w.Helper()
	_ = w.SetReadDeadline(time.Now().Add(20 * time.Second))
	res := must(http.ReadResponse(bufio.NewReader(w.Conn), nil))(w.T)
	defer res.Body.Close()
	return &reply{w.T, "what was written", res, must(io.ReadAll(res.Body))(w.T)}
}

// What was cut leaves nothing, whether the client hears of it or not.
func TestCutUploads(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t)
	content := wav(1)
	form, contentType := formOf(t, "a.wav", content)
	for what, row := range map[string]struct {
		body    []byte
		headers []string
	}{
		"body":    {content, []string{fmt.Sprintf("Content-Length: %d", len(content))}},
		"form":    {form, []string{fmt.Sprintf("Content-Length: %d", len(form)), "Content-Type: " + contentType}},
		"chunked": {append([]byte(fmt.Sprintf("%x\r\n", len(content))), content...), []string{"Transfer-Encoding: chunked"}},
	} {
		for _, path := range []string{filesPath, "/v1/audio/transcriptions"} {
			for how, cut := range map[string]func(wire){
				"by its end": func(w wire) {
					if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
						t.Fatal(err)
					}
					if p := w.answer(); p.StatusCode != 400 || !strings.Contains(string(p.body), "UPLOAD_CUT") {
						t.Errorf("%s, cut by its end: %s: %s", what, p.Status, p.body)
					}
				},
				"by the connection's": func(w wire) { _ = w.Close() },
			} {
				w := r.dial("POST "+path, row.headers...)
				w.write(row.body[:len(row.body)/2])
				r.eventually("the upload has begun", func() bool { return len(must(os.ReadDir(scratch))(t)) > 0 })
				cut(w)
				r.eventually(what+", cut "+how+", leaves nothing", func() bool {
					return len(must(os.ReadDir(scratch))(t)) == 0 && r.gauge("steno_uploads_in_flight") == 0
				})
			}
		}
	}
	if r.keeps(content) || r.keeps(content[:len(content)/2]) {
		t.Error("something of it is in the store")
	}
}

// hasty is an answer whose connection has a sixtieth of the time that it is given.
type hasty struct{ http.ResponseWriter }

func (h hasty) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h hasty) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(h.ResponseWriter).SetReadDeadline(sooner(t))
}

func (h hasty) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(h.ResponseWriter).SetWriteDeadline(sooner(t))
}

func sooner(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Now().Add(time.Until(t) / 60)
}

// hastily is the same gateway on connections that have little time, and of which the kernel keeps little that nobody reads.
func (r *rig) hastily() *rig {
	at := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.server.ServeHTTP(hasty{w}, q) }))
	at.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
		return ctx
	}
	at.Start()
	r.Cleanup(at.Close)
	return &rig{T: r.T, base: at.URL, server: r.server, store: r.store, q: r.q, reg: r.reg, ada: r.ada, eve: r.eve}
}

// An upload may take long as long as bytes flow, and ends where they stop: after half a second here.
func TestStalledUploads(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t)
	soon := r.hastily()
	content := wav(1)
	length := fmt.Sprintf("Content-Length: %d", len(content))
	form, contentType := formOf(t, "a.wav", content)

	for what, w := range map[string]wire{
		"body": soon.dial("POST "+filesPath, length),
		"form": soon.dial("POST "+filesPath, fmt.Sprintf("Content-Length: %d", len(form)), "Content-Type: "+contentType),
	} {
		w.write(form[:1000]) // of the body they are just bytes
		p := w.answer()
		p.what = what + " that stops"
		p.problem(408, "UPLOAD_STALLED")
	}
	r.empty(scratch)

	w := soon.dial("POST "+filesPath, length)
	for i, began := 0, time.Now(); i < 8; i++ {
		w.write(content[i*len(content)/8 : (i+1)*len(content)/8])
		time.Sleep(time.Until(began.Add(time.Duration(i+1) * 80 * time.Millisecond))) // the time that passes is what is tested
	}
	w.answer().want(201)
	r.empty(scratch)
}

// More uploads than there is room for wait a while for their turn, and are then told to come back.
func TestUploadsAtATime(t *testing.T) {
	t.Parallel()
	r, scratch := newUploads(t, func(c *api.Config) { c.Uploads = 1 })
	content := wav(1)
	first := r.dial("POST "+filesPath, fmt.Sprintf("Content-Length: %d", len(content)))
	first.write(content[:1000])
	r.eventually("the first upload has begun", func() bool { return r.gauge("steno_uploads_in_flight") == 1 })

	form, contentType := formOf(t, "a.wav", content)
	late := make(chan *reply, 2)
	for _, path := range []string{filesPath, "/v1/audio/transcriptions"} {
		go func() { late <- r.call(r.eve, "POST", path, form, "Content-Type", contentType) }()
	}
	for range 2 {
		if p := (<-late).want(503); p.Header.Get("Retry-After") != "5" || !strings.Contains(string(p.body), `"code":"BUSY"`) {
			t.Errorf("%s: Retry-After %q: %s", p.what, p.Header.Get("Retry-After"), p.body)
		}
	}
	go func() { late <- r.call(r.eve, "POST", filesPath, form, "Content-Type", contentType) }()
	first.write(content[1000:])
	first.answer().want(201)
	(<-late).want(201)
	// Each has given its place back once: there is room for the next, and for no more than that.
	for range 3 {
		r.call(r.ada, "POST", "/v1/audio/transcriptions", form, "Content-Type", contentType).want(200)
	}
	if n := r.gauge("steno_uploads_in_flight"); n != 0 {
		t.Errorf("%v uploads are under way", n)
	}
	r.empty(scratch)
}
