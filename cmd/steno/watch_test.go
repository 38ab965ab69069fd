//go:build cgo

package main

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"steno/internal/testmedia"
)

// Who watches the queue sees a job wait, run and end, and Ctrl-C ends the watch well.
func TestWatch(t *testing.T) {
	n := startNode(t, t.TempDir(), "--model", "tiny.en")
	cmd := exec.CommandContext(t.Context(), binary.path(t), "watch", "--json", "--every", "100ms", "--data", n.data)
	cmd.Env = stenoEnv(t)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	n.submit(testmedia.Sample(t, "sense.wav"))
	ran, nodes := false, 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var s queueState
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		ran, nodes = ran || len(s.Running) == 1, max(nodes, len(s.Nodes))
		if len(s.Ended) == 1 {
			break
		}
	}
	if !ran || nodes != 1 {
		t.Errorf("it saw the job run: %v, and %d nodes", ran, nodes)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // what was under way
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	o := n.steno("watch", "--every", "1ms")
	if o.code != 2 || !strings.Contains(o.err, "choose 100ms or more") {
		t.Errorf("too often: exit code %d: %s", o.code, o.err)
	}
}
