package queue

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"steno/job"
	"steno/transcript"
)

// Nobody gets into a listening server without its token, and what they would have asked for is never answered.
func TestStrangersAreRefused(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, EmbeddedConfig{Dir: dir, Listen: "127.0.0.1:0"})
	q := open(t, s)
	submit(t, q, 1<<10)
	address := strings.TrimPrefix(s.URL(), "nats://")
	for name, opts := range map[string][]nats.Option{
		"anonymous": nil, "empty token": {nats.Token("")}, "another token": {nats.Token(newToken())},
		"cut token": {nats.Token(s.token[:63])}, "longer token": {nats.Token(s.token + "0")},
		"token in capitals": {nats.Token(strings.ToUpper(s.token))}, "token as a user": {nats.UserInfo(s.token, "")},
		"token as a password": {nats.UserInfo("steno", s.token)}, "the system's account": {nats.UserInfo("sys", "sys")},
		"the server's name": {nats.Token("steno-" + s.token[:8])},
	} {
		nc, err := nats.Connect(s.URL(), append(opts, nats.Timeout(5*time.Second))...)
		if err == nil {
			nc.Close()
			t.Errorf("%s gets in", name)
		} else if !strings.Contains(err.Error(), "Authorization Violation") {
			t.Errorf("%s is refused with %v", name, err)
		}
	}
	// The server says its greeting first. One that does not wait for it and asks at once gets no more than anybody.
	for _, ask := range []string{
		"PUB $JS.API.STREAM.DELETE.STENO_JOBS 0\r\n\r\n", "PUB $JS.API.STREAM.PURGE.STENO_JOBS 0\r\n\r\n",
		"PUB $SYS.REQ.SERVER.PING 0\r\n\r\n", "SUB > 1\r\n", "CONNECT {}\r\nPUB $JS.API.STREAM.DELETE.STENO_JOBS 0\r\n\r\n",
		`CONNECT {"auth_token":""}` + "\r\nSUB steno.> 1\r\n",
	} {
		if said := tell(t, address, ask); !strings.Contains(said, "Authorization") || strings.Contains(said, "MSG") {
			t.Errorf("%q is answered with %q", ask, said)
		}
	}
	if info, err := q.jobs.Info(t.Context()); err != nil || info.State.Msgs != 1 {
		t.Errorf("the stream holds %+v, %v", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // the token, and all that the server stores
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others of the machine may use %s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

// tell writes to a server and returns all that it says until it closes the connection.
func tell(t *testing.T, address, what string) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(what)); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var said strings.Builder
	for p := make([]byte, 4096); ; {
		n, err := conn.Read(p)
		said.Write(p[:n])
		if err, ok := err.(net.Error); ok && err.Timeout() { //nolint:errorlint // straight from the connection
			t.Errorf("after %q the connection stays open", what)
		}
		if err != nil {
			return said.String()
		}
	}
}

// outside is a NATS server with the users of testdata/nats.conf, for operators to copy.
func outside(t *testing.T) (url func(user string) string) {
	t.Helper()
	t.Setenv("GATEWAY_PASSWORD", "gateway-secret")
	t.Setenv("WORKER_PASSWORD", "worker-secret")
	opts, err := server.ProcessConfigFile(filepath.Join("testdata", "nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.StoreDir, opts.NoSigs, opts.NoLog = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the server does not start")
	}
	return func(user string) string { return "nats://" + user + ":" + user + "-secret@" + s.Addr().String() }
}

