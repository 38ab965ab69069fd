//go:build cgo

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"steno/internal/failpoint"
	"steno/internal/testmedia"
	"steno/job"
)

// TestUpKilledAtEachStep kills `steno up` by SIGKILL at each place between the answer to a create and the acknowledgement of its
// message, and starts it again: each task that was answered with 201 ends in one state, done, with one transcript, its own.
func TestUpKilledAtEachStep(t *testing.T) {
	path := breakable.path(t)
	for _, point := range failpoint.Handover() {
		t.Run(point, func(t *testing.T) { killedAt(t, path, point) })
	}
}

func killedAt(t *testing.T, path, point string) {
	data := t.TempDir()
	first := launch(t, path, data, []string{"STENO_FAILPOINTS=" + point + "=kill@2"}, "--model", "tiny.en")
	if !first.ready() {
		t.Fatalf("it was killed too soon:\n%s", first.log)
	}
	c := first.caller()
	var file struct {
		ID string `json:"file_id"`
	}
	c.json(201, &file, "POST", "/api/v1/files", formOf(t, testmedia.Sample(t, "jfk.wav")))
	answered := map[job.ID]bool{}
	create := func(c *caller, key string) {
		var made task
		body := map[string]any{"file_id": file.ID, "reuse": false}
		if res, text := c.send("POST", "/api/v1/transcription/create", body, "Idempotency-Key", key); res.StatusCode == 201 {
			if err := json.Unmarshal(text, &made); err != nil {
				t.Fatal(err)
			}
			answered[made.ID] = true
		}
	}
	for i := range 3 {
		create(c, fmt.Sprint(i))
	}
	select {
	case err := <-first.ended:
		first.ended <- err
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("it ended by itself: %v\n%s", err, first.log)
		}
	case <-time.After(time.Minute):
		t.Fatalf("it was not killed at %s", point)
	}

	began := time.Now()
	second := startNode(t, data, "--model", "tiny.en")
	c = second.caller()
	for i := range 3 { // those that were answered are the same tasks
		create(c, fmt.Sprint(i))
	}
	if len(answered) != 3 {
		t.Errorf("%d tasks for 3 keys", len(answered))
	}
	var history struct{ Items []task }
	eventually(t, time.Minute, "all tasks have ended", func() bool {
		c.json(200, &history, "GET", "/api/v1/user/history?limit=100", nil)
		for _, got := range history.Items {
			if !got.Status.Terminal() {
				return false
			}
		}
		return true
	})
	t.Logf("all have ended %s after the restart began", time.Since(began).Round(time.Millisecond))
	if len(history.Items) != 3 {
		t.Errorf("%d tasks in the history, want 3", len(history.Items))
	}
	for _, got := range history.Items {
		if !answered[got.ID] || got.Status != job.Done || got.Error != nil {
			t.Errorf("task %+v", got)
		}
		if _, text := c.want(200, "GET", "/api/v1/transcription/"+string(got.ID)+"/download", nil); len(text) < len(testmedia.JFK)-10 {
			t.Errorf("task %s says %q", got.ID, text)
		}
	}
	// A command that the dead process had claimed is held by its lease of 15 s.
	eventually(t, 30*time.Second, "the outbox is empty", func() bool { return second.metric(`steno_outbox_commands{lane="queue"}`) == 0 })
	if err := second.stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
