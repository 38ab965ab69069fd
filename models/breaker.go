package models

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"steno/job"
)

// deaths counts how often a model's engine died.
type deaths struct {
	at    []time.Time // within the window
	until time.Time   // of the quarantine
}

// recordDeath counts a death, and puts the model into quarantine at the last one allowed. mu is held.
func (p *Pool) recordDeath(model string, cause error) {
	p.metrics.deaths.WithLabelValues(model).Inc()
	d := p.breaker[model]
	if d == nil {
		d = &deaths{}
		p.breaker[model] = d
	}
	now := time.Now()
	d.at = slices.DeleteFunc(d.at, func(t time.Time) bool { return now.Sub(t) > p.cfg.BreakerWindow })
	d.at = append(d.at, now)
	p.cfg.Log.Error("engine died", "model", model, "deaths", len(d.at), "error", cause)
	if len(d.at) >= p.cfg.BreakerDeaths {
		d.at, d.until = nil, now.Add(p.cfg.Quarantine)
		resting := p.Quarantined()
		resting[model] = d.until
		p.resting.Store(&resting)
		p.cfg.Log.Error("model is quarantined", "model", model, "until", d.until)
	}
}

// Quarantined tells until when models are not loaded because their engines died too often. It waits for nothing, not even for a
// pool that is stuck.
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

// quarantined is the error of a request for a model in quarantine. mu is held.
func (p *Pool) quarantined(model string) error {
	d := p.breaker[model]
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
