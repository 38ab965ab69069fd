package pipeline

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"steno/job"
	"steno/models"
)

// Elsewhere is where other machines decode chunks of a job, beside this one. Its methods must be safe for concurrent use.
type Elsewhere interface {
	// Places gives a value for each chunk that another machine would take now.
	Places() <-chan struct{}
	// Decode returns what Runner.Help returned there; it is kept in the ChunkStore under t.Key then. pcm is 16 bits a sample,
	// little-endian. An error says nothing of the chunk: it is to be decoded here.
	Decode(ctx context.Context, t Task, pcm []byte) ([]byte, error)
	Close()
}

// Task is what another machine must know of a chunk besides its audio.
type Task struct {
	Key       string `json:"-"`
	Language  string `json:"language"`
	Translate bool   `json:"translate,omitempty"`
	Words     bool   `json:"words,omitempty"`
	Prompt    string `json:"prompt,omitempty"`
}

// Help decodes a chunk of a job that another machine has, with the model of that name; its weights must be those that the other
// one uses. It tries once: after an error the other one decodes the chunk itself.
func (r *Runner) Help(ctx context.Context, id job.ID, model string, t Task, pcm []byte) ([]byte, error) {
	samples, err := unpack(pcm)
	if err != nil {
		return nil, err
	}
	ctx = models.WithFlow(ctx, string(id))
	r.isolation.RLock()
	defer r.isolation.RUnlock()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	lease, err := r.cfg.Pool.Acquire(ctx, models.Spec{Model: model, Words: t.Words})
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	req := t.request()
	req.PCM = samples
	res, err := lease.Transcribe(ctx, string(id), req, nil)
	if err != nil {
		return nil, err
	}
	return json.Marshal(res)
}

func (t Task) request() models.Request {
	return models.Request{Language: t.Language, Translate: t.Translate, Words: t.Words, Prompt: t.Prompt, Threads: 1}
}

// pack makes bytes of samples, little-endian.
func pack(pcm []int16) []byte {
	b := make([]byte, 0, 2*len(pcm))
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

func unpack(b []byte) ([]int16, error) {
	if len(b) == 0 || len(b)%2 != 0 {
		return nil, fmt.Errorf("%d bytes are no samples of 16 bits", len(b))
	}
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm, nil
}

// places bounds the chunks of a job that are read and not yet transcribed: those here, and one for each that another machine
// would take.
type places struct {
	here  chan struct{}
	first int // so many are decoded here before others are asked
	other Elsewhere
}

// take waits for a place. A chunk goes elsewhere where half of the places here are taken and somebody would have it: few chunks
// are done sooner on two machines, and what waits here would wait for those before it.
func (p *places) take(ctx context.Context) (elsewhere bool, err error) {
	var away <-chan struct{}
	if p.other != nil && len(p.here) >= p.first {
		away = p.other.Places()
		select {
		case <-away:
			return true, nil
		default:
		}
	}
	select {
	case p.here <- struct{}{}:
		return false, nil
	default:
	}
	if p.other != nil {
		away = p.other.Places()
	}
	select {
	case p.here <- struct{}{}:
		return false, nil
	case <-away:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// come waits for a place here, for a chunk that was to be elsewhere.
func (p *places) come(ctx context.Context) error {
	select {
	case p.here <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *places) give() { <-p.here }
