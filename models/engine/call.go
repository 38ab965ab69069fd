package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"steno/models"
	"steno/transcript"
)

// call is one request in flight. Its fields are guarded by Process.mu, but for answer.
type call struct {
	emit     func([]transcript.Segment)
	answer   chan answer // buffered: the reader never waits for a caller
	began    time.Time
	audio    float64        // seconds, as windowSeconds counts them
	still    int            // watchdog ticks without progress
	activity uint64         // the child's counter at the last heartbeat
	moved    *atomic.Uint64 // the caller's; or nil
}

// move notes progress. Process.mu is held.
func (c *call) move() {
	c.still = 0
	if c.moved != nil {
		c.moved.Add(1)
	}
}

type answer struct {
	res models.Result
	err error
}

// Transcribe sends a chunk to the child and waits for its result. See models.Engine. A child that does not answer a cancel in
// time is killed, with all its requests.
func (p *Process) Transcribe(ctx context.Context, r models.Request, emit func([]transcript.Segment)) (models.Result, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return models.Result{}, ctx.Err()
	case <-p.done:
		return models.Result{}, asDied(p.Err())
	}
	id, c := p.register(r, emit)
	defer p.forget(id)
	b, err := marshalRequest(id, r)
	if err != nil {
		return models.Result{}, err
	}
	if err := p.send(ctx, b); err != nil {
		if ctx.Err() != nil {
			return models.Result{}, ctx.Err()
		}
		return models.Result{}, asDied(p.Err())
	}
	select {
	case a := <-c.answer:
		return a.give(ctx)
	case <-p.done:
	case <-ctx.Done():
		p.cancel(id, c)
		return models.Result{}, ctx.Err()
	}
	select {
	case a := <-c.answer: // it came just before the end
		return a.give(ctx)
	default:
		return models.Result{}, asDied(p.Err())
	}
}

// give is the answer for the caller. A child that is closing cancels its requests, which the caller did not.
func (a answer) give(ctx context.Context) (models.Result, error) {
	if errors.Is(a.err, context.Canceled) && ctx.Err() == nil {
		return models.Result{}, asDied(ErrClosed)
	}
	return a.res, a.err
}

// cancel asks the child to end a request and waits until it has, or is killed: the decode state is free when it returns.
func (p *Process) cancel(id uint32, c *call) {
	limit := p.cfg.Limits.Cancel
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	if b, err := encode(kindCancel, id); err == nil {
		_ = p.send(ctx, b) // the time-out below covers a child that does not read
	}
	select {
	case <-c.answer:
	case <-p.done:
	case <-ctx.Done():
		p.kill(fmt.Errorf("%w: a cancelled request did not end within %s", ErrStalled, limit))
		<-p.done
	}
}

func (p *Process) register(r models.Request, emit func([]transcript.Segment)) (uint32, *call) {
	c := &call{emit: emit, answer: make(chan answer, 1), began: time.Now(), moved: r.Activity}
	c.audio = max(float64(len(r.PCM))/sampleRate, windowSeconds)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	if p.lastID == 0 { // 0 is no request; ids wrap after four thousand million
		p.lastID++
	}
	p.calls[p.lastID] = c
	return p.lastID, c
}

const (
	sampleRate = 16000
	// windowSeconds is the least audio a request counts as: the encoder may be run at full length for any.
	windowSeconds = 30
)

func (p *Process) forget(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, id)
}

// emit passes segments on. It runs on the reader's goroutine, so segments come in order and before the result.
func (p *Process) emit(id uint32, segs []transcript.Segment) error {
	p.mu.Lock()
	c := p.calls[id]
	if c != nil {
		c.move()
	}
	p.mu.Unlock()
	if c == nil {
		return fmt.Errorf("%w: segments for request %d, which is not in flight", ErrProtocol, id)
	}
	if c.emit != nil {
		c.emit(segs)
	}
	return nil
}

// finish ends a request.
func (p *Process) finish(id uint32, res models.Result, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.calls[id]
	if c == nil {
		return fmt.Errorf("%w: an answer for request %d, which is not in flight", ErrProtocol, id)
	}
	delete(p.calls, id)
	if err == nil {
		// Quick to rise and slow to fall: a run of silent chunks must not make the next full one look hung.
		p.pace = max(time.Since(c.began).Seconds()/c.audio, 0.99*p.pace)
	}
	p.wear.finished(p.info.States)
	c.answer <- answer{res, err}
	return nil
}
