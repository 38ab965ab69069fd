package main

import (
	"context"
	"encoding/json"
	"fmt"

	"steno/gpu"
	"steno/job"
	"steno/models"
	"steno/pipeline"
	"steno/queue"
)

// fleet has other workers decode chunks of a delivery's job.
type fleet struct{ *queue.Spread }

// spread is nil where the broker cannot do it.
func spread(ctx context.Context, d *queue.Delivery, weights string) pipeline.Elsewhere {
	s, err := d.Spread(ctx, weights)
	if err != nil {
		return nil
	}
	return fleet{s}
}

// Decode implements pipeline.Elsewhere.
func (f fleet) Decode(ctx context.Context, t pipeline.Task, pcm []byte) ([]byte, error) {
	task, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode a chunk's task: %w", err)
	}
	return f.Spread.Decode(ctx, queue.Chunk{Key: t.Key, Task: task, Audio: pcm})
}

// helper decodes chunks of other workers' jobs on this machine.
func helper(m *machine) *queue.Helper {
	return &queue.Helper{
		Free: func(inHand int) int { return freeSlots(m.pool.Report().Devices, inHand) },
		Has: func(weights string) bool {
			_, err := m.withWeights(weights)
			return err == nil
		},
		Decode: func(ctx context.Context, c queue.Chunk) ([]byte, error) {
			model, err := m.withWeights(c.Model)
			if err != nil {
				return nil, err
			}
			var t pipeline.Task
			if err := json.Unmarshal(c.Task, &t); err != nil {
				return nil, fmt.Errorf("read a chunk's task: %w", err)
			}
			return m.runner.Help(ctx, c.Job, model, t, c.Audio)
		},
	}
}

// freeSlots is how many decodes would start at once on the GPUs, or on the CPU where there are none, and one that waits, so that
// no slot idles while the next chunk is on its way. inHand are those of which the devices may not know yet.
func freeSlots(devices []models.DeviceReport, inHand int) int {
	var slots, taken int
	for _, d := range devices {
		if d.ID == gpu.CPUID && len(devices) > 1 {
			continue
		}
		slots += d.Slots
		taken += d.SlotsInUse + d.SlotsWaiting
	}
	return max(0, slots+1-max(taken, inHand))
}

// withWeights finds the model file with this SHA-256.
func (m *machine) withWeights(sum string) (name string, err error) {
	all, err := m.store.List()
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if s.Present && s.Transcribes() && s.SHA256 == sum {
			return s.Name, nil
		}
	}
	return "", job.Errorf(job.Input, "NO_SUCH_WEIGHTS", "no model file here has the SHA-256 %s", sum)
}

// warmed tells whether a job would find its model in memory. One that is not here at all is as good as there: the job is to fail.
func (m *machine) warmed(model string) bool {
	name, _, err := m.resolve(model)
	if err != nil {
		return true
	}
	for _, r := range m.pool.Report().Models {
		if r.Model == name && r.State == "ready" {
			return true
		}
	}
	return false
}
