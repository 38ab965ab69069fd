//go:build cgo

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"steno/job"
	"steno/queue"
)

// TestNodes lists a node with eight GPUs, as NVIDIA's own stand-in for its library has them, lets one fall off the bus, and drains
// the node by command while it has work.
func TestNodes(t *testing.T) {
	orders := filepath.Join(t.TempDir(), "orders")
	n := launch(t, breakable.path(t), t.TempDir(), []string{"STENO_CARDS=8:" + orders, "STENO_SCRIPT=50ms"})
	if !n.ready() {
		t.Fatalf("it ended early:\n%s", n.log)
	}
	list := func() (queue.Node, about) {
		t.Helper()
		var all []queue.Node
		eventually(t, 15*time.Second, "the node tells of itself", func() bool {
			o := n.steno("nodes", "--json")
			if err := json.Unmarshal([]byte(o.out), &all); err != nil {
				t.Fatalf("nodes: %q, %v: %s", o.out, err, o.err)
			}
			return len(all) == 1
		})
		var d about
		if err := json.Unmarshal(all[0].About, &d); err != nil {
			t.Fatal(err)
		}
		return all[0], d
	}
	node, d := list()
	if node.State != queue.NodeReady || node.Slots != 4 || len(d.Devices) != 9 || len(d.Cards) != 8 {
		t.Errorf("the node is %s with %d slots, %d devices and %d cards, want it ready with 4, 9 and 8",
			node.State, node.Slots, len(d.Devices), len(d.Cards))
	}
	if dev := d.Devices[4]; dev.ID != "cuda:3" || dev.Total != 40<<30 || dev.Free != 37<<30 || dev.BudgetBytes != (37<<30)*80/100 {
		t.Errorf("the fourth GPU is %+v", dev)
	}
	const three = `{gpu="cuda:3",uuid="GPU-00000000-0000-0000-0000-000000000003"}`
	for series, want := range map[string]float64{
		"steno_gpu_memory_used_bytes": 3 << 30, "steno_gpu_memory_total_bytes": 40 << 30, "steno_gpu_utilization_ratio": 0.3,
		"steno_gpu_temperature_celsius": 43, "steno_gpu_power_watts": 61.5, "steno_gpu_power_limit_watts": 400, "steno_gpu_problem": 0,
	} {
		if got := n.metric(series + three); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	if err := os.WriteFile(orders, []byte("lose 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "the lost GPU is seen", func() bool { return n.metric("steno_gpu_problem"+three) == 1 })
	eventually(t, 15*time.Second, "the lost GPU is listed", func() bool {
		o := n.steno("nodes")
		return strings.Contains(o.out, "cannot be used: the GPU is lost") && strings.Contains(o.out, "45 °C")
	})
	t.Logf("\n%s", n.steno("nodes").out)

	// Four jobs at a time, each with a place that it holds and one for its chunk: two GPUs have all that there are.
	long := long(t, time.Minute)
	var ids []job.ID
	for range 4 {
		ids = append(ids, n.submit(long))
	}
	for _, id := range ids {
		n.awaitStage(id, job.StageTranscribe)
	}
	engines := map[string]bool{}
	for _, c := range n.children() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", c.pid))
		if err == nil && c.name == "steno-engine" {
			_, rest, _ := strings.Cut(string(env), "CUDA_VISIBLE_DEVICES=")
			uuid, _, _ := strings.Cut(rest, "\x00")
			engines[uuid] = true
		}
	}
	if len(engines) < 2 || engines[""] || engines["GPU-00000000-0000-0000-0000-000000000003"] {
		t.Errorf("the engines see the GPUs %v, want each another one, and none the lost one", engines)
	}
	if o := n.steno("nodes", "drain", node.ID); o.code != 0 || o.out != node.ID+" drains\n" {
		t.Fatalf("drain: exit code %d, %q: %s", o.code, o.out, o.err)
	}
	select {
	case err := <-n.ended:
		n.ended <- err
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it has not ended a minute after the drain")
	}
	again := launch(t, breakable.path(t), n.data, []string{"STENO_SCRIPT=0s"})
	if !again.ready() {
		t.Fatalf("it ended early:\n%s", again.log)
	}
	for _, id := range ids {
		if st, _ := again.await(id, time.Minute); st.State != job.Done || st.Attempt != 1 {
			t.Errorf("job %s, which ran at the drain, is %s after %d attempts, want done at the first", id, st.State, st.Attempt)
		}
	}
	if o := again.steno("nodes", "drain", "nobody"); o.code != 1 || !strings.Contains(o.err, "steno nodes") {
		t.Errorf("drain of nobody: exit code %d: %s", o.code, o.err)
	}
}
