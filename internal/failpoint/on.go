//go:build failpoints

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
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
	mu     sync.Mutex
	points = parse(os.Getenv(Variable))
)

// point is what happens at a place.
type point struct {
	left  int           // how many more visits it allows; the last one kills
	delay time.Duration // of each visit, where it does not kill
}

// parse reads the variable. A mistake in it ends the program, for a test that kills nothing shows nothing.
func parse(text string) map[string]*point {
	points := map[string]*point{}
	for entry := range strings.SplitSeq(text, ",") {
		if entry == "" {
			continue
		}
		name, action, _ := strings.Cut(entry, "=")
		action, count, counted := strings.Cut(action, "@")
		p := &point{left: 1}
		var err error
		switch {
		case action == "delay":
			p.delay, err = time.ParseDuration(count)
		case action != "kill":
			err = errors.New("no such action")
		case counted:
			p.left, err = strconv.Atoi(count)
		}
		if err != nil || p.left < 1 || p.delay < 0 || !slices.Contains(All(), name) {
			panic(fmt.Sprintf("%s: %q is not name=kill, name=kill@3 or name=delay@300ms with a name of %v", Variable, entry, All()))
		}
		points[name] = p
	}
	return points
}

// Hit ends the process by SIGKILL, or waits, where STENO_FAILPOINTS says so.
func Hit(name string) {
	mu.Lock()
	defer mu.Unlock()
	p := points[name]
	if p == nil || p.left == 0 {
		return
	}
	if p.delay > 0 {
		mu.Unlock()
		time.Sleep(p.delay)
		mu.Lock()
		return
	}
	p.left--
	if p.left == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL) // cannot fail for oneself
		select {}
	}
}
