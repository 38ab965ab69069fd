package models

import (
	"context"
	"errors"
	"fmt"
	"time"

	"steno/gpu"
	"steno/job"
)

// Measurer is an Inventory that can look at one device now.
type Measurer interface {
	Measure(ctx context.Context, id string) (gpu.Device, error)
}

// errDevice says that a device cannot be used.
var errDevice = errors.New("device cannot be used")

// room waits until a device other than the CPU has the memory that a load needs: a driver gives the memory of a process back a
// while after its end. Where that does not come within ReturnTimeout, others have it, and the error is ErrOutOfMemory.
func (p *Pool) room(ctx context.Context, e *entry) error {
	m, ok := p.cfg.Inventory.(Measurer)
	if !ok || e.device == gpu.CPUID {
		return nil
	}
	for began := time.Now(); ; {
		d, err := m.Measure(ctx, e.device)
		if err == nil && d.Problem != "" {
			err = errors.New(d.Problem)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return &job.Error{
				Class: job.Transient, Code: "DEVICE_LOST", Err: fmt.Errorf("%w: %w", errDevice, err),
				Message: fmt.Sprintf("device %s of this worker cannot be used: %v; the job is tried again elsewhere", e.device, err),
			}
		case d.Free >= e.bytes:
			return nil
		case time.Since(began) >= p.cfg.ReturnTimeout:
			return fmt.Errorf("%w: %d MiB of %s are free, and %d are needed", ErrOutOfMemory, d.Free>>20, e.device, e.bytes>>20)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}