// With the permissions that are shown to operators a worker does all its work, and can take nothing away.
func TestWorkerPermissions(t *testing.T) {
	url := outside(t)
	var refused atomic.Int32
	connect := func(user string) *Queue {
		t.Helper()
		limits := Limits{Bytes: 256 << 20}
		q, err := Connect(t.Context(), Config{URL: url(user), Limits: limits, Log: slog.New(slog.NewTextHandler(counter{&refused}, nil))})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(q.Close)
		return q
	}
	worker := connect("worker") // first: it makes the streams
	gateway := connect("gateway")
	cfg := quick()
	cfg.NoMaintenance = false
	orders := make(chan Order, 10)
	cfg.Manage = func(_ context.Context, o Order) error {
		orders <- o
		return nil
	}
	node := nodeID(cfg.WithDefaults().Name)
	work(t, worker, cfg, func(ctx context.Context, d *Delivery) (transcript.Transcript, error) {
		switch d.Job.Params.Prompt {
		case "fail":
			return transcript.Transcript{}, job.Errorf(job.Input, "BAD", "this is no audio: send another file")
		case "wait":
			<-ctx.Done()
			return transcript.Transcript{}, context.Cause(ctx)
		}
		if err := d.Chunks().Put(ctx, "a", []byte("{}")); err != nil {
			return transcript.Transcript{}, err
		}
		return echo(ctx, d)
	})
	await(t, gateway, submit(t, gateway, 2<<20).ID, job.Done)
	src, err := gateway.PutAudio(t.Context(), strings.NewReader("audio"))
	if err != nil {
		t.Fatal(err)
	}
	for prompt, want := range map[string]job.State{"fail": job.Failed, "wait": job.Cancelled} {
		j := job.Job{ID: job.NewID(), FileName: "a", Source: src, Params: job.Params{Prompt: prompt}}
		if err := gateway.Submit(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if want == job.Cancelled {
			await(t, gateway, j.ID, job.Running)
			if err := gateway.Cancel(t.Context(), j.ID); err != nil {
				t.Fatal(err)
			}
		}
		await(t, gateway, j.ID, want)
	}
	drained(t, gateway)
	if err := gateway.Order(t.Context(), node, Order{Do: OrderPin, Model: "base"}); err != nil || (<-orders).Model != "base" {
		t.Errorf("an order of the gateway: %v", err)
	}
	if _, err := worker.Reconcile(t.Context()); err != nil {
		t.Errorf("reconcile: %v", err)
	}
	if err := worker.Sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v", err)
	}
	if n := refused.Load(); n != 0 {
		t.Errorf("%d of what a worker does was refused", n)
	}

	before := streamsOf(t, gateway)
	nc, err := nats.Connect(url("worker"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) {
			refused.Add(1)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	asked := int32(0)
	for _, subject := range []string{
		"$JS.API.STREAM.DELETE.STENO_JOBS", "$JS.API.STREAM.DELETE.STENO_DLQ", "$JS.API.STREAM.DELETE.KV_steno_jobs",
		"$JS.API.STREAM.DELETE.OBJ_steno_audio", "$JS.API.STREAM.SNAPSHOT.OBJ_steno_results", "$JS.API.STREAM.RESTORE.STENO_JOBS",
		"$JS.API.CONSUMER.DELETE.STENO_JOBS.any-normal", "$JS.API.CONSUMER.PAUSE.STENO_JOBS.any-normal", "$JS.API.ACCOUNT.PURGE.G",
		"$JS.API.META.LEADER.STEPDOWN", "$JS.API.STREAM.LEADER.STEPDOWN.STENO_JOBS", "$SYS.REQ.SERVER.PING",
		"steno.control.drain." + node, "steno.control.model." + node,
	} {
		asked++
		if answer, err := nc.Request(subject, []byte("{}"), 100*time.Millisecond); err == nil {
			t.Errorf("%s is answered: %s", subject, answer.Data)
		}
	}
	eventually(t, "each was refused", func() bool { return refused.Load() == asked })
	if len(orders) != 0 || nodes(t, gateway)[0].State != NodeReady {
		t.Error("one worker has told another what to do")
	}
	if after := streamsOf(t, gateway); after != before {
		t.Errorf("streams %s, before %s", after, before)
	}
	if _, err := nats.Connect(strings.Replace(url("worker"), "worker:worker-secret@", "", 1)); err == nil {
		t.Error("nobody in particular gets in")
	}
}

// counter counts the complaints of a connection.
type counter struct{ n *atomic.Int32 }

func (c counter) Write(p []byte) (int, error) {
	if strings.Contains(strings.ToLower(string(p)), "permissions violation") {
		c.n.Add(1)
	}
	return len(p), nil
}

// streamsOf names all streams, and the consumers of the jobs.
func streamsOf(t *testing.T, q *Queue) string {
	t.Helper()
	var list []string
	for name := range q.js.StreamNames(t.Context()).Name() {
		list = append(list, name)
	}
	for name := range q.jobs.ConsumerNames(t.Context()).Name() {
		list = append(list, "jobs/"+name)
	}
	slices.Sort(list)
	if len(list) < 8 {
		t.Fatalf("only %v", list)
	}
	return strings.Join(list, " ")
}
