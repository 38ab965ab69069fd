package models

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"steno/gpu"
	"steno/job"
)

// placement is a model on a device.
type placement struct{ model, device string }

// deaths counts how often a model's engine died.
type deaths struct {
	at    []time.Time // within the window
	until time.Time   // of the quarantine
}

// recordDeath counts a death, and puts the model into quarantine on the device at the last one allowed. mu is held.
func (p *Pool) recordDeath(model, device string, cause error) {
	p.metrics.deaths.WithLabelValues(model).Inc()
	at := placement{model, device}
	d := p.breaker[at]
	if d == nil {
		d = &deaths{}
		p.breaker[at] = d
	}
	now := time.Now()
	d.at = slices.DeleteFunc(d.at, func(t time.Time) bool { return now.Sub(t) > p.cfg.BreakerWindow })
	d.at = append(d.at, now)
	p.cfg.Log.Error("engine died", "model", model, "device", device, "deaths", len(d.at), "error", cause)
	if len(d.at) < p.cfg.BreakerDeaths {
		return
	}
	d.at, d.until = nil, now.Add(p.cfg.Quarantine)
	p.cfg.Log.Error("model is quarantined", "model", model, "device", device, "until", d.until)
	if p.runsElsewhere(model) {
		return
	}
	all := p.Quarantined()
	all[model] = d.until
	p.resting.Store(&all)
}

// runsElsewhere tells whether a model may run on a device where it does not rest. mu is held.
func (p *Pool) runsElsewhere(model string) bool {
	if cmp.Or(p.cfg.ModelDevice[model], p.cfg.Device) != Auto {
		return false
	}
	for id := range p.limits {
		if (id != gpu.CPUID || len(p.limits) == 1) && p.quarantined(model, id) == nil {
			return true
		}
	}
	return false
}

// Quarantined tells until when models are not loaded because their engines died too often, on each device that they may be on. It
// waits for nothing, not even for a pool that is stuck.
func (p *Pool) Quarantined() map[string]time.Time {
	resting := map[string]time.Time{}
	if all := p.resting.Load(); all != nil {
		for model, until := range *all {
			if time.Now().Before(until) {
				resting[model] = until
			}
		}
	}
	return resting
}

// quarantined is the error of a request for a model in quarantine on a device. mu is held.
func (p *Pool) quarantined(model, device string) error {
	d := p.breaker[placement{model, device}]
	if d == nil || !time.Now().Before(d.until) {
		return nil
	}
	return &job.Error{
		// RESOURCE hands the job back without spending an attempt: it may have had no part in the deaths.
		Class: job.Resource, Code: "MODEL_QUARANTINED",
		Message: fmt.Sprintf("model %s died %d times within %s and rests for another %s; try again then, or choose another model",
			model, p.cfg.BreakerDeaths, p.cfg.BreakerWindow, time.Until(d.until).Round(time.Second)),
	}
}

// isDeath tells whether a load's error is the end of its process.
func isDeath(err error) bool { return errors.Is(err, ErrEngineDied) && !errors.Is(err, ErrOutOfMemory) }
