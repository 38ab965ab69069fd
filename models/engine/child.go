package engine

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childFD is where the child finds its end of the socket pair.
const childFD = 3

// OpenChild makes this process a good engine and returns the connection to the parent that started it. It
//   - fails where file descriptor 3 is no socket, which is what a user sees who calls the subcommand by hand;
//   - ignores SIGINT, SIGTERM and SIGHUP: a terminal or a service manager sends them to all processes at once, while the
//     parent still drains its jobs; the parent's death or shutdown frame ends the child;
//   - turns core dumps off, which would write gigabytes of weights after an abort;
//   - names the process, where it is called from main.
func OpenChild() (*os.File, error) {
	kind, err := unix.GetsockoptInt(childFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return nil, errors.New("this command is for steno itself: it is started by a worker and not by hand")
	}
	unix.CloseOnExec(childFD)
	// Non-blocking puts the socket on Go's poller, so that Close ends a read in progress.
	if err := unix.SetNonblock(childFD, true); err != nil {
		return nil, fmt.Errorf("prepare the engine's socket: %w", err)
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return nil, fmt.Errorf("turn core dumps off: %w", err)
	}
	// A comfort: a kernel that refuses is no reason to refuse work.
	if name, err := unix.BytePtrFromString("steno-engine"); err == nil && onMainThread && unix.Gettid() == unix.Getpid() {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
		runtime.UnlockOSThread()
	}
	return os.NewFile(childFD, "engine socket"), nil
}

// onMainThread is set where main has kept the main thread, whose name is the process's, because this may be a child: packages are
// initialised on it.
var onMainThread = keepMainThread()

func keepMainThread() bool {
	kind, err := unix.GetsockoptInt(childFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_STREAM {
		return false
	}
	runtime.LockOSThread()
	return true
}
