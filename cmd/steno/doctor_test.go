//go:build cgo

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An ffmpeg that is too old is told in the log as soon as a worker or a gateway starts, whatever else it waits for.
func TestOldFFmpegIsWarnedOf(t *testing.T) {
	old := filepath.Join(t.TempDir(), "ffprobe")
	if err := os.WriteFile(old, []byte("#!/bin/sh\necho ffprobe version 3.1-static Copyright\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"worker", "gateway"} {
		ctx, cancel := context.WithCancel(t.Context())
		log, done := &logBuffer{}, make(chan int, 1)
		args := []string{
			command, "--nats", "nats://127.0.0.1:1", "--data", t.TempDir(), "--ffprobe", old, "--sandbox", "off", "--admin", "off",
		}
		go func() { done <- run(ctx, args, streams{strings.NewReader(""), log, log}, stenoEnv(t)) }()
		eventually(t, 10*time.Second, command+" warns", func() bool {
			return strings.Contains(log.String(), "ffprobe 3.1-static is older than 4.1")
		})
		cancel()
		<-done
		if !strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%s: %s", command, log)
		}
	}
}
