package gpu

import (
	"cmp"
	"context"
	"fmt"
)

// Machine is a host with the cards that its driver tells of; models.Inventory is one use of it.
type Machine struct {
	Host
	Monitor *Monitor // nil for none
}

// Devices lists the CPU and the cards, those that cannot be used too, which say why, as they were when the driver was last asked:
// by the Watch that runs, or now where it never was. While it does not answer the cards are as it has told last, with that as
// their problem.
func (m Machine) Devices() []Device {
	all := m.Host.Devices()
	if m.Monitor == nil {
		return all
	}
	cards, err := m.Monitor.Known()
	for _, c := range cards {
		d := c.Device()
		if err != nil {
			d.Free, d.Problem = 0, cmp.Or(d.Problem, err.Error())
		}
		all = append(all, d)
	}
	return all
}

// Measure asks the driver now for a device.
func (m Machine) Measure(ctx context.Context, id string) (Device, error) {
	if m.Monitor != nil && id != CPUID {
		if _, err := m.Monitor.Cards(ctx); err != nil {
			return Device{}, fmt.Errorf("measure device %s: %w", id, err)
		}
	}
	for _, d := range m.Devices() {
		if d.ID == id {
			return d, nil
		}
	}
	return Device{}, fmt.Errorf("measure device %s: it is not on this machine", id)
}
