package engine

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"steno/internal/proc"
	"steno/models"
)

// ticksOfSilence is how often the watchdog looks in Limits.Silence. All its limits are counted in looks and not read from a
// clock: a parent that was stopped itself would otherwise blame the child for the gap.
const ticksOfSilence = 10

// watch kills a child that does not move any more, and keeps an eye on its memory.
func (p *Process) watch() {
	p.silent.Store(0)
	period := max(p.cfg.Limits.Silence/ticksOfSilence, time.Millisecond)
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-t.C:
		}
		if p.silent.Add(1) > ticksOfSilence {
			p.kill(fmt.Errorf("%w: nothing was heard of it for %s", ErrStalled, p.cfg.Limits.Silence))
		}
		if err := p.stalled(period); err != nil {
			p.kill(err)
		}
		p.oom.look()
		p.weigh()
	}
}

// stalled looks for a request without progress.
func (p *Process) stalled(period time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		c.still++
		expected := time.Duration(p.pace * c.audio * float64(time.Second))
		limit := max(p.cfg.Limits.Stall, 4*expected)
		if time.Duration(c.still)*period > limit {
			return fmt.Errorf("%w: a request of %.0f s of audio made no progress for %s", ErrStalled, c.audio, limit)
		}
	}
	return nil
}

// feel notes which requests moved since the last heartbeat.
func (p *Process) feel(pulses []pulse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range pulses {
		if c := p.calls[b.ID]; c != nil && c.activity != b.Activity {
			c.activity = b.Activity
			c.move()
		}
	}
}

// verdict says why the child ended, after it has been waited for.
func (p *Process) verdict(exit error) error {
	if p.closing {
		return ErrClosed
	}
	stderr := strings.TrimSpace(p.tail.String())
	cause := p.cause
	switch {
	case cause != nil && stderr != "":
		cause = fmt.Errorf("%w; it wrote: %s", cause, stderr)
	case cause != nil:
	case exit == nil:
		cause = &proc.ExitError{Err: errors.New("exit status 0"), Stderr: stderr}
	case memoryText.MatchString(stderr), proc.Signal(exit) == syscall.SIGKILL && p.oom.rose():
		cause = fmt.Errorf("%w: %w", models.ErrOutOfMemory, &proc.ExitError{Err: exit, Stderr: stderr})
	case proc.Signal(exit) == syscall.SIGKILL:
		// Neither we nor the kernel for want of memory: an assertion aborts and a bad pointer segfaults, they do not kill.
		cause = fmt.Errorf("%w: %w", models.ErrEngineKilled, &proc.ExitError{Err: exit, Stderr: stderr})
	default:
		cause = &proc.ExitError{Err: exit, Stderr: stderr}
	}
	return fmt.Errorf("%w: model %s on %s: %w", models.ErrEngineDied, p.cfg.Load.Model, p.cfg.Load.Device, cause)
}
