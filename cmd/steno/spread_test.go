//go:build cgo

package main

import (
	"strings"
	"testing"
	"time"

	"steno/job"
)

// TestSpreadOverWorkers has two workers decode one recording: its words are those that one alone finds, also where one of them is killed
// in the middle.
func TestSpreadOverWorkers(t *testing.T) {
	path := long(t, 4*time.Minute)
	want := undisturbed(t, path)
	// Few states, so that there is more to do than one machine does at a time.
	flags := []string{"--states", "2", "--jobs", "1", "--model", small}
	n := startNode(t, t.TempDir(), flags...)
	other := n.joinWorker(flags...)
	eventually(t, time.Minute, "both have the model", func() bool {
		return strings.Contains(n.log.String(), "model loaded") && strings.Contains(other.log.String(), "model loaded")
	})
	elsewhere := func() float64 {
		return n.metric(`steno_chunks_total{source="elsewhere"}`) + other.metric(`steno_chunks_total{source="elsewhere"}`)
	}

	t.Run("shared", func(t *testing.T) {
		id := n.submit(path, "-m", small)
		st, got := n.await(id, 5*time.Minute)
		if st.State != job.Done {
			t.Fatalf("job is %s: %+v", st.State, st.Error)
		}
		sameWords(t, got, want)
		if got.ChunksElsewhere < 1 || got.ChunksElsewhere >= got.Chunks || float64(got.ChunksElsewhere) != elsewhere() {
			t.Errorf("%d of %d chunks were decoded elsewhere, the metrics say %v: want some, and the same", got.ChunksElsewhere, got.Chunks, elsewhere())
		}
		helped := n.metric(`steno_helped_chunks_total{outcome="done"}`) + other.metric(`steno_helped_chunks_total{outcome="done"}`)
		if helped != float64(got.ChunksElsewhere) {
			t.Errorf("%v chunks were decoded for others, want %d", helped, got.ChunksElsewhere)
		}
		t.Logf("%d of %d chunks elsewhere, %.1f s", got.ChunksElsewhere, got.Chunks, got.Timings.Total)
	})
	t.Run("one is killed", func(t *testing.T) {
		prompt := []string{"--prompt", "Once more."} // so that nothing is kept of before
		want, before := undisturbed(t, path, prompt...), elsewhere()
		id := n.submit(path, append(prompt, "-m", small)...)
		eventually(t, time.Minute, "chunks are decoded elsewhere", func() bool { return elsewhere() > before })
		other.kill() // whether it has the job or helps with it
		st, got := n.await(id, 5*time.Minute)
		if st.State != job.Done {
			t.Fatalf("job is %s: %+v", st.State, st.Error)
		}
		sameWords(t, got, want)
	})
}
