package engine

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// childFD is where the child finds its end of the socket pair.
const childFD = 3

// OpenChild makes this process a good engine and returns the connection to the parent that started it. It
//   - fails where file descriptor 3 is no socket, which is what a user sees who calls the subcommand by hand;
//   - ignores SIGINT, SIGTERM and SIGHUP: a terminal or a service manager sends them to all processes at once, while the
//     parent still drains its jobs; the parent's death or shutdown frame ends the child;
//   - turns core dumps off, which would write gigabytes of weights after an abort;
//   - offers itself to the kernel's out-of-memory killer before the parent.
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
	// Both are comforts: a kernel without them, or a container that hides them, is no reason to refuse work.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(oomScore)), 0)
	_ = os.WriteFile("/proc/self/comm", []byte("steno-engine"), 0)
	return os.NewFile(childFD, "engine socket"), nil
}

// oomScore adds half of all memory to the child's badness, as the kernel counts it.
const oomScore = 500
