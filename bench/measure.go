package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"steno/internal/proc"
)

// Command is a program to run and measure.
type Command struct {
	Path string
	Args []string
	Env  []string // the whole environment; nil means that of this process
}

// Cost is what a command took, seen from outside: the same for ours and for every peer.
type Cost struct {
	Wall float64 `json:"wall_s"`
	// First is when the first line came out on standard output, in seconds from the start; 0 where none came.
	First float64 `json:"first_line_s"`
	// CPU is user and system time of the child and of all its descendants that were waited for.
	CPU float64 `json:"cpu_s"`
	// RSS is the highest sum of the resident sizes of all processes of the tree, sampled every 50 ms, and never less than the
	// kernel's own peak of its largest process. Pages that processes share count once for each.
	RSS int64 `json:"peak_rss_bytes"`
	// Own is the highest sum of what of it is no part of a file: without programs, libraries and mapped weights, of which the
	// kernel maps more or less as they lie in its cache. Two copies of one binary differed by a third in RSS, and not in this.
	Own int64 `json:"peak_own_bytes"`
	// Energy is what the CPU packages took in joules, with all that ran beside; nil where the machine does not tell.
	Energy *float64 `json:"energy_j"`
	// Others is the share of all cores that went to others meanwhile, other guests of the host included (steal), in 0..1.
	Others float64 `json:"others"`
	// Load is the load average of one minute at the start.
	Load float64 `json:"load"`
}

// sampling is how often memory is looked at: 20 times per second costs no measurable time.
const sampling = 50 * time.Millisecond

// Measure runs a command to its end and returns what it took and what it wrote on standard output. The end of ctx ends the
// command with all its descendants.
func Measure(ctx context.Context, c Command) (Cost, []byte, error) {
	cmd := proc.Command(ctx, c.Path, c.Args...)
	out := &timedOutput{}
	cmd.Stdout, cmd.Stderr, cmd.Env = out, &proc.Tail{}, c.Env
	before, err := readMachine()
	if err != nil {
		return Cost{}, nil, err
	}
	energy := readEnergy(energyRoot)
	start := time.Now()
	if err := proc.Start(cmd); err != nil {
		return Cost{}, nil, fmt.Errorf("start %s: %w", filepath.Base(c.Path), err)
	}
	sampled := sampleMemory(cmd.Process.Pid)
	err = cmd.Wait()
	wall := time.Since(start)
	used := readEnergy(energyRoot).since(energy)
	rss, own := sampled()
	if err := proc.Explain(ctx, cmd, err); err != nil {
		return Cost{}, nil, fmt.Errorf("run %s: %w", filepath.Base(c.Path), err)
	}
	after, err := readMachine()
	if err != nil {
		return Cost{}, nil, err
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	cost := Cost{Wall: wall.Seconds(), CPU: cpu.Seconds(), RSS: rss, Own: own, Energy: used, Load: before.load}
	foreign := after.busy - before.busy - (after.own - before.own) - cost.CPU
	// The kernel counts in hundredths of a second, so for a run of a few of them this tells nothing.
	cost.Others = min(1, max(0, foreign)/(cost.Wall*float64(runtime.NumCPU())))
	if !out.first.IsZero() {
		cost.First = out.first.Sub(start).Seconds()
	}
	return cost, out.buf.Bytes(), nil
}

// timedOutput keeps what a command writes and notes when its first line was whole. One goroutine of exec.Cmd owns it until Wait.
type timedOutput struct {
	buf   bytes.Buffer
	first time.Time
}

func (o *timedOutput) Write(p []byte) (int, error) {
	if o.first.IsZero() && bytes.ContainsRune(p, '\n') {
		o.first = time.Now()
	}
	return o.buf.Write(p)
}

// sampleMemory follows the memory of a process tree until the returned function is called, which returns the peaks in bytes.
func sampleMemory(pid int) (stop func() (rss, own int64)) {
	end := make(chan struct{})
	var rss, own int64
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(sampling)
		defer tick.Stop()
		for {
			var sum, sumOwn int64
			for _, p := range tree(pid) {
				m := memoryOf(p)
				sum, sumOwn, rss = sum+m["VmRSS"], sumOwn+m["RssAnon"]+m["RssShmem"], max(rss, m["VmHWM"])
			}
			rss, own = max(rss, sum), max(own, sumOwn)
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	return func() (int64, int64) {
		close(end)
		done.Wait()
		return rss, own
	}
}

// tree is the process pid and its descendants. Those that end meanwhile are left out.
func tree(pid int) []int {
	all := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well-formed
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				all = append(all, tree(child)...)
			}
		}
	}
	return all
}

