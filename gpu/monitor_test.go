package gpu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test program be the child of a monitor: GPU_TEST_DRIVER says which.
func TestMain(m *testing.M) {
	kind := os.Getenv("GPU_TEST_DRIVER")
	if kind == "" {
		os.Exit(m.Run())
	}
	calls := 0
	err := Serve(os.Stdin, os.Stdout, func() ([]Card, error) {
		calls++
		switch {
		case kind == "hangs at the second" && calls == 2:
			time.Sleep(time.Hour)
		case kind == "dies at the second" && calls == 2:
			fmt.Fprintln(os.Stderr, "Xid 79: the GPU has fallen off the bus")
			os.Exit(3)
		case kind == "fails":
			return nil, errors.New("the driver is broken")
		case kind == "babbles":
			fmt.Println("NVRM: this is no JSON")
		}
		return []Card{{Index: 0, UUID: "GPU-a", Total: 8 * gib, Free: int64(calls) * gib}, {Index: 1, UUID: "GPU-b", Total: 8 * gib}}, nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func monitor(t *testing.T, kind string, env ...string) *Monitor {
	t.Helper()
	m := NewMonitor(MonitorConfig{
		// The child's environment has what concerns the driver only, so the kind goes by env(1).
		Command: []string{"/usr/bin/env", "GPU_TEST_DRIVER=" + kind, os.Args[0]}, Env: append(os.Environ(), env...),
		Timeout: 2 * time.Second,
	})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestMonitor asks one child again and again, and gets what is so now.
func TestMonitor(t *testing.T) {
	t.Parallel()
	m := monitor(t, "works")
	for i := range 3 {
		cards, err := m.Cards(t.Context())
		if err != nil || len(cards) != 2 || cards[0].Free != int64(i+1)*gib {
			t.Fatalf("question %d: %+v, %v", i, cards, err)
		}
	}
	machine := Machine{Monitor: m}
	if all := machine.Devices(); len(all) != 3 || all[1].Free != 3*gib {
		t.Errorf("what was said last is %+v", all)
	}
	if d, err := machine.Measure(t.Context(), "cuda:0"); err != nil || d.Free != 4*gib {
		t.Errorf("what is so now is %+v, %v", d, err)
	}
	if _, err := machine.Measure(t.Context(), "cuda:9"); err == nil {
		t.Error("a device was measured that is not there")
	}
	if d, err := machine.Measure(t.Context(), CPUID); err != nil || d.Kind != CPU {
		t.Errorf("the CPU is %+v, %v", d, err)
	}
	over, end := context.WithCancel(t.Context())
	end()
	if _, err := m.Cards(over); err == nil {
		t.Error("a question was answered that nobody waits for")
	}
	if c, err := m.Known(); err != nil || len(c) != 2 {
		t.Errorf("after a question that was given up: %+v, %v", c, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	m.Watch(ctx, 100*time.Millisecond)
	if c, err := m.Known(); err != nil || len(c) != 2 || c[0].Free < 3*gib {
		t.Errorf("watched for a second: %+v, %v", c, err)
	}
}

// TestDriverThatHangs: the answer is an error after the time-out, the child is gone, and the next question has a child of its own.
// Meanwhile the devices are those that were there, with their problem.
func TestDriverThatHangs(t *testing.T) {
	t.Parallel()
	for kind, why := range map[string]string{"hangs at the second": "not answered within 2s", "dies at the second": "Xid 79"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			m := monitor(t, kind)
			machine := Machine{Monitor: m}
			if all := machine.Devices(); len(all) != 3 || all[1].ID != "cuda:0" || all[1].Problem != "" {
				t.Fatalf("devices %+v", all)
			}
			m.mu.Lock()
			pid := m.child.cmd.Process.Pid
			m.mu.Unlock()
			if _, err := m.Cards(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("the error is %v, want %q in it", err, why)
			}
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
				t.Errorf("child %d is still there", pid)
			}
			if all := machine.Devices(); len(all) != 3 || all[1].ID != "cuda:0" || all[1].Free != 0 || !strings.Contains(all[1].Problem, why) {
				t.Errorf("devices %+v, want those that were there, with the problem", all)
			}
			if cards, err := m.Cards(t.Context()); err != nil || cards[0].Free != gib {
				t.Errorf("after the failure: %+v, %v", cards, err)
			}
		})
	}
}

func TestDriverThatFails(t *testing.T) {
	t.Parallel()
	for kind, why := range map[string]string{"fails": "the driver is broken", "babbles": "has ended"} {
		if _, err := monitor(t, kind).Cards(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("a driver that %s gives %v", kind, err)
		}
	}
	m := NewMonitor(MonitorConfig{Command: []string{"/does/not/exist"}})
	if _, err := m.Cards(t.Context()); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("a program that is not there gives %v", err)
	}
	if cards, err := NewMonitor(MonitorConfig{}).Cards(t.Context()); err != nil || cards != nil {
		t.Errorf("no program gives %v, %v", cards, err)
	}
}

// TestCancelledQuestion: who asks may give up.
func TestCancelledQuestion(t *testing.T) {
	t.Parallel()
	m := monitor(t, "hangs at the second")
	if _, err := m.Cards(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := m.Cards(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
}

// TestVisibleDevices: CUDA_VISIBLE_DEVICES is heeded as CUDA does.
func TestVisibleDevices(t *testing.T) {
	t.Parallel()
	one := 1
	cards := []Card{
		{Index: 0, UUID: "GPU-1234-5678"}, {Index: 1, UUID: "GPU-1299-0000"}, {Index: 2, Instance: &one, UUID: "MIG-77"}, {Index: 3, UUID: "GPU-4"},
	}
	for list, want := range map[string]string{
		"0,3": "cuda:0 cuda:3", "3,0": "cuda:3 cuda:0", " 1 ": "cuda:1", "": "", "-1": "", "0,9,3": "cuda:0", "2": "", "MIG-77,0": "cuda:2.1 cuda:0",
		"GPU-1234": "cuda:0", "GPU-12": "", "GPU-": "", "GPU-129,GPU-4": "cuda:1 cuda:3", "0,0": "cuda:0", "NoDevFiles": "",
	} {
		var ids []string
		for _, c := range visible(cards, list) {
			ids = append(ids, c.ID())
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%q shows %q, want %q", list, got, want)
		}
	}
	m := monitor(t, "works", "CUDA_VISIBLE_DEVICES=1")
	if all := (Machine{Monitor: m}).Devices(); len(all) != 2 || all[1].UUID != "GPU-b" {
		t.Errorf("with CUDA_VISIBLE_DEVICES=1 the devices are %+v", all)
	}
}

// TestServeEnds: the child ends with its input, and with its output.
func TestServeEnds(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	none := func() ([]Card, error) { return nil, nil }
	if err := Serve(strings.NewReader("\n\n"), &out, none); err != nil || out.String() != "{}\n{}\n" {
		t.Errorf("answers %q, %v", out.String(), err)
	}
	if err := Serve(strings.NewReader("\n"), full{}, none); err == nil {
		t.Error("no error where nobody takes the answer")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }
