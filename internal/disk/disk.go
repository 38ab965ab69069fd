// Package disk tells how much room a file system has, and when there is too little to take on more work. All functions are
// safe for concurrent use.
package disk

import (
	"fmt"
	"syscall"
)

// Room is what a file system has for programs without special rights.
type Room struct{ Free, Total int64 } // bytes

// RoomAt asks for the file system that path is on.
func RoomAt(path string) (Room, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return Room{}, fmt.Errorf("ask for the disk of %s: %w", path, err)
	}
	return Room{Free: int64(st.Bavail) * st.Bsize, Total: int64(st.Blocks) * st.Bsize}, nil
}

// The bounds of the reserve where none is given: 5 % of the disk within them. Beyond 10 GiB more room is no more safety.
const (
	leastReserve = 1 << 30
	mostReserve  = 10 << 30
)

// Guard says when a disk is too full for more work. The zero value guards nothing.
type Guard struct {
	// Path is on the disk.
	Path string
	// Reserve is what must be left, in bytes; 0 means 5 % of the disk, but at least 1 and at most 10 GiB.
	Reserve int64
}

// LowError says that a disk is too full.
type LowError struct {
	Path       string
	Free, Want int64 // bytes
}

func (e *LowError) Error() string {
	return fmt.Sprintf("the disk of %s has %d MiB left, and at least %d MiB are wanted: make room on it",
		e.Path, e.Free>>20, e.Want>>20)
}

// Check returns a *LowError where less than the given share of the reserve is left, in 0..1. A disk that cannot be asked is not
// held against anybody: what is written there will fail and say why.
func (g Guard) Check(share float64) error {
	if g.Path == "" {
		return nil
	}
	room, err := RoomAt(g.Path)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	if want := int64(share * float64(g.reserve(room))); room.Free < want {
		return &LowError{Path: g.Path, Free: room.Free, Want: want}
	}
	return nil
}

// reserve is what must be left, in bytes.
func (g Guard) reserve(r Room) int64 {
	if g.Reserve != 0 {
		return g.Reserve
	}
	return min(max(r.Total/20, leastReserve), mostReserve)
}

// Room returns what the disk has, and what of it must be left.
func (g Guard) Room() (r Room, reserve int64, err error) {
	r, err = RoomAt(g.Path)
	return r, g.reserve(r), err
}
