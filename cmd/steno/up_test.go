//go:build cgo

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"steno/internal/testmedia"
	"steno/job"
	"steno/queue"
)

// TestUp takes jobs one by one and together, and cancels one that runs.
func TestUp(t *testing.T) {
	n := startNode(t, t.TempDir())
	jfk, sense := testmedia.Sample(t, "jfk.wav"), testmedia.Sample(t, "sense.wav")

	t.Run("one job", func(t *testing.T) {
		o := n.steno("submit", "--wait", jfk)
		if o.code != 0 || o.out != testmedia.JFK+"\n" {
			t.Errorf("exit code %d, text %q, want %q: %s", o.code, o.out, testmedia.JFK, o.err)
		}
		if !strings.Contains(o.err, "11.0 s of audio") || !strings.Contains(o.err, "transcribe") {
			t.Errorf("stderr says %q, want where the time went", o.err)
		}
	})
	t.Run("two jobs at once", func(t *testing.T) {
		o := n.steno("submit", "--wait", sense, jfk)
		first, second, found := strings.Cut(o.out, "== jfk.wav\n")
		if o.code != 0 || !found || second != testmedia.JFK+"\n" || !strings.Contains(first, "== sense.wav\nAnd Mr. John Dashwood") {
			t.Errorf("exit code %d, text %q: %s", o.code, o.out, o.err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		id := n.submit(long(t, 10*time.Minute))
		n.awaitStage(id, job.StageTranscribe)
		engine := n.engine()
		asked := time.Now()
		if o := n.steno("cancel", string(id)); o.code != 0 {
			t.Fatalf("exit code %d: %s", o.code, o.err)
		}
		st, _ := n.await(id, 10*time.Second)
		t.Logf("cancelled within %s", time.Since(asked).Round(time.Millisecond))
		if st.State != job.Cancelled {
			t.Errorf("state %s, want cancelled", st.State)
		}
		if o := n.steno("cancel", string(id)); o.code != 1 || !strings.Contains(o.err, "cancelled already") {
			t.Errorf("second cancel: exit code %d: %s", o.code, o.err)
		}
		if o := n.steno("submit", "--wait", jfk); o.out != testmedia.JFK+"\n" {
			t.Errorf("job after the cancelled one: %q: %s", o.out, o.err)
		}
		if now := n.engine(); now != engine || engine == 0 {
			t.Errorf("engine is process %d after the cancel, was %d", now, engine)
		}
		n.cleanScratch()
	})
}

// TestUpSurvivesBadFiles gives each broken file one clear sentence, and goes on with the next job.
func TestUpSurvivesBadFiles(t *testing.T) {
	n := startNode(t, t.TempDir())
	dir := t.TempDir()
	bad := badFiles(t, dir)
	args := []string{"submit", "--wait", "--json"}
	for _, f := range bad {
		args = append(args, filepath.Join(dir, f.name))
	}
	o := n.steno(append(args, filepath.Join(dir, "absent.wav"), testmedia.Sample(t, "jfk.wav"))...)
	if o.code != 1 {
		t.Errorf("exit code %d, want 1", o.code)
	}
	for _, f := range append(bad, badFile{"absent.wav", "there is no file"}) {
		var said []string
		for line := range strings.Lines(o.err) {
			if strings.HasPrefix(line, "steno: "+f.name+": ") {
				said = append(said, line)
			}
		}
		switch {
		case f.says == "" && len(said) > 0:
			t.Errorf("%s: %q, want no error", f.name, said)
		case f.says != "" && (len(said) != 1 || !strings.Contains(said[0], f.says)):
			t.Errorf("%s: %q, want one line with %q", f.name, said, f.says)
		}
	}
	texts := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(o.out)); d.More(); {
		var r struct{ File, Text string }
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		texts[r.File] = r.Text
	}
	if silent, done := texts["silent.wav"]; len(texts) != 2 || texts["jfk.wav"] != testmedia.JFK || !done || silent != "" {
		t.Errorf("transcripts %q, want JFK's and an empty one", texts)
	}
	n.cleanScratch()
	n.deadLetters(len(bad) - 2) // silence is no error, and the empty file was refused when it was submitted
}

// deadLetters checks that there are so many, and shows and retries one.
func (n *node) deadLetters(want int) {
	t := n.t
	t.Helper()
	list := n.steno("dead", "list", "--json")
	var dead []queue.DeadLetter
	if err := json.Unmarshal([]byte(list.out), &dead); err != nil || len(dead) != want {
		t.Fatalf("dead list: %d letters, want %d, %v: %s", len(dead), want, err, list.err)
	}
	id := dead[0].ID
	show := n.steno("dead", "show", id)
	var one queue.DeadLetter
	if err := json.Unmarshal([]byte(show.out), &one); err != nil || one.Error == nil || one.Error.Class != job.Input || len(one.History) != 1 {
		t.Errorf("dead show: %v, %+v: %s", err, one, show.err)
	}
	if o := n.steno("dead", "retry", id); o.code != 0 {
		t.Errorf("dead retry: exit code %d: %s", o.code, o.err)
	}
	st, _ := n.await(job.ID(id), 20*time.Second)
	if st.State != job.Failed || len(st.History) != 2 {
		t.Errorf("after the retry: %s with %d attempts, want failed with 2", st.State, len(st.History))
	}
	if o := n.steno("dead", "retry", string(job.NewID())); o.code != 1 || strings.Count(o.err, "\n") != 1 {
		t.Errorf("retry of a job that is not there: exit code %d: %q", o.code, o.err)
	}
}

// TestUpDrains stops the node while a job runs: the job is finished first, and nothing is left behind.
func TestUpDrains(t *testing.T) {
	n := startNode(t, t.TempDir())
	id := n.submit(long(t, time.Minute))
	n.awaitStage(id, job.StageTranscribe)
	children := n.children()
	if len(children) == 0 {
		t.Error("there is no child process while a job runs")
	}
	began := time.Now()
	if err := n.stop(); err != nil {
		t.Errorf("steno up ended with %v, want exit code 0", err)
	}
	t.Logf("drained in %s", time.Since(began).Round(time.Millisecond))
	gone(t, children)
	if left, err := os.ReadDir(filepath.Join(n.data, "scratch")); err != nil || len(left) > 0 {
		t.Errorf("scratch folder after the end: %v, %v", left, err)
	}
	if o := n.steno("status"); o.code != 1 || !strings.Contains(o.err, "steno up") {
		t.Errorf("status without a node: exit code %d: %s", o.code, o.err)
	}
	again := startNode(t, n.data)
	if st := again.status(id); st.State != job.Done || len(st.History) != 1 {
		t.Errorf("job is %s after %d attempts, want done after 1", st.State, len(st.History))
	}
}
