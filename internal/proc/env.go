package proc

import "strings"

// Env returns those of environ ("NAME=value") whose name is in allow. A name in allow that ends in "*" stands for all names
// with that beginning. The result is never nil, so that as a command's Env it does not mean "inherit everything".
func Env(environ []string, allow ...string) []string {
	kept := []string{}
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if name != "" && allowed(name, allow) {
			kept = append(kept, kv)
		}
	}
	return kept
}

func allowed(name string, allow []string) bool {
	for _, a := range allow {
		if prefix, ok := strings.CutSuffix(a, "*"); ok && strings.HasPrefix(name, prefix) || a == name {
			return true
		}
	}
	return false
}
