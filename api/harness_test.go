package api_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"steno/api"
	"steno/audio"
	"steno/job"
	"steno/queue"
	"steno/relay"
	"steno/store"
	"steno/transcript"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("steno/internal/proc.spawn"))
}

// rig is a gateway with all that stands behind it but models: record, queue, relay, and a worker whose handler is scripted.
type rig struct {
	*testing.T
	base     string // URL
	server   *api.Server
	store    *store.Store
	q        *queue.Queue
	reg      *prometheus.Registry
	ada, eve user
	stop     func() // drains the gateway

	mu     sync.Mutex
	handle queue.Handler
	orders []queue.Order // that the worker was given
}

// manage notes an order, and refuses those about a model of which there is none.
func (r *rig) manage(_ context.Context, o queue.Order) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.Model == "none" {
		return job.Errorf(job.Input, "MODEL_MISSING", "the model none is not on this node: let it be pulled there")
	}
	r.orders = append(r.orders, o)
	return nil
}

// user is somebody who calls.
type user struct {
	store.User
	token string
}

// worker is the name and the id of the worker: it is as long as the ids of other things.
const worker = "01WORKER000000000000000000"

const password = "correct horse"

// newRig starts a gateway; change may alter its configuration.
func newRig(t *testing.T, change ...func(*api.Config)) *rig {
	t.Helper()
	r := &rig{T: t, reg: prometheus.NewRegistry(), handle: say("ask not what your country can do for you")}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	server := must(queue.Embedded(t.Context(), queue.EmbeddedConfig{Dir: t.TempDir(), MaxBytes: 512 << 20}))(t)
	t.Cleanup(server.Shutdown)
	r.q = must(queue.Connect(t.Context(), queue.Config{Server: server, Log: log}))(t)
	t.Cleanup(r.q.Close)
	r.store = must(store.Open(t.Context(), filepath.Join(t.TempDir(), "steno.db"), store.Config{}))(t)
	t.Cleanup(func() { _ = r.store.Close() })

	var rel *relay.Relay
	tools := must(audio.FindTools())(t)
	cache := api.NewMemoryCache(16 << 20)
	t.Cleanup(func() { _ = cache.Close() })
	cfg := api.Config{
		Store: r.store, Objects: objects{r.q}, Live: live{r.q}, Cache: cache, Scratch: t.TempDir(), Partial: t.TempDir(), Log: log,
		Metrics: r.reg,
		Keys:    must(api.LoadKeys(filepath.Join(t.TempDir(), "keys")))(t),
		Probe:   probe(tools),
		Resolve: resolve,
		Models:  func() []string { return []string{"base", "tiny.en"} },
		Notify:  func() { rel.Notify() },
		Dead:    deadLetters{r.q},
		Fleet:   fleet{r.q},
		Depth: func(ctx context.Context) (api.Depth, error) {
			d, err := r.q.Depth(ctx)
			return api.Depth{Pending: d.Pending, InFlight: d.InFlight, Dead: d.Dead, OldestAge: d.OldestAge}, err
		},
		Ready: map[string]api.Check{"queue": r.q.Ping},
		Drain: 2 * time.Second,
		WebhookSecret: func(user string) string {
			return string(relay.UserSecret([]byte("master"), user))
		},
		CheckWebhook: relay.Policy{}.Check,
	}
	for _, f := range change {
		f(&cfg)
	}
	r.server = must(api.New(cfg))(t)
	t.Cleanup(r.server.Close)
	rel = relay.New(relay.Config{
		Store: r.store, Queue: jobs{r.q}, OnChange: r.server.InvalidateTask, Tick: 500 * time.Millisecond, Log: log,
	})
	r.background(func(ctx context.Context) { _ = rel.Run(ctx) })
	r.background(func(ctx context.Context) {
		_ = r.q.Work(ctx, queue.WorkerConfig{
			Name: worker, Slots: 4, RetryBase: 20 * time.Millisecond, PollEvery: 50 * time.Millisecond, DrainTimeout: 2 * time.Second,
			NoMaintenance: true, Manage: r.manage,
		}, func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
			r.mu.Lock()
			handle := r.handle
			r.mu.Unlock()
			return handle(ctx, d)
		})
	})
	ln := must(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))(t)
	r.base = "http://" + ln.Addr().String()
	r.stop = r.background(func(ctx context.Context) {
		if err := r.server.Serve(ctx, ln); err != nil {
			r.Errorf("serve: %v", err)
		}
	})
	r.ada, r.eve = r.account("ada"), r.account("eve")
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return r
}

