//go:build !failpoints

package failpoint

// On says whether this program was built to be killed.
const On = false

// These variables are nothing here.
const (
	Variable    = ""
	Script      = ""
	Cards       = ""
	Clock       = ""
	StoreErrors = ""
)

// Hit does nothing.
func Hit(string) {}
