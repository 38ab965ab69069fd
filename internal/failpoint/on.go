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

// Script is the environment variable that puts a scripted engine in the place of the library: see internal/fault/script.
const Script = "STENO_SCRIPT"

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
