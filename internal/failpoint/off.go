//go:build !failpoints

package failpoint

// On says whether this program was built to be killed.
const On = false

// Variable is nothing here.
const Variable = ""

// Hit does nothing.
func Hit(string) {}