// work sets what the worker does with jobs from now on.
func (r *rig) work(h queue.Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handle = h
}

func (r *rig) background(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			r.Error("it does not stop")
		}
	})
	r.Cleanup(stop)
	return stop
}

var hashed = sync.OnceValues(func() (string, error) { return api.HashPassword(password) })

// account makes a user and logs in.
func (r *rig) account(name string) user {
	r.Helper()
	return r.accountOf(name, store.RoleUser)
}

func (r *rig) accountOf(name string, role store.Role) user {
	r.Helper()
	u := must(r.store.CreateUser(r.Context(), store.User{Username: name, PasswordHash: must(hashed())(r.T), Role: role}))(r.T)
	return user{u, r.login(name)}
}

func (r *rig) login(name string) string {
	r.Helper()
	var body struct {
		Token string `json:"access_token"`
	}
	r.call(user{}, "POST", "/api/v1/auth/token", map[string]string{"username": name, "password": password}).want(200).json(&body)
	return body.Token
}

// say is a handler that tells of half the work, then of a segment, and then that all was said.
func say(text string) queue.Handler {
	return func(_ context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		seg := transcript.Segment{
			Start: 0, End: 1, Text: text, Words: []transcript.Word{{Start: 0, End: 0.5, Text: "ask", Probability: 0.9}},
		}
		d.Progress(job.Progress{Stage: job.StageTranscribe, Done: 1, Total: 2})
		d.Segments([]transcript.Segment{seg})
		return transcript.Transcript{
			Text: text, Language: "en", LanguageProb: 1, Duration: 2, Segments: []transcript.Segment{seg}, Model: "base", Task: "transcribe",
		}, nil
	}
}

// hold is a handler that waits until the test lets it go on, or the job is cancelled.
func hold(release <-chan struct{}) queue.Handler {
	return func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		d.Progress(job.Progress{Stage: job.StageTranscribe, Done: 1, Total: 4})
		select {
		case <-release:
			return say("released")(ctx, d)
		case <-ctx.Done():
			return transcript.Transcript{}, context.Cause(ctx)
		}
	}
}

// reply is an answer with its body read.
type reply struct {
	t    *testing.T
	what string
	*http.Response
	body []byte
}

