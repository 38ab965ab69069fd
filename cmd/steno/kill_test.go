//go:build cgo

package main

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"steno/internal/testmedia"
	"steno/job"
	"steno/transcript"
)

// small is the model of tests that are about time and crashes.
const small = "tiny.en"

// undisturbed is the transcript that the file gets when nothing dies.
func undisturbed(t *testing.T, path string, flags ...string) transcript.Transcript {
	t.Helper()
	testmedia.Model(t, small+"-q8_0")
	o := steno(t, append([]string{"transcribe", "--json", "-m", small, path}, flags...)...)
	var tr transcript.Transcript
	if err := json.Unmarshal([]byte(o.out), &tr); err != nil || o.code != 0 {
		t.Fatalf("transcribe: exit code %d, %v: %s", o.code, err, o.err)
	}
	return tr
}

// sameWords checks that two transcripts say the same at the same times.
func sameWords(t *testing.T, got, want transcript.Transcript) {
	t.Helper()
	if got.Text != want.Text || len(got.Segments) != len(want.Segments) {
		t.Errorf("%s in %d segments:\n%s\nwant %s in %d:\n%s", got.Model, len(got.Segments), got.Text, want.Model, len(want.Segments), want.Text)
		return
	}
	for i, s := range got.Segments {
		if w := want.Segments[i]; s.Start != w.Start || s.End != w.End || s.Text != w.Text {
			t.Errorf("segment %d is %.2f–%.2f %q, want %.2f–%.2f %q", i, s.Start, s.End, s.Text, w.Start, w.End, w.Text)
		}
	}
}

// TestEngineKilled kills the engine under a job, again and again: the pool starts another, the chunks that were under way are
// computed once more, and the transcript is the same as without. A kill comes when a chunk has come through since the last
// one, for a chunk that dies three times is poison.
//
// There are 3 kills by default, and 10 with ACCEPTANCE=1. Then the pool's breaker joins in, which lets a model rest for a
// minute after 5 deaths: the job goes back to the queue meanwhile, without having spent an attempt.
func TestEngineKilled(t *testing.T) {
	kills, length := 3, 3*time.Minute
	if os.Getenv("ACCEPTANCE") != "" {
		kills, length = 10, 10*time.Minute
	}
	const patience = 3 * time.Minute // more than the model's rest and the job's pause after it
	path := long(t, length)
	want := undisturbed(t, path)
	// One state, so that the job is long enough for all kills on a fast machine. --model is what is loaded at the start.
	n := startNode(t, t.TempDir(), "--states", "1", "--model", small)
	id := n.submit(path, "-m", small)
	computed := func() float64 { return n.metric(`steno_chunks_total{source="computed"}`) }
	began, recovery := time.Now(), []time.Duration{}
	for i := range kills {
		before, died := computed(), time.Now()
		eventually(t, patience, "a chunk comes through", func() bool { return computed() > before })
		if i > 0 {
			recovery = append(recovery, time.Since(died).Round(time.Millisecond))
		}
		var pid int
		eventually(t, patience, "there is an engine", func() bool { pid = n.engine(); return pid != 0 })
		if st := n.status(id); st.State != job.Running {
			t.Fatalf("job is %s after %d kills, want running: the recording is too short for this machine", st.State, i)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	st, got := n.await(id, 5*time.Minute)
	if st.State != job.Done {
		t.Fatalf("job is %s: %+v", st.State, st.Error)
	}
	sameWords(t, got, want)
	t.Logf("%d kills, %.0f s of audio in %d chunks, %d of them kept while the model rested; job done after %s; from a kill to the "+
		"next chunk %s", kills, got.Duration, got.Chunks, got.ChunksReused, time.Since(began).Round(time.Millisecond), recovery)
	if deaths := n.metric(`steno_engine_deaths_total{model="` + small + `-q8_0"}`); deaths != float64(kills) {
		t.Errorf("metric counts %v deaths of engines, want %d", deaths, kills)
	}
	if st.Attempt != 1 {
		t.Errorf("%d attempts at the job, want 1: a dead engine costs chunks, not jobs", st.Attempt)
	}
	n.cleanScratch()
}

// TestUpKilled kills the whole node in the middle of a job. Started again it goes on at once, takes what was finished from the
// queue, and ends with the transcript that it would have had.
func TestUpKilled(t *testing.T) {
	path := long(t, 3*time.Minute)
	want := undisturbed(t, path)
	n := startNode(t, t.TempDir(), "--states", "1", "--model", small) // --model: it is loaded at the start
	id := n.submit(path, "-m", small)
	n.awaitStage(id, job.StageTranscribe)
	eventually(t, time.Minute, "a third of the chunks is done", func() bool {
		return n.metric(`steno_chunks_total{source="computed"}`) >= float64(want.Chunks)/3
	})
	children := n.children()
	n.kill()
	gone(t, children)

	killed := time.Now()
	again := startNode(t, n.data, "--states", "1", "--model", small)
	ready := time.Now()
	eventually(t, 20*time.Second, "job goes on", func() bool { return again.metric(`steno_chunks_total{source="reused"}`) > 0 })
	resumed := time.Now()
	st, got := again.await(id, 5*time.Minute)
	if st.State != job.Done || len(st.History) != 2 {
		t.Fatalf("job is %s after %d attempts, want done after 2: %+v", st.State, len(st.History), st.Error)
	}
	sameWords(t, got, want)
	if got.ChunksReused == 0 || got.ChunksReused == got.Chunks {
		t.Errorf("%d of %d chunks reused, want some", got.ChunksReused, got.Chunks)
	}
	if m := again.metric(`steno_chunks_total{source="reused"}`); m != float64(got.ChunksReused) {
		t.Errorf("metric says %v chunks reused, the transcript %d", m, got.ChunksReused)
	}
	if m := again.metric(`steno_chunks_total{source="computed"}`); m != float64(got.Chunks-got.ChunksReused) {
		t.Errorf("%v chunks computed, want the %d that were not finished", m, got.Chunks-got.ChunksReused)
	}
	t.Logf("ready %s after the start, job goes on %s later; %d of %d chunks reused", ready.Sub(killed).Round(time.Millisecond),
		resumed.Sub(ready).Round(time.Millisecond), got.ChunksReused, got.Chunks)
	again.cleanScratch()
	if left, err := os.ReadDir(again.data + "/scratch"); err != nil || len(left) != 1 {
		t.Errorf("scratch folder holds %v, %v: want the folder of the running node alone", left, err)
	}
	if strings.Contains(again.log.String(), "level=ERROR") {
		t.Errorf("the restart logs errors:\n%s", again.log)
	}
}
