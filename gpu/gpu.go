// Package gpu says on what a model can run: the devices of this machine, the memory each has left, and the CPU and memory
// limits that a container puts on us. There is always a CPU device; its memory is RAM.
//
// All functions are safe for concurrent use. Nothing is cached: each call reads the kernel's files anew (about 0.1 ms).
package gpu

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// The kinds of devices.
const (
	CPU  = "cpu"
	CUDA = "cuda"
)

// CPUID is the ID of the one CPU device.
const CPUID = "cpu"

// Device is something that runs a model.
type Device struct {
	ID   string `json:"id"`   // "cpu"; "cuda:0", or "cuda:0.1" for a MIG instance
	Name string `json:"name"` // as the vendor calls it
	Kind string `json:"kind"` // CPU or CUDA
	// Cores is the number of threads that can run at once on a CPU device within its quota; 0 on others.
	Cores int `json:"cores,omitempty"`
	// Total and Free are bytes of the device's memory; for the CPU, RAM within the limits of our control group, page cache that
	// can be dropped counting as free.
	Total int64 `json:"total_bytes"`
	Free  int64 `json:"free_bytes"`
	// UUID names a GPU or an instance of one, as CUDA takes it; empty for the CPU.
	UUID string `json:"uuid,omitempty"`
	// Problem says why nothing can run on the device now; empty where it can.
	Problem string `json:"problem,omitempty"`
}

// Used is the bytes of the device's memory that are taken, by whomever.
func (d Device) Used() int64 { return max(0, d.Total-d.Free) }

// Host reads a machine's devices and limits. The zero value reads this machine.
type Host struct {
	// Root is the folder that holds proc and sys. Default "/".
	Root string
}

// Devices lists the devices of this machine; the CPU is always there, and first.
func Devices() []Device { return Host{}.Devices() }

// Devices lists the devices of the host; the CPU is always there, and first. What cannot be read is 0.
func (h Host) Devices() []Device {
	d := Device{ID: CPUID, Name: h.cpuName(), Kind: CPU, Cores: h.Cores()}
	if m, err := h.Memory(); err == nil {
		d.Total, d.Free = m.Total, m.Available
	}
	return []Device{d}
}

// Cores is the number of threads that can run at once: GOMAXPROCS, or the CPU quota of our control group, rounded up, where
// that is less. GOMAXPROCS follows the quota by itself, but never below 2 and not where a user has set it.
func (h Host) Cores() int {
	n := runtime.GOMAXPROCS(0)
	if quota := h.cpuQuota(); quota > 0 {
		n = min(n, max(1, int(quota+0.999)))
	}
	return n
}

// MayHaveCards tells whether NVIDIA's driver can be on the host: as a kernel module, in WSL, or on a Jetson.
func (h Host) MayHaveCards() bool {
	for _, p := range []string{"/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/etc/nv_tegra_release"} {
		if _, err := os.Stat(h.path(p)); err == nil {
			return true
		}
	}
	return false
}

func (h Host) cpuName() string {
	f, err := os.Open(h.path("/proc/cpuinfo"))
	if err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

// Memory is RAM as a process of ours may use it.
type Memory struct {
	// Total is the bytes of RAM, or the limit of our control group where that is less.
	Total int64 `json:"total_bytes"`
	// Available is the bytes that can still be taken without swapping: of the machine and of every control group above us, the
	// least.
	Available int64 `json:"available_bytes"`
	// Limited tells that a control group, and not the machine, sets Total.
	Limited bool `json:"limited"`
}

// Memory reads RAM and its limits.
func (h Host) Memory() (Memory, error) {
	info, err := h.keyed("/proc/meminfo")
	if err != nil {
		return Memory{}, fmt.Errorf("read memory of the machine: %w", err)
	}
	m := Memory{Total: info["MemTotal"], Available: info["MemAvailable"]}
	if m.Total == 0 {
		return Memory{}, fmt.Errorf("read memory of the machine: no MemTotal in %s", h.path("/proc/meminfo"))
	}
	for _, g := range h.memoryGroups() {
		if g.limit < m.Total {
			m.Total, m.Limited = g.limit, true
		}
		m.Available = min(m.Available, g.limit-g.used)
	}
	m.Available = max(0, min(m.Available, m.Total))
	return m, nil
}

// Process is the memory of one process, beside what there is.
type Process struct {
	RSS  int64 `json:"rss_bytes"`      // resident
	Peak int64 `json:"peak_rss_bytes"` // the most that was ever resident
	VMS  int64 `json:"vms_bytes"`      // address space
	// Percent is RSS as a share of Total, 0 to 100.
	Percent   float64 `json:"percent"`
	Available int64   `json:"available_bytes"`
	Total     int64   `json:"total_bytes"`
}

// Process reads the memory of the process pid; 0 means this process.
func (h Host) Process(pid int) (Process, error) {
	name := "self"
	if pid > 0 {
		name = strconv.Itoa(pid)
	}
	status, err := h.keyed("/proc/" + name + "/status")
	if err != nil {
		return Process{}, fmt.Errorf("read memory of process %s: %w", name, err)
	}
	m, err := h.Memory()
	if err != nil {
		return Process{}, err
	}
	p := Process{
		RSS: status["VmRSS"], Peak: status["VmHWM"], VMS: status["VmSize"],
		Available: m.Available, Total: m.Total,
	}
	p.Percent = 100 * float64(p.RSS) / float64(p.Total)
	return p, nil
}

// keyed reads a file of lines such as "MemTotal:  24683668 kB" and returns the bytes of those that give kB.
func (h Host) keyed(path string) (map[string]int64, error) {
	data, err := os.ReadFile(h.path(path))
	if err != nil {
		return nil, err
	}
	values := map[string]int64{}
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil && n >= 0 && n < 1<<50 {
			values[strings.TrimSuffix(f[0], ":")] = n << 10
		}
	}
	return values, nil
}

func (h Host) path(p string) string {
	if h.Root == "" {
		return p
	}
	return filepath.Join(h.Root, p)
}