// call sends a request; the body is nothing, bytes or a value to be sent as JSON. Headers come in pairs.
func (r *rig) call(as user, method, path string, body any, headers ...string) *reply {
	r.Helper()
	var data io.Reader
	contentType := ""
	switch v := body.(type) {
	case nil:
	case []byte:
		data = bytes.NewReader(v)
	case io.Reader:
		data = v
	default:
		data = bytes.NewReader(must(json.Marshal(v))(r.T))
		contentType = "application/json"
	}
	req := must(http.NewRequestWithContext(context.WithoutCancel(r.Context()), method, r.base+path, data))(r.T)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if as.token != "" {
		req.Header.Set("Authorization", "Bearer "+as.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: time.Minute}
	res := must(client.Do(req))(r.T)
	defer res.Body.Close()
	return &reply{r.T, method + " " + path, res, must(io.ReadAll(res.Body))(r.T)}
}

// want checks the status.
func (p *reply) want(status int) *reply {
	p.t.Helper()
	if p.StatusCode != status {
		p.t.Fatalf("%s: status %d, want %d: %s", p.what, p.StatusCode, status, p.body)
	}
	return p
}

// problem checks that the answer is a problem with this status and code.
func (p *reply) problem(status int, code string) {
	p.t.Helper()
	var v api.Problem
	p.want(status).json(&v)
	if v.Code != code || v.Status != status || v.Detail == "" || v.RequestID == "" || p.Header.Get("Content-Type") != "application/problem+json" {
		p.t.Errorf("%s: problem %+v of type %s, want code %s", p.what, v, p.Header.Get("Content-Type"), code)
	}
}

func (p *reply) json(v any) *reply {
	p.t.Helper()
	if err := json.Unmarshal(p.body, v); err != nil {
		p.t.Fatalf("%s: %v: %s", p.what, err, p.body)
	}
	return p
}

// fileOf is what an upload is answered with.
type fileOf struct {
	ID       string  `json:"file_id"`
	Name     string  `json:"file_name"`
	SHA256   string  `json:"sha256"`
	Size     int64   `json:"size"`
	Duration float64 `json:"duration"`
}

// taskOf is what a task looks like.
type taskOf struct {
	ID       job.ID     `json:"task_id"`
	Status   job.State  `json:"status"`
	Progress float64    `json:"progress"`
	Stage    job.Stage  `json:"stage"`
	Error    *job.Error `json:"error"`
	Reused   bool       `json:"reused"`
	File     *string    `json:"file_id"`
	FileName string     `json:"file_name"`
}

// upload sends a file as a form.
func (r *rig) upload(as user, name string, content []byte) fileOf {
	r.Helper()
	var f fileOf
	body, contentType := formOf(r.T, name, content)
	r.call(as, "POST", "/api/v1/files", body, "Content-Type", contentType).want(201).json(&f)
	return f
}

// formOf makes a form of a file and fields, which come in pairs.
func formOf(t *testing.T, name string, content []byte, fields ...string) (body []byte, contentType string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for i := 0; i+1 < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	part := must(w.CreateFormFile("file", name))(t)
	if _, err := part.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), w.FormDataContentType()
}

// create makes a task of a file.
func (r *rig) create(as user, file string) taskOf {
	r.Helper()
	var t taskOf
	r.call(as, "POST", "/api/v1/transcription/create", map[string]any{"file_id": file, "reuse": false}).want(201).json(&t)
	return t
}

// status asks where a task stands.
func (r *rig) status(as user, id job.ID) taskOf {
	r.Helper()
	var t taskOf
	r.call(as, "GET", "/api/v1/transcription/"+string(id)+"/status", nil).want(200).json(&t)
	return t
}

// await waits for a task's status.
func (r *rig) await(as user, id job.ID, want job.State) taskOf {
	r.Helper()
	var t taskOf
	r.eventually(fmt.Sprintf("task %s is %s", id, want), func() bool {
		t = r.status(as, id)
		return t.Status == want
	})
	return t
}

func (r *rig) eventually(what string, is func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatalf("it does not come to be that %s", what)
		}
	}
}

