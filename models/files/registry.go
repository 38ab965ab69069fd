package files

import (
	"fmt"
	"slices"
	"strings"

	"steno/job"
)

// Entry is one model file: what it is called, and what its content must be.
type Entry struct {
	Name string `json:"name"` // e.g. "base-q8_0"; unique
	File string `json:"file"` // name within the models folder
	Size int64  `json:"size"` // bytes
	// SHA256 is the hex digest of the content. Every entry has one: a file that cannot be checked is never loaded.
	SHA256 string `json:"sha256"`
	// Model names the weights whatever their type, e.g. "base".
	Model string `json:"model"`
	// Type is how the weights are stored: f16, q8_0, q5_0 or q5_1.
	Type Type `json:"type"`
	// Repo is the repository on the model host, e.g. "ggerganov/whisper.cpp"; empty for a file that was made here.
	Repo string `json:"repo,omitempty"`
	// Source tells what a file that was made here was made of.
	Source string `json:"source,omitempty"`
}

// English tells whether the model knows only English.
func (e Entry) English() bool { return strings.HasSuffix(e.Model, ".en") }

// VAD tells whether the model finds speech instead of transcribing it.
func (e Entry) VAD() bool { return strings.HasPrefix(e.Model, "silero-") }

// VADName is the registry's name of the model that finds speech.
const VADName = "silero-v6.2.0"

// The repositories that publish the files.
const (
	whisperRepo = "ggerganov/whisper.cpp"
	vadRepo     = "ggml-org/whisper-vad"
)

// All lists the registry: the files that whisper.cpp publishes, smaller models first. The sizes and SHA-256 are those of the
// model host's own records (Git LFS), as several projects pin them; base, base-q8_0, tiny.en and tiny.en-q8_0 are besides what
// Convert makes, and TestRegistrySizes computes every size from the model's dimensions.
func All() []Entry {
	list := make([]Entry, 0, len(published)+1)
	for _, p := range published {
		e := Entry{Name: p.name, File: fileOf(p.name), Size: p.size, SHA256: p.sum, Repo: whisperRepo}
		e.Model, e.Type = splitName(p.name)
		list = append(list, e)
	}
	return append(list, Entry{
		Name: VADName, File: fileOf(VADName), Size: 885098, Model: VADName, Type: "f32", Repo: vadRepo,
		SHA256: "2aa269b785eeb53a82983a20501ddf7c1d9c48e33ab63a41391ac6c9f7fb6987",
	})
}

// Lookup finds an entry of the registry by its name or an alias, such as "turbo", "whisper-large-v3" or "ggml-base.bin".
func Lookup(name string) (Entry, error) {
	want := canonical(name)
	for _, e := range All() {
		if e.Name == want {
			return e, nil
		}
	}
	return Entry{}, job.Errorf(job.Input, "MODEL_UNKNOWN",
		"there is no model %q: choose one of %s, or see `steno models list` for all.", name, strings.Join(models(), ", "))
}

// canonical turns the names by which models go elsewhere into the registry's.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, prefix := range []string{"openai/", "systran/", "faster-", "whisper-", "ggml-"} {
		name = strings.TrimPrefix(name, prefix)
	}
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".bin"), "-f16")
	model, t := splitName(name)
	switch model {
	case "large":
		model = "large-v3"
	case "turbo", "large-turbo":
		model = "large-v3-turbo"
	}
	return joinName(model, t)
}

// splitName takes "base-q8_0" apart.
func splitName(name string) (model string, t Type) {
	if i := strings.LastIndex(name, "-q"); i >= 0 {
		return name[:i], Type(name[i+1:])
	}
	return name, F16
}

func joinName(model string, t Type) string {
	if t == F16 {
		return model
	}
	return fmt.Sprintf("%s-%s", model, t)
}

func fileOf(name string) string { return "ggml-" + name + ".bin" }

// models lists the names of the weights, each once.
func models() []string {
	var names []string
	for _, p := range published {
		if m, _ := splitName(p.name); !slices.Contains(names, m) {
			names = append(names, m)
		}
	}
	return names
}
