package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a file system of its own, ext4 on an image, whose power can be cut. It takes root and a loop device.
type disk struct {
	image string
	mount string // where it is mounted
}

// newDisk makes and mounts one.
func newDisk(ctx context.Context, folder string, size int64) (*disk, error) {
	d := &disk{image: filepath.Join(folder, "disk.img"), mount: filepath.Join(folder, "disk")}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", d.image); err != nil {
		return nil, err
	}
	return d, d.attach(ctx)
}

// attach mounts it: what its journal holds is brought in.
func (d *disk) attach(ctx context.Context) error {
	return command(ctx, "mount", "-o", "loop", d.image, d.mount)
}

// Number and argument of the request by which xfstests, too, cuts the power of a file system: it goes away at once, and with it
// all that is not on the disk yet, its journal's last entries included. See EXT4_IOC_SHUTDOWN in Linux's fs/ext4/ext4.h.
const (
	shutdown       = 0x8004587d // _IOR('X', 125, __u32)
	withoutFlushes = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
)

// cut cuts the power.
func (d *disk) cut() error {
	f, err := os.Open(d.mount)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdown, withoutFlushes); err != nil {
		return fmt.Errorf("cut the power of a disk: %w", err)
	}
	return nil
}

// detach unmounts it; whoever used it must have ended.
func (d *disk) detach(ctx context.Context) error {
	var err error
	for range 100 { // the kernel may be closing what a killed process had open
		if err = command(ctx, "umount", d.mount); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// command runs a program to its end.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, bytes.TrimSpace(out))
	}
	return nil
}

// small lets a node keep its data on a disk of its own of so many bytes, a file system in memory that goes with it. It takes no
// root, but a user namespace.
func small(size int64) func(*Node) {
	return func(n *Node) {
		n.inside = []string{
			"unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
			`mkdir -p "$0" && mount -t tmpfs -o mode=700,size=` + strconv.FormatInt(size, 10) + ` steno "$0" && exec "$@"`, n.data,
		}
	}
}

// fill takes the room on the node's own disk, all but so many bytes, until free is called.
func (n *Node) fill(left int64) (free func() error, err error) {
	folder := n.seen()
	path := filepath.Join(folder, "filler")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var size int64
	for step := int64(1 << 26); step >= 4096; {
		var st unix.Statfs_t
		if err := unix.Statfs(folder, &st); err != nil {
			return nil, err
		}
		if room := int64(st.Bavail) * st.Bsize; room < left+step {
			step /= 2
		} else if err := unix.Fallocate(int(f.Fd()), 0, size, step); err != nil {
			step /= 2
		} else {
			size += step
		}
	}
	return func() error { return os.Remove(path) }, nil
}
