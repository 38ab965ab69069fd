package queue

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"testing"
	"time"

	"steno/job"
)

func benchQueue(b *testing.B) *Queue {
	b.Helper()
	s, err := Embedded(b.Context(), EmbeddedConfig{Dir: b.TempDir(), MaxBytes: 8 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Shutdown)
	q, err := Connect(b.Context(), Config{Server: s, Limits: Limits{Jobs: 1_000_000}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(q.Close)
	return q
}

func BenchmarkPutAudio(b *testing.B) {
	q := benchQueue(b)
	data := make([]byte, 32<<20)
	b.SetBytes(int64(len(data)))
	for i := 0; b.Loop(); i++ {
		copy(data, strconv.Itoa(i))
		if _, err := q.PutAudio(b.Context(), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFetchAudio(b *testing.B) {
	q := benchQueue(b)
	data := make([]byte, 32<<20)
	src, err := q.PutAudio(b.Context(), bytes.NewReader(data))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := q.fetchAudio(b.Context(), src, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	q := benchQueue(b)
	src, err := q.PutAudio(b.Context(), bytes.NewReader([]byte("sound")))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := q.Submit(b.Context(), job.Job{ID: job.NewID(), Source: src}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJob is one job after the other from Submit to the stored result, on one slot.
func BenchmarkJob(b *testing.B) {
	q := benchQueue(b)
	src, err := q.PutAudio(b.Context(), bytes.NewReader([]byte("sound")))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	result := make(chan error, 1)
	go func() { result <- q.Work(ctx, WorkerConfig{NoMaintenance: true, DrainTimeout: time.Second}, echo) }()
	for b.Loop() {
		j := job.Job{ID: job.NewID(), Source: src}
		if err := q.Submit(b.Context(), j); err != nil {
			b.Fatal(err)
		}
		updates, err := q.Watch(b.Context(), j.ID)
		if err != nil {
			b.Fatal(err)
		}
		for s := range updates {
			if s.Error != nil {
				b.Fatal(s.Error)
			}
		}
	}
	cancel()
	if err := <-result; err != nil {
		b.Fatal(err)
	}
}