// wav is a second of sound of which no two numbers make the same.
func wav(n uint32) []byte {
	const rate = 8000
	var b bytes.Buffer
	b.WriteString("RIFF")
	_ = binary.Write(&b, binary.LittleEndian, uint32(36+2*rate))
	b.WriteString("WAVEfmt ")
	for _, v := range []any{
		uint32(16), uint16(1), uint16(1), uint32(rate), uint32(2 * rate), uint16(2), uint16(16),
	} {
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	b.WriteString("data")
	_ = binary.Write(&b, binary.LittleEndian, uint32(2*rate))
	data := make([]byte, 2*rate)
	binary.LittleEndian.PutUint32(data, n)
	b.Write(data)
	return b.Bytes()
}

// The rest fits record, queue and gateway together as cmd/steno does.

type objects struct{ q *queue.Queue }

func (o objects) Put(ctx context.Context, r io.Reader) (job.Source, error) {
	return o.q.PutAudio(ctx, r)
}
func (o objects) Keep(ctx context.Context, object string) error { return o.q.KeepAudio(ctx, object) }
func (o objects) Open(ctx context.Context, object string) (io.ReadSeekCloser, error) {
	return o.q.OpenAudio(ctx, object)
}

type live struct{ q *queue.Queue }

func (l live) Watch(ctx context.Context, id job.ID) (<-chan api.News, error) {
	in, err := l.q.Watch(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make(chan api.News)
	go func() {
		defer close(out)
		for s := range in {
			select {
			case out <- api.News{State: s.State, Attempt: s.Claims, Progress: s.Progress, Segments: s.Segments}:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

type deadLetters struct{ q *queue.Queue }

func (d deadLetters) Page(ctx context.Context, before uint64, limit int) ([]api.DeadLetter, uint64, error) {
	list, next, err := d.q.DeadPage(ctx, before, limit)
	var page []api.DeadLetter
	for _, l := range list {
		page = append(page, letterOf(l))
	}
	return page, next, err
}

func (d deadLetters) Get(ctx context.Context, id string) (api.DeadLetter, error) {
	l, err := d.q.DeadLetter(ctx, id)
	return letterOf(l), err
}

func (d deadLetters) Retry(ctx context.Context, id string) error {
	return d.q.RetryDead(ctx, job.ID(id))
}

func letterOf(l queue.DeadLetter) api.DeadLetter {
	letter := api.DeadLetter{ID: l.ID, Job: l.Job, Error: l.Error, Stage: l.Stage, Retries: l.Retries, Failed: l.Failed}
	for _, a := range l.History {
		letter.Attempts = append(letter.Attempts, api.Attempt{
			Number: a.Number, Worker: a.Worker, Started: a.Started, Ended: a.Ended, Outcome: string(a.Outcome), Stage: a.Stage, Error: a.Error,
		})
	}
	return letter
}

type fleet struct{ q *queue.Queue }

func (f fleet) Nodes(ctx context.Context) ([]api.Node, error) {
	list, err := f.q.Nodes(ctx)
	var nodes []api.Node
	for _, n := range list {
		nodes = append(nodes, api.Node{
			ID: n.ID, Worker: n.Worker, State: n.State, Started: n.Started, Seen: n.Seen, Pools: n.Pools, Slots: n.Slots, Running: n.Running,
			Devices: []api.NodeDevice{{ID: "cpu"}}, Models: []api.NodeModel{}, Files: []string{"base"}, Troubles: []api.NodeTrouble{},
		})
	}
	return nodes, err
}

func (f fleet) Drain(ctx context.Context, node string) error { return f.q.Drain(ctx, node) }

func (f fleet) Order(ctx context.Context, node string, o api.ModelOrder) error {
	return f.q.Order(ctx, node, queue.Order{Do: o.Do, Model: o.Model, Device: o.Device, Words: o.Words})
}

type jobs struct{ *queue.Queue }

func (j jobs) Submit(ctx context.Context, jb job.Job) error { return j.Queue.Submit(ctx, jb) }

func (j jobs) Status(ctx context.Context, id job.ID) (relay.Status, error) {
	s, err := j.Queue.Status(ctx, id)
	return convert(s), err
}

func (j jobs) WatchAll(ctx context.Context) (<-chan relay.Status, error) {
	in, err := j.Queue.WatchAll(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan relay.Status)
	go func() {
		defer close(out)
		for s := range in {
			select {
			case out <- convert(s):
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

func convert(s queue.Status) relay.Status {
	return relay.Status{
		Job: s.Job, State: s.State, Claims: s.Claims, Version: s.Version, Progress: s.Progress, Error: s.Error,
		Started: s.Started, Finished: s.Finished, Recorded: s.Recorded, Retried: s.Retries > 0,
	}
}

func probe(tools audio.Tools) func(context.Context, string) (api.Media, error) {
	return func(ctx context.Context, path string) (api.Media, error) {
		info, err := audio.Probe(ctx, tools, path)
		if err != nil {
			return api.Media{}, err
		}
		details, err := json.Marshal(info)
		return api.Media{Duration: info.Duration, Details: details}, err
	}
}

// resolve knows two models.
func resolve(p job.Params) (job.Params, error) {
	p = p.WithDefaults()
	if p.Model == "whisper-1" {
		p.Model = "base"
	}
	if p.Model != "base" && p.Model != "tiny.en" {
		return p, job.Errorf(job.Input, "MODEL_UNKNOWN", "there is no model %q: see GET /v1/models", strings.ToValidUTF8(p.Model, "?"))
	}
	return p, p.Validate()
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
