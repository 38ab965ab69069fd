package gpu

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

const (
	gib = int64(1) << 30
	mib = int64(1) << 20

	meminfo = "MemTotal:       16777216 kB\nMemFree:   1048576 kB\nMemAvailable:    8388608 kB\nHugePages_Total:  0\n"

	mountV2 = "35 31 0:32 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	mountV1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
		"36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
	mountDocker = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,relatime master:11 - cgroup cgroup rw,memory\n"
)

// machine lays out a file system root with the given files.
func machine(t *testing.T, files map[string]string) Host {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Host{Root: root}
}

func TestMemoryHonoursEveryLimitAboveUs(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  Memory
	}{
		{"no control groups", nil, Memory{Total: 16 * gib, Available: 8 * gib}},
		{"v2 without limit", map[string]string{
			"proc/self/cgroup": "0::/app\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/app/memory.max": "max\n", "sys/fs/cgroup/app/memory.high": "max\n",
			"sys/fs/cgroup/app/memory.current": "1048576\n",
		}, Memory{Total: 16 * gib, Available: 8 * gib}},
		{"v2 limit, cache is free", map[string]string{
			"proc/self/cgroup": "0::/app\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/app/memory.max":     "2147483648\n",
			"sys/fs/cgroup/app/memory.current": "1610612736\n", // 1.5 GiB
			"sys/fs/cgroup/app/memory.stat":    "anon 1\nfile 5\ninactive_file 1073741824\n",
		}, Memory{Total: 2 * gib, Available: 2*gib - 512*mib, Limited: true}},
		{"v2 limit on a parent", map[string]string{
			"proc/self/cgroup": "0::/slice/app\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/slice/app/memory.max":     "4294967296\n",
			"sys/fs/cgroup/slice/app/memory.current": "0\n",
			"sys/fs/cgroup/slice/memory.max":         "3221225472\n",
			"sys/fs/cgroup/slice/memory.current":     "2147483648\n",
		}, Memory{Total: 3 * gib, Available: 1 * gib, Limited: true}},
		{"v2 memory.high is a limit", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/memory.max": "4294967296\n", "sys/fs/cgroup/memory.high": "1073741824\n",
		}, Memory{Total: 1 * gib, Available: 1 * gib, Limited: true}},
		{"v1 limit", map[string]string{
			"proc/self/cgroup": "4:memory:/a/b\n3:cpuset:/\n0::/\n", "proc/self/mountinfo": mountV1,
			"sys/fs/cgroup/memory/memory.limit_in_bytes":     "9223372036854771712\n",
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "1073741824\n",
			"sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": "805306368\n",
			"sys/fs/cgroup/memory/a/b/memory.stat":           "total_inactive_file 268435456\n",
		}, Memory{Total: 1 * gib, Available: 512 * mib, Limited: true}},
		{"v1 in a container that sees the host's path", map[string]string{
			"proc/self/cgroup": "4:memory:/docker/abc\n", "proc/self/mountinfo": mountDocker,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes": "0\n",
		}, Memory{Total: 1 * gib, Available: 1 * gib, Limited: true}},
		{"over the limit leaves nothing, not less", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/memory.max": "1073741824\n", "sys/fs/cgroup/memory.current": "2147483648\n",
		}, Memory{Total: 1 * gib, Available: 0, Limited: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"proc/meminfo": meminfo}
			for k, v := range tt.files {
				files[k] = v
			}
			got, err := machine(t, files).Memory()
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestMemorySaysWhatIsMissing(t *testing.T) {
	if _, err := machine(t, nil).Memory(); err == nil {
		t.Error("no meminfo: want an error")
	}
	if _, err := machine(t, map[string]string{"proc/meminfo": "garbage\n"}).Memory(); err == nil {
		t.Error("meminfo without MemTotal: want an error")
	}
}

