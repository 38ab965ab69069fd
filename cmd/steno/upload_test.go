//go:build cgo

package main

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"steno/internal/testmedia"
	"steno/job"
)

// TestUploadBesideLongJobs uploads while there are more long jobs than cores, each with a decoder that it has for minutes: the upload
// is probed at once all the same.
func TestUploadBesideLongJobs(t *testing.T) {
	jobs := max(2, runtime.GOMAXPROCS(0)) + 1
	testmedia.Model(t, small+"-q8_0")
	path := long(t, 10*time.Minute)
	n := startNode(t, t.TempDir(), "--states", "1", "--model", small, "--jobs", strconv.Itoa(jobs))
	ids := make([]job.ID, jobs)
	for i := range ids {
		ids[i] = n.submit(path, "-m", small)
	}
	for _, id := range ids {
		n.awaitStage(id, job.StageTranscribe)
	}
	c := n.caller()
	began := time.Now()
	c.want(201, "POST", "/api/v1/files", formOf(t, testmedia.Sample(t, "jfk.wav")))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the upload took %s", took)
	}
	for _, id := range ids {
		if st := n.status(id); st.State != job.Running {
			t.Errorf("a long job is %s already: nothing was measured", st.State)
		}
		if o := n.steno("cancel", string(id)); o.code != 0 {
			t.Errorf("cancel: %s", o.err)
		}
	}
}
