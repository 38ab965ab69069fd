package gpu

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A process is in one control group per hierarchy, and every group above it limits it too. Both versions of the interface
// are read, for a machine may use both at once (docs.kernel.org/admin-guide/cgroup-v2.html, cgroup-v1/memory.html).

// memoryGroup is a control group that limits memory, in bytes.
type memoryGroup struct {
	limit int64
	used  int64 // without the page cache that the kernel drops first
}

func (h Host) memoryGroups() []memoryGroup {
	var groups []memoryGroup
	for _, d := range h.groupDirs("memory") {
		usage, cache, limits := "memory.usage_in_bytes", "total_inactive_file", []string{"memory.limit_in_bytes"}
		if d.v2 {
			// Above memory.high the kernel throttles a group nearly to a halt: it is a limit as good as memory.max.
			usage, cache, limits = "memory.current", "inactive_file", []string{"memory.max", "memory.high"}
		}
		used, _ := h.number(d.path + "/" + usage)
		used = max(0, used-h.stat(d.path, cache))
		for _, name := range limits {
			if limit, ok := h.number(d.path + "/" + name); ok {
				groups = append(groups, memoryGroup{limit: limit, used: used})
			}
		}
	}
	return groups
}

// cpuQuota is the number of CPUs that the groups allow, 0 where none limits them.
func (h Host) cpuQuota() float64 {
	least := 0.0
	for _, d := range h.groupDirs("cpu") {
		var quota, period string
		if d.v2 {
			quota, period, _ = strings.Cut(h.text(d.path+"/cpu.max"), " ")
		} else {
			quota, period = h.text(d.path+"/cpu.cfs_quota_us"), h.text(d.path+"/cpu.cfs_period_us")
		}
		q, err := strconv.ParseInt(quota, 10, 64) // "max" or -1 where there is no limit
		p, err2 := strconv.ParseInt(period, 10, 64)
		if err != nil || err2 != nil || q <= 0 || p <= 0 {
			continue
		}
		if n := float64(q) / float64(p); least == 0 || n < least {
			least = n
		}
	}
	return least
}

// groupDir is the folder of a control group, as seen from the host's root.
type groupDir struct {
	path string
	v2   bool
}

// groupDirs lists our groups for a controller, innermost first, in each hierarchy that may have it.
func (h Host) groupDirs(controller string) []groupDir {
	v1, v2 := ownGroups(h.text("/proc/self/cgroup"), controller)
	var dirs []groupDir
	for _, m := range parseMounts(h.text("/proc/self/mountinfo")) {
		own := v1
		switch {
		case m.fstype == "cgroup2":
			own = v2
		case m.fstype != "cgroup" || !slices.Contains(strings.Split(m.options, ","), controller):
			continue
		}
		if own == "" {
			continue
		}
		for rel := relative(own, m.root); ; rel = path.Dir(rel) {
			dirs = append(dirs, groupDir{path: path.Join(m.point, rel), v2: m.fstype == "cgroup2"})
			if rel == "/" {
				break
			}
		}
	}
	return dirs
}

// ownGroups finds in the text of /proc/self/cgroup our group for a controller in version 1 and in version 2.
func ownGroups(text, controller string) (v1, v2 string) {
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) != 3 || !strings.HasPrefix(f[2], "/"):
		case f[0] == "0" && f[1] == "":
			v2 = f[2]
		case slices.Contains(strings.Split(f[1], ","), controller):
			v1 = f[2]
		}
	}
	return v1, v2
}

// relative is where a group lies below the root of a mount. In a container both may name the host's path; a group outside
// the mount means that we see the mount's root as ours.
func relative(group, root string) string {
	group, root = path.Clean(group), path.Clean(root)
	if root == "/" {
		return group
	}
	if rest, ok := strings.CutPrefix(group, root); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	return "/"
}

type mount struct{ root, point, fstype, options string }

// parseMounts reads the text of /proc/self/mountinfo (proc_pid_mountinfo(5)).
func parseMounts(text string) []mount {
	var mounts []mount
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		sep := slices.Index(f, "-")
		if sep < 6 || len(f) < sep+4 {
			continue
		}
		mounts = append(mounts, mount{
			root: unescape(f[3]), point: unescape(f[4]), fstype: f[sep+1], options: f[sep+3],
		})
	}
	return mounts
}

// unescape turns the octal escapes of mountinfo (space, tab, newline, backslash) back.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

func (h Host) text(p string) string {
	data, err := os.ReadFile(h.path(p))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// number reads a file that holds one number of bytes; "max" and negative numbers mean that there is none.
func (h Host) number(p string) (int64, bool) {
	n, err := strconv.ParseInt(h.text(p), 10, 64)
	return n, err == nil && n >= 0
}

// stat reads one value of a group's memory.stat.
func (h Host) stat(dir, key string) int64 {
	for line := range strings.Lines(h.text(dir + "/memory.stat")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == key {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return max(0, n)
		}
	}
	return 0
}