func TestCoresHonourTheQuota(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	tests := []struct {
		name  string
		files map[string]string
		want  int
	}{
		{"none", nil, procs},
		{"v2 max", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mountV2, "sys/fs/cgroup/cpu.max": "max 100000\n",
		}, procs},
		{"v2 half a CPU is one thread", map[string]string{
			"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mountV2, "sys/fs/cgroup/cpu.max": "50000 100000\n",
		}, 1},
		{"v2 parent is tighter", map[string]string{
			"proc/self/cgroup": "0::/p/c\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/p/c/cpu.max": "400000 100000\n", "sys/fs/cgroup/p/cpu.max": "100000 100000\n",
		}, 1},
		{"v1 unlimited", map[string]string{
			"proc/self/cgroup": "2:cpu,cpuacct:/\n", "proc/self/mountinfo": mountV1,
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
		}, procs},
		{"v1 one CPU", map[string]string{
			"proc/self/cgroup": "2:cpu,cpuacct:/\n", "proc/self/mountinfo": mountV1,
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := machine(t, tt.files).Cores(); got != tt.want {
				t.Errorf("got %d cores, want %d", got, tt.want)
			}
		})
	}
}

func TestDevicesAlwaysHaveACPU(t *testing.T) {
	d := machine(t, map[string]string{
		"proc/meminfo": meminfo, "proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n",
	}).Devices()
	if len(d) != 1 || d[0].ID != CPUID || d[0].Kind != CPU || d[0].Name != "Some CPU @ 2 GHz" {
		t.Fatalf("got %+v", d)
	}
	if d[0].Total != 16*gib || d[0].Free != 8*gib || d[0].Used() != 8*gib || d[0].Cores < 1 {
		t.Errorf("got %+v", d[0])
	}
	if bare := machine(t, nil).Devices(); len(bare) != 1 || bare[0].Name == "" || bare[0].Cores < 1 {
		t.Errorf("an unreadable host: got %+v", bare)
	}
}

func TestProcessOfAnotherPID(t *testing.T) {
	h := machine(t, map[string]string{
		"proc/meminfo":   meminfo,
		"proc/42/status": "Name:\tsteno\nVmPeak:\t 9 kB\nVmSize:\t  4194304 kB\nVmHWM:\t  3145728 kB\nVmRSS:\t  2097152 kB\n",
	})
	got, err := h.Process(42)
	want := Process{RSS: 2 * gib, Peak: 3 * gib, VMS: 4 * gib, Percent: 12.5, Available: 8 * gib, Total: 16 * gib}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if _, err := h.Process(43); err == nil {
		t.Error("a process that is not there: want an error")
	}
}

func TestThisMachine(t *testing.T) {
	d := Devices()[0]
	if d.Total <= 0 || d.Free <= 0 || d.Free > d.Total {
		t.Errorf("device %+v", d)
	}
	p, err := Host{}.Process(0)
	if err != nil || p.RSS <= 0 || p.Peak < p.RSS || p.VMS < p.RSS || p.Percent <= 0 || p.Percent > 100 {
		t.Errorf("process %+v, %v", p, err)
	}
}

// FuzzParse holds the parsers of the kernel's files against text that no kernel wrote: they must not fail, and give only
// clean absolute paths.
func FuzzParse(f *testing.F) {
	f.Add("0::/app\n4:memory:/a\n", mountV2)
	f.Add("4:memory,cpu:/docker/abc\n", mountDocker)
	f.Add("::\n0::..\n", `1 2 3:4 /a\040b /c\134 rw - cgroup cgroup memory`)
	f.Fuzz(func(t *testing.T, cgroup, mounts string) {
		v1, v2 := ownGroups(cgroup, "memory")
		for _, m := range parseMounts(mounts) {
			for _, own := range []string{v1, v2} {
				if own == "" {
					continue
				}
				if rel := relative(own, m.root); rel == "" || rel[0] != '/' || rel != filepath.Clean(rel) {
					t.Errorf("relative(%q, %q) = %q", own, m.root, rel)
				}
			}
		}
	})
}
