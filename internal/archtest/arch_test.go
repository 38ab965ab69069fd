// Package archtest holds the import directions of ARCHITECTURE.md true.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed lists, for each package, the packages of ours that it may import. A package that is missing here fails the test:
// whoever adds one decides where it stands.
var allowed = map[string][]string{
	"job":        {},
	"transcript": {},
	"gpu":        {"internal/proc"},
	"gpu/driver": {"gpu"}, // the library that may hang: called in a child alone
	"audio":      {"job", "transcript", "internal/proc"},
	// The pool knows no file, no process and no C: it is tested with scripted engines.
	"models":         {"job", "transcript", "gpu"},
	"models/files":   {"job"},
	"models/decode":  {"models", "transcript"},
	"models/whisper": {"models", "models/decode", "transcript"},
	// The engine process is handed the library by cmd/steno, so that the parent builds without cgo.
	"models/engine": {"job", "models", "transcript", "gpu", "internal/proc"},
	// What tells voices apart is a process of its own, too, and the library comes from cmd/steno.
	"models/voices":      {"transcript", "internal/proc"},
	"models/voices/nets": {"models/voices"},
	// The line knows no broker, no database and no HTTP.
	"pipeline": {"job", "transcript", "audio", "models", "internal/failpoint"},
	"queue":    {"job", "transcript", "internal/disk", "internal/failpoint"},
	// The record knows no broker and no HTTP: what they have to be told stands in its outbox.
	"store": {"job", "transcript", "internal/failpoint"},
	// It knows the queue by an interface of its own, so that neither the queue nor the record knows the other.
	"relay": {"job", "transcript", "store", "internal/failpoint"},
	// The gateway asks for what it needs of queue, audio and models by interfaces of its own.
	"api":   {"job", "transcript", "store", "internal/disk", "internal/failpoint"},
	"bench": {"job", "transcript", "internal/proc", "internal/testmedia"},
	// A page made of files: what it asks for it asks the API for.
	"console": {},
	// Tools for all.
	"internal/disk":       {},
	"internal/fakegpu":    {},
	"internal/failpoint":  {},
	"internal/proc":       {},
	"internal/config":     {"job", "internal/failpoint"},
	"internal/telemetry":  {},
	"internal/faultsize":  {},
	"internal/mutate":     {},
	"internal/testmedia":  {"transcript"},
	"internal/testserver": {"internal/proc"},
	"internal/testpg":     {"internal/proc", "internal/testserver"},
	"internal/testredis":  {"internal/proc", "internal/testserver"},
	// It is handed the database, so that its driver stays in store.
	"internal/testhistory": {},
	"internal/archtest":    {},
	// It judges from outside, so it shares no code with what it judges.
	"internal/fault":            {"internal/failpoint", "internal/proc"},
	"internal/fault/stenofault": {"internal/fault"},
	"internal/fault/script":     {"models", "models/engine", "transcript"},
	// It lists what the modules do not: the registry knows the weights, and ffmpeg says what it is.
	"scripts/sbom": {"audio", "models/files"},
	// Only its tests import, and go list leaves those out.
	"internal/acceptance": {"audio", "internal/testmedia"},
}

// only lists foreign imports that few packages may have, with the reason.
var only = map[string][]string{
	"github.com/u2takey/ffmpeg-go":                 {"audio"},                              // it links a large SDK
	"gonum.org/v1/plot":                            {"bench", "internal/fault/stenofault"}, // charts, and the fonts in them
	"github.com/ggerganov/whisper.cpp/bindings/go": {"models/whisper"},                     // cgo stays in one place
	"C":                                  {"models/whisper"},                 // the same
	"github.com/yalue/onnxruntime_go":    {"models/voices/nets"},             // cgo, again in one place
	"github.com/NVIDIA/go-nvml/pkg/nvml": {"gpu/driver", "internal/fakegpu"}, // a call may end the process
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server": {"internal/fakegpu"}, // for tests
	"github.com/nats-io/nats-server/v2/server":       {"queue"},            // the embedded server doubles the binary
	"github.com/nats-io/nats.go":                     {"queue"},            // others talk to the queue, not to the broker
	"modernc.org/sqlite":                             {"store"},            // others ask the record, not its database
	"github.com/jackc/pgx/v5/stdlib":                 {"store"},            // the same
	"github.com/danielgtaylor/huma/v2":               {"api"},              // HTTP stays in one place
	"github.com/redis/go-redis/v9":                   {"api"},              // the same
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, "steno/")
		if strings.HasPrefix(name, "cmd/") {
			continue // wires all
		}
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the table of this test: say what it may import", name)
			continue
		}
		for _, imp := range p.Imports {
			if owners, owned := only[imp]; owned && !slices.Contains(owners, name) {
				t.Errorf("%s imports %s, which only %v may", name, imp, owners)
			}
			if ours, ok := strings.CutPrefix(imp, "steno/"); ok && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s; it may import %v", name, ours, may)
			}
		}
	}
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "steno/...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}
