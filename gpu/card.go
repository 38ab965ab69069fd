package gpu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Card is an NVIDIA GPU, or a MIG instance of one: a part with memory and processors of its own. What a driver does not tell is
// nil, or 0 for memory.
type Card struct {
	// Index is that of the GPU in the driver's list, which has the order of the PCI bus.
	Index int `json:"index"`
	// Instance is that of the MIG instance in its GPU; nil for a whole GPU.
	Instance *int `json:"instance,omitempty"`
	// UUID names the card across restarts and machines, "GPU-…" or "MIG-…". CUDA takes it too.
	UUID string `json:"uuid"`
	Name string `json:"name"`
	// Total and Free are bytes of the card's memory.
	Total int64 `json:"total_bytes"`
	Free  int64 `json:"free_bytes"`

	// Utilization is the share of the driver's last sample period in which something was computed, 0 to 1, and MemoryUtilization
	// that in which memory was read or written. A MIG instance has neither.
	Utilization       *float64 `json:"utilization_ratio,omitempty"`
	MemoryUtilization *float64 `json:"memory_utilization_ratio,omitempty"`
	// Temperature, Power and PowerLimit are those of the GPU, also where the card is an instance of it.
	Temperature *float64 `json:"temperature_celsius,omitempty"`
	Power       *float64 `json:"power_watts,omitempty"`
	PowerLimit  *float64 `json:"power_limit_watts,omitempty"`

	// Processes compute on the card.
	Processes []CardProcess `json:"processes,omitempty"`

	// Problem says why the card cannot be used: "GPU is lost". It is empty for one that can.
	Problem string `json:"problem,omitempty"`
}

// CardProcess is a process that computes on a card.
type CardProcess struct {
	PID  int   `json:"pid"`        // as the driver sees it: of the host, not of a container
	Used int64 `json:"used_bytes"` // of the card's memory; 0 where the driver does not tell
}

// ID is the card's as a Device: "cuda:1", or "cuda:1.0" for an instance.
func (c Card) ID() string {
	if c.Instance != nil {
		return fmt.Sprintf("%s:%d.%d", CUDA, c.Index, *c.Instance)
	}
	return fmt.Sprintf("%s:%d", CUDA, c.Index)
}

// Device is the card as something that runs models.
func (c Card) Device() Device {
	return Device{ID: c.ID(), Name: c.Name, Kind: CUDA, UUID: c.UUID, Total: c.Total, Free: c.Free, Problem: c.Problem}
}

// visible picks the cards that CUDA_VISIBLE_DEVICES names, a list of indices and of UUIDs or their beginnings, in its order. CUDA
// ends the list at the first entry that names nothing, or more than one, and so does visible. A GPU that is cut into instances is
// chosen by the UUID of an instance only.
func visible(cards []Card, list string) []Card {
	var chosen []Card
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		index, err := strconv.Atoi(name)
		var found []Card
		for _, c := range cards {
			byUUID := len(name) > len("GPU-") && strings.HasPrefix(c.UUID, name)
			if byUUID || err == nil && c.Instance == nil && c.Index == index {
				found = append(found, c)
			}
		}
		if len(found) != 1 || slices.ContainsFunc(chosen, func(c Card) bool { return c.UUID == found[0].UUID }) {
			break
		}
		chosen = append(chosen, found[0])
	}
	return chosen
}
