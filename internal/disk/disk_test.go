package disk_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"steno/internal/disk"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room, err := disk.RoomAt(dir)
	if err != nil || room.Free <= 0 || room.Total < room.Free {
		t.Fatalf("%+v, %v", room, err)
	}
	for name, c := range map[string]struct {
		guard disk.Guard
		share float64
		low   bool
	}{
		"all of a small reserve":        {disk.Guard{Path: dir, Reserve: 1}, 1, false},
		"a reserve above the disk":      {disk.Guard{Path: dir, Reserve: 2 * room.Total}, 1, true},
		"a small share of it":           {disk.Guard{Path: dir, Reserve: 2 * room.Total}, 1e-9, false},
		"a folder that is not there":    {disk.Guard{Path: filepath.Join(dir, "absent"), Reserve: 2 * room.Total}, 1, false},
		"nothing to guard":              {disk.Guard{}, 1, false},
		"the usual reserve, none of it": {disk.Guard{Path: dir}, 0, false},
	} {
		err := c.guard.Check(c.share)
		var low *disk.LowError
		if errors.As(err, &low) != c.low || (err != nil) != c.low {
			t.Errorf("%s: %v, want low: %v", name, err, c.low)
		}
		if c.low && (low.Free <= 0 || low.Want < room.Total || !strings.Contains(err.Error(), "make room")) {
			t.Errorf("%s: %+v, %v", name, low, err)
		}
	}
	if _, err := disk.RoomAt(filepath.Join(dir, "absent")); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("a folder that is not there: %v", err)
	}
}