// memoryOf is what the kernel says of a process's memory, in bytes by its names (proc_pid_status(5)); nothing for one that has
// ended.
func memoryOf(pid int) map[string]int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	sizes := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if kib, ok := strings.CutSuffix(strings.TrimSpace(value), " kB"); ok {
			n, _ := strconv.ParseInt(kib, 10, 64)
			sizes[name] = n << 10
		}
	}
	return sizes
}

// machineState is how much the machine and this process have worked so far.
type machineState struct {
	busy float64 // CPU seconds of all, and those that the hypervisor gave to others
	own  float64 // CPU seconds of this process alone
	load float64
}

func readMachine() (machineState, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineState{}, fmt.Errorf("read how busy the machine is: %w", err)
	}
	var s machineState
	if s.busy, err = busySeconds(string(stat)); err != nil {
		return machineState{}, err
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return machineState{}, fmt.Errorf("read the CPU time of this process: %w", err)
	}
	s.own = time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
	s.load = loadAverage()
	return s, nil
}

// busySeconds adds up what /proc/stat says of all cores: all but idle and waiting for the disk (proc_stat(5)).
func busySeconds(stat string) (float64, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("read how busy the machine is: /proc/stat begins with %q", line)
	}
	const ticks = 100 // USER_HZ, the same on every Linux
	total := 0.0
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, fmt.Errorf("read how busy the machine is: %w", err)
		}
		total += v / ticks
	}
	return total, nil
}

func loadAverage() float64 {
	text, _ := os.ReadFile("/proc/loadavg") // 0 where the kernel does not tell
	first, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// energyRoot holds the counters of Intel's and AMD's CPUs; virtual machines rarely have them, and only root may read them.
const energyRoot = "/sys/class/powercap"

// counters are microjoules by CPU package, with the value after which each starts again at 0.
type counters map[string]struct{ value, wrap float64 }

func readEnergy(root string) counters {
	zones, _ := filepath.Glob(filepath.Join(root, "intel-rapl:[0-9]*")) // the pattern is well-formed
	c := counters{}
	for _, zone := range zones {
		if strings.Count(filepath.Base(zone), ":") > 1 {
			continue // a part of a package
		}
		value, err := readNumber(filepath.Join(zone, "energy_uj"))
		wrap, errWrap := readNumber(filepath.Join(zone, "max_energy_range_uj"))
		if err == nil && errWrap == nil {
			c[zone] = struct{ value, wrap float64 }{value, wrap}
		}
	}
	return c
}

func readNumber(path string) (float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
}

// since is the energy in joules that the packages took between two readings; nil where there are no counters.
func (c counters) since(before counters) *float64 {
	total, known := 0.0, false
	for zone, now := range c {
		then, ok := before[zone]
		if !ok {
			continue
		}
		known = true
		used := now.value - then.value
		if used < 0 {
			used += now.wrap
		}
		total += used / 1e6
	}
	if !known {
		return nil
	}
	return &total
}

// withEnv is environ with the variables of set in place of those of the same name.
func withEnv(environ []string, set ...string) []string {
	kept := slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	})
	return append(kept, set...)
}
