package config

import (
	"slices"
	"strings"

	"steno/internal/failpoint"
)

const (
	envPrefix = "STENO_"
	configVar = "STENO_CONFIG" // names the YAML file, and so cannot stand in it
	corpusVar = "STENO_CORPUS" // tests find their audio by it
)

// parseEnv makes a map of "NAME=value" lines. As for a process that os/exec starts, the last of two counts.
func parseEnv(env []string) map[string]string {
	vars := make(map[string]string, len(env))
	for _, line := range env {
		if name, value, ok := strings.Cut(line, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

func isOurs(name string) bool {
	broken := []string{failpoint.Variable, failpoint.Script, failpoint.Cards, failpoint.StoreErrors, failpoint.Clock}
	if failpoint.On && slices.Contains(broken, name) {
		return false
	}
	return strings.HasPrefix(name, envPrefix) && name != configVar && name != corpusVar
}

// keyOfEnv returns "" for a name that is not all upper case, which no key matches.
func keyOfEnv(name string) string {
	if name != strings.ToUpper(name) {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(name, envPrefix))
}
