package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"steno/audio"
	"steno/job"
	"steno/models"
)

// keyVersion changes whenever the same chunk would be decoded differently, so that kept results are never mixed.
const keyVersion = 3

// chunkKey is the part of a chunk's key that is common to a job: what was heard and how.
type chunkKey string

// newChunkKey hashes content and parameters, not the job's id: the same file submitted again shares its chunks.
func newChunkKey(j job.Job, p job.Params, e models.Info, plan audio.Plan) chunkKey {
	content := j.Source.SHA256
	if content == "" {
		content = "job:" + string(j.ID)
	}
	how, err := json.Marshal(struct {
		Version int
		Params  job.Params
		Model   string
		Plan    audio.Plan
	}{keyVersion, p, e.SHA256, plan})
	if err != nil {
		panic(err) // plain structs always encode
	}
	sum := sha256.Sum256(append([]byte(content+"\n"), how...))
	return chunkKey(hex.EncodeToString(sum[:16]))
}

// of is the key of one chunk: letters, digits, dots and dashes only, as key-value buckets want it.
func (k chunkKey) of(c audio.Chunk, variant string) string {
	if c.Channel > 0 {
		variant = fmt.Sprintf("%s.%d", variant, c.Channel)
	}
	return fmt.Sprintf("%s.%d-%d.%s", k, c.Span.Start, c.Span.End, variant)
}

// voices is the key of who speaks when.
func (k chunkKey) voices() string { return string(k) + ".voices" }
