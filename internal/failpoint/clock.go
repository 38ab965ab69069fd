//go:build failpoints && clock

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"time"
	_ "unsafe" // for the link to time.shift
)

// shift is what the wall clock of this program is off, in seconds. The time package has it where it was built with the overlay that
// scripts/clock.sh makes; time that passes is not touched, as when somebody sets a real clock.
//
//go:linkname shift time.shift
var shift int64

func init() {
	path := os.Getenv(Clock)
	if path == "" {
		return
	}
	go func() {
		for ; ; time.Sleep(20 * time.Millisecond) {
			text, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
				shift = n
			}
		}
	}()
}
