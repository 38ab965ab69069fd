//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// On says whether this program was built to be killed.
const On = true

// Variable is the environment variable that says where to kill.
const Variable = "STENO_FAILPOINTS"

// StoreErrors is the environment variable that has statements of the database fail: "100@7" is one in a hundred, chosen with seed 7.
const StoreErrors = "STENO_STORE_ERRORS"

// Clock is the environment variable that names a file with the seconds that the wall clock is off, in programs of scripts/clock.sh.
const Clock = "STENO_CLOCK"

// Script is the environment variable that puts a scripted engine in the place of the library: see internal/fault/script.
const Script = "STENO_SCRIPT"

// Cards is the environment variable that gives the machine GPUs that it has not, "8" or "8:FILE": see internal/fakegpu.
const Cards = "STENO_CARDS"

var (
	mu   sync.Mutex
	left = parse(os.Getenv(Variable)) // how many more visits each place allows; the last one kills
)

// parse reads the variable. A mistake in it ends the program, for a test that kills nothing shows nothing.
func parse(text string) map[string]int {
	points := map[string]int{}
	for entry := range strings.SplitSeq(text, ",") {
		if entry == "" {
			continue
		}
		name, action, _ := strings.Cut(entry, "=")
		action, count, counted := strings.Cut(action, "@")
		n := 1
		var err error
		if counted {
			n, err = strconv.Atoi(count)
		}
		if err != nil || n < 1 || action != "kill" || !slices.Contains(All(), name) {
			panic(fmt.Sprintf("%s: %q is not name=kill or name=kill@3 with a name of %v", Variable, entry, All()))
		}
		points[name] = n
	}
	return points
}

// Hit ends the process by SIGKILL where STENO_FAILPOINTS says so.
func Hit(name string) {
	mu.Lock()
	defer mu.Unlock()
	if left[name] == 0 {
		return
	}
	left[name]--
	if left[name] == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL) // cannot fail for oneself
		select {}
	}
}
