package proc

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// StartConfined starts cmd, which Harden has seen, within c. The caller must call cmd.Wait.
//
// Landlock and no_new_privs belong to a thread and pass to what it starts, so they are put on a thread that is there for this
// child alone and ends after it. There is no program in between, as a wrapper that restricts itself and then becomes the child
// would be: it would cost 10 ms for each. Limits are set from outside as soon as the child runs.
func StartConfined(cmd *exec.Cmd, c Confinement) error {
	started := make(chan error)
	go confined(cmd, c, started)
	return <-started
}

// confined is the thread of one child. Its goroutine ends soon after the child has.
func confined(cmd *exec.Cmd, c Confinement, started chan<- error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The main thread does not end, and must not stay restricted: it is kept busy while another does the work.
		done := make(chan struct{})
		go func() {
			defer close(done)
			confined(cmd, c, started)
		}()
		<-done
		runtime.UnlockOSThread()
		return
	}
	apart := mayPart() // before this thread is restricted
	err := restrict(cmd.Path, c)
	if err == nil {
		if apart {
			cmd.SysProcAttr.Cloneflags |= namespaces
		}
		err = cmd.Start()
	}
	if err == nil {
		if err = limit(cmd, c); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // nobody else will
		}
	}
	started <- err
	if err != nil {
		return
	}
	// The kernel kills the child when this thread ends (Pdeathsig). Somebody else may take the child's status first.
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// restrict takes from the calling thread, and so from what it starts, all but c and the program itself.
func restrict(program string, c Confinement) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("confine %s: no_new_privs: %w", filepath.Base(program), err)
	}
	abi := landlockABI()
	if abi == 0 {
		return nil
	}
	r, err := newRuleset(abi)
	if err != nil {
		return fmt.Errorf("confine %s: landlock: %w", filepath.Base(program), err)
	}
	defer unix.Close(r.fd)
	for _, path := range system {
		r.allow(path, readAccess)
	}
	for _, path := range c.Read {
		r.allow(path, readAccess)
	}
	for _, path := range slices.Concat(c.Write, devices) {
		r.allow(path, readAccess|writeAccess)
	}
	r.allow(program, readAccess|unix.LANDLOCK_ACCESS_FS_EXECUTE)
	for _, loader := range loaders() {
		r.allow(loader, readAccess|unix.LANDLOCK_ACCESS_FS_EXECUTE)
	}
	if _, _, e := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), 0, 0); r.err != nil || e != 0 {
		return fmt.Errorf("confine %s: landlock: %w", filepath.Base(program), errors.Join(r.err, errnoOrNil(e)))
	}
	return nil
}

func errnoOrNil(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// system is where programs and libraries are, and what a loader reads to find them.
var system = []string{
	"/usr", "/lib", "/lib32", "/lib64", "/bin", "/opt", "/nix/store", "/gnu/store",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives",
}

// devices are those without which programs of C do not get far.
var devices = []string{"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"}

// loaders are the programs that load libraries, which the kernel starts for every other program.
func loaders() []string {
	found, _ := filepath.Glob("/lib*/ld-*.so*") // well-formed
	more, _ := filepath.Glob("/lib/*/ld-*.so*")
	return append(found, more...)
}

const (
	readAccess  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writeAccess = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	// fileAccess is what a rule on a file that is no folder may name.
	fileAccess = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// landlockABI is the version of Landlock that this kernel has, 0 for none.
var landlockABI = sync.OnceValue(func() int {
	abi, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return 0
	}
	return int(abi)
})

func filesAreConfined() bool { return landlockABI() > 0 }

// ruleset is a Landlock ruleset in the making (landlock(7)). The first error of allow is kept.
type ruleset struct {
	fd      int
	handled uint64 // what of the file system it forbids where no rule allows it
	err     error
}

func newRuleset(abi int) (*ruleset, error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1} // all of the first version
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	size := unsafe.Offsetof(attr.Handled_access_net)
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size = unsafe.Offsetof(attr.Scoped)
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
		size = unsafe.Offsetof(attr.Scoped) + unsafe.Sizeof(attr.Scoped)
	}
	fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if e != 0 {
		return nil, e
	}
	return &ruleset{fd: int(fd), handled: attr.Handled_access_fs}, nil
}

// allow permits access to path and all below it. What is not there needs no rule.
func (r *ruleset) allow(path string, access uint64) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		r.err = errors.Join(r.err, err)
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= fileAccess
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access & r.handled, Parent_fd: int32(fd)}
	_, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if e != 0 {
		r.err = errors.Join(r.err, fmt.Errorf("allow %s: %w", path, e))
	}
}

// namespaces are those of a child of its own: it has no rights in them, for its user is not mapped.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNET

// mayPart tells whether the kernel, and the container that we may be in, lets a child have namespaces of its own. It starts
// nothing: the program is not there, and where namespaces are refused there is another error.
var mayPart = sync.OnceValue(func() bool {
	cmd := exec.Cmd{Path: "/proc/self/nothing", SysProcAttr: &syscall.SysProcAttr{Cloneflags: namespaces}}
	return errors.Is(cmd.Start(), unix.ENOENT)
})

// Layers lists the layers of a confinement that hold on this machine.
func Layers() []string {
	layers := []string{Limits, NoNewPrivs}
	if abi := landlockABI(); abi > 0 {
		layers = append(layers, fmt.Sprintf("%s %d", Landlock, abi))
	}
	if mayPart() {
		layers = append(layers, NoNetwork)
	}
	return layers
}

// limit bounds the child that has just started.
func limit(cmd *exec.Cmd, c Confinement) error {
	set := func(resource int, value uint64) error {
		return unix.Prlimit(cmd.Process.Pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
	}
	err := errors.Join(set(unix.RLIMIT_CORE, 0), set(unix.RLIMIT_FSIZE, uint64(c.FileSize)))
	if c.CPU > 0 {
		err = errors.Join(err, set(unix.RLIMIT_CPU, uint64((c.CPU+time.Second-1)/time.Second)))
	}
	if c.Memory > 0 {
		err = errors.Join(err, set(unix.RLIMIT_AS, uint64(c.Memory)))
	}
	if errors.Is(err, unix.ESRCH) {
		return nil // it has ended already
	}
	return err
}
