package engine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"steno/models"
)

// maxMeta is the largest JSON in front of the audio: a prompt is at most 224 tokens, and users send more than is used.
const maxMeta = 256 << 10

// LoadRequest says what the child loads.
type LoadRequest struct {
	Model string `json:"model"` // the name in the registry
	// Path is the ggml file. The child opens it, checks SHA256 and hands its load function a path to the very file it checked.
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // hex; the load is refused without one
	// VADPath is the Silero model in ggml form, VADSHA256 its checksum.
	VADPath   string `json:"vad_path,omitempty"`
	VADSHA256 string `json:"vad_sha256,omitempty"`
	Device    string `json:"device"` // "cpu", or a GPU's name, "cuda:N"
	// Card is the GPU's index among those that the child can see; Backend the library that computes on it.
	Card    int    `json:"card,omitempty"`
	Backend string `json:"backend,omitempty"`
	States  int    `json:"states"` // decodes at the same time, at least 1
	// Cores is the number of threads that decode on a CPU, each several windows side by side where there are more states.
	Cores int `json:"cores,omitempty"`
	// Words loads the variant with DTW word times, which excludes flash attention.
	Words bool `json:"words,omitempty"`
	// Kernels bounds what matrix products run on: "auto" or "" for the best, "avx512" for no tiles, "avxvnni" for vectors of
	// 256 bits, "avx2" for those without AVX-VNNI, "ggml" for the library's own.
	Kernels string `json:"kernels,omitempty"`
}

// hello is the child's first word.
type hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version"`
	PID      int    `json:"pid"`
}

// load is a LoadRequest with what the child needs to know of its parent.
type load struct {
	LoadRequest
	Beat time.Duration `json:"beat"` // between two heartbeats, in nanoseconds
}

// meta is a models.Request without its audio.
type meta struct {
	Language   string `json:"language"`
	DetectOnly bool   `json:"detect_only,omitempty"`
	Translate  bool   `json:"translate,omitempty"`
	Words      bool   `json:"words,omitempty"`
	Prompt     string `json:"prompt,omitempty"`
	Threads    int    `json:"threads"`
}

// pulse is how far one request has come: any change of Activity is progress.
type pulse struct {
	ID       uint32 `json:"id"`
	Activity uint64 `json:"activity"`
}

// failure kinds on the wire.
const (
	failCancelled = "cancelled"
	failMemory    = "oom"
	failFile      = "bad-file"
	failOther     = "failed"
)

// failure is an error on the wire.
type failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// marshal encodes v as the payload of a frame.
func marshal(k kind, id uint32, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode frame type %d: %w", k, err)
	}
	return encode(k, id, b)
}

// unmarshal decodes the payload of f.
func unmarshal[T any](f frame) (v T, err error) {
	if err := json.Unmarshal(f.payload, &v); err != nil {
		return v, fmt.Errorf("%w: frame type %d: %w", ErrProtocol, f.kind, err)
	}
	return v, nil
}

// marshalRequest encodes a transcribe frame: length of the JSON u32, JSON, samples.
func marshalRequest(id uint32, r models.Request) ([]byte, error) {
	if len(r.PCM) == 0 {
		return nil, errors.New("transcribe: the chunk has no samples")
	}
	if len(r.PCM) > maxSamples {
		return nil, fmt.Errorf("transcribe: a chunk of %d samples, at most %d are allowed", len(r.PCM), maxSamples)
	}
	m, err := json.Marshal(meta{r.Language, r.DetectOnly, r.Translate, r.Words, r.Prompt, max(1, r.Threads)})
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	if len(m) > maxMeta {
		return nil, fmt.Errorf("transcribe: a prompt of %d bytes, at most %d are allowed", len(r.Prompt), maxMeta)
	}
	n := 4 + len(m) + 2*len(r.PCM)
	b := make([]byte, headerSize+4, headerSize+n)
	putHeader(b, kindTranscribe, id, n)
	binary.LittleEndian.PutUint32(b[headerSize:], uint32(len(m)))
	b = append(b, m...)
	for _, s := range r.PCM {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b, nil
}

// unmarshalRequest decodes a transcribe frame.
func unmarshalRequest(f frame) (models.Request, error) {
	bad := func(why string) (models.Request, error) {
		return models.Request{}, fmt.Errorf("%w: transcribe frame: %s", ErrProtocol, why)
	}
	if len(f.payload) < 4 {
		return bad("no header")
	}
	n, rest := binary.LittleEndian.Uint32(f.payload), f.payload[4:]
	if n > maxMeta || uint64(n) > uint64(len(rest)) {
		return bad("options longer than the frame")
	}
	var m meta
	if err := json.Unmarshal(rest[:n], &m); err != nil {
		return bad(err.Error())
	}
	audio := rest[n:]
	if len(audio) == 0 || len(audio)%2 != 0 || len(audio) > 2*maxSamples {
		return bad(fmt.Sprintf("%d bytes of audio", len(audio)))
	}
	pcm := make([]int16, len(audio)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(audio[2*i:]))
	}
	return models.Request{
		PCM: pcm, Language: m.Language, DetectOnly: m.DetectOnly, Translate: m.Translate, Words: m.Words, Prompt: m.Prompt,
		Threads: max(1, m.Threads),
	}, nil
}
