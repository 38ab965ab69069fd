package queue_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"steno/job"
	"steno/queue"
	"steno/transcript"
)

// A server, a client and a worker in one process.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "steno")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	server, err := queue.Embedded(ctx, queue.EmbeddedConfig{Dir: dir, MaxBytes: 256 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown()
	q, err := queue.Connect(ctx, queue.Config{Server: server})
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()

	worked := make(chan error)
	go func() {
		worked <- q.Work(ctx, queue.WorkerConfig{}, func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
			var audio bytes.Buffer
			if err := d.Fetch(ctx, &audio); err != nil {
				return transcript.Transcript{}, err
			}
			d.Progress(job.Progress{Stage: job.StageTranscribe, Done: 1, Total: 2})
			return transcript.Transcript{Text: "heard " + audio.String()}, nil
		})
	}()

	source, err := q.PutAudio(ctx, strings.NewReader("a bell"))
	if err != nil {
		log.Fatal(err)
	}
	j := job.Job{ID: job.NewID(), FileName: "bell.wav", Source: source}
	if err := q.Submit(ctx, j); err != nil {
		log.Fatal(err)
	}
	updates, err := q.Watch(ctx, j.ID)
	if err != nil {
		log.Fatal(err)
	}
	var last queue.Status
	for last = range updates { // until the job has ended
	}
	t, err := q.Result(ctx, j.ID)
	fmt.Println(last.State, t.Text, err)

	cancel()
	fmt.Println(<-worked)
	// Output:
	// done heard a bell <nil>
	// <nil>
}
