// Command node is a whole steno in one process for the tests of package relay: a broker, a record, a relay, a worker whose work is
// scripted, and a gateway that reads its requests from standard input. It is built with -tags failpoints and killed.
//
//	node FOLDER DSN WEBHOOK
//
// For each line that it reads it creates a task and, when that is committed, prints "201 <task>". A line "retry <task>" has a failed
// one tried again. It ends with its input.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"steno/internal/failpoint"
	"steno/job"
	"steno/queue"
	"steno/relay"
	"steno/store"
	"steno/transcript"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, folder, dsn, webhook string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server, err := queue.Embedded(ctx, queue.EmbeddedConfig{Dir: folder, MaxBytes: 256 << 20})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	q, err := queue.Connect(ctx, queue.Config{Server: server, Grace: 200 * time.Millisecond})
	if err != nil {
		return err
	}
	defer q.Close()
	s, err := store.Open(ctx, dsn, store.Config{})
	if err != nil {
		return err
	}
	defer s.Close()
	g := &gateway{q: q, s: s, webhook: webhook}
	g.relay = relay.New(relay.Config{
		Store: s, Queue: jobs{q}, Tick: 50 * time.Millisecond, Lease: 2 * time.Second, RetryCap: time.Second,
		ReconcileEvery: 200 * time.Millisecond, Grace: time.Second, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Webhooks: relay.WebhookConfig{
			Timeout: 500 * time.Millisecond,
			Secret:  func(context.Context, string) ([]byte, error) { return []byte("key"), nil },
			Policy:  relay.Policy{HTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		},
	})
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { _ = g.relay.Run(ctx) })
	all.Go(func() { _ = q.Work(ctx, worker(), handler(filepath.Join(folder, "mended"))) })
	all.Go(func() {
		for ctx.Err() == nil {
			_, _ = q.Reconcile(ctx) // what it cannot do now it does the next time
			time.Sleep(100 * time.Millisecond)
		}
	})
	return g.serve(ctx, folder)
}

func worker() queue.WorkerConfig {
	return queue.WorkerConfig{
		Slots: 2, AckWait: 2 * time.Second, RetryBase: 20 * time.Millisecond, RetryCap: 100 * time.Millisecond,
		PollEvery: 50 * time.Millisecond, DrainTimeout: 2 * time.Second, NoMaintenance: true,
	}
}

// handler does the work of a job: every third of them fails, unless the file mended is there.
func handler(mended string) queue.Handler {
	return func(_ context.Context, d *queue.Delivery) (transcript.Transcript, error) {
		if _, err := os.Stat(mended); err != nil && d.Job.Params.Prompt == "fail" {
			return transcript.Transcript{}, job.Errorf(job.Input, "NO_AUDIO_STREAM", "there is no sound: send another file")
		}
		return transcript.Transcript{Text: string(d.Job.ID), Language: "en"}, nil
	}
}

type gateway struct {
	q       *queue.Queue
	s       *store.Store
	relay   *relay.Relay
	webhook string
}

func (g *gateway) serve(ctx context.Context, folder string) error {
	user, file, err := g.fixture(ctx, filepath.Join(folder, "fixture"))
	if err != nil {
		return err
	}
	fmt.Println("ready", user)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if id, retry := strings.CutPrefix(lines.Text(), "retry "); retry {
			if err := g.q.RetryDead(ctx, job.ID(id)); err != nil {
				return err
			}
			fmt.Println("202", id)
			continue
		}
		t, _, err := g.s.CreateTask(ctx, store.NewTask{
			User: user, File: file, Params: job.Params{Prompt: lines.Text()}, Webhook: g.webhook,
		})
		if err != nil {
			return err
		}
		if failpoint.On {
			failpoint.Hit(failpoint.CreateCommitted)
		}
		g.relay.Notify()
		fmt.Println("201", t.ID)
	}
	return lines.Err()
}

// fixture makes a user with a file, or finds those of an earlier life.
func (g *gateway) fixture(ctx context.Context, path string) (user, file string, err error) {
	data, err := os.ReadFile(path)
	if err == nil {
		user, file, _ = strings.Cut(string(data), " ")
		return user, file, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	u, err := g.s.CreateUser(ctx, store.User{Username: "ada", PasswordHash: "$argon2id$x", Role: store.RoleUser})
	if err != nil {
		return "", "", err
	}
	src, err := g.q.PutAudio(ctx, strings.NewReader("audio"))
	if err != nil {
		return "", "", err
	}
	f, err := g.s.AddFile(ctx, store.File{
		User: u.ID, Name: "talk.mp3", SHA256: src.SHA256, Object: src.Object, Size: src.Size, Duration: 1,
	})
	if err != nil {
		return "", "", err
	}
	if err := g.q.KeepAudio(ctx, src.Object); err != nil {
		return "", "", err
	}
	return u.ID, f.ID, os.WriteFile(path, []byte(u.ID+" "+f.ID), 0o600)
}

// jobs is the queue as a relay takes it.
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
