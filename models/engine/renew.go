package engine

import (
	"context"
	"fmt"
	"sync"

	"steno/models"
	"steno/transcript"
)

// Renewing is an engine that replaces its process when that is worn, so that leaks of the library stay bounded and nobody above
// takes a planned end for a crash. The old process is gone before the new one loads: memory never holds both. Requests that
// come meanwhile wait for the load. A process that dies is not replaced: the engine dies with it.
//
// It implements models.Engine and is safe for concurrent use.
type Renewing struct {
	cfg    Config
	ctx    context.Context // of replacements; Close ends it
	cancel context.CancelFunc
	done   chan struct{}
	work   sync.WaitGroup // the replacement and the followers

	mu       sync.Mutex // guards what follows
	cur      *Process   // nil while it is replaced
	info     models.Info
	inFlight int
	fresh    chan struct{} // not nil while a worn process drains or is replaced; closed when that is over
	closing  bool
	err      error
}

// StartRenewing is Start with replacement.
func StartRenewing(ctx context.Context, cfg Config) (*Renewing, error) {
	p, err := Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r := &Renewing{cfg: cfg, cur: p, info: p.Info(), done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.work.Go(func() { r.follow(p) })
	return r, nil
}

// Transcribe is that of Process, after a replacement that is under way.
func (r *Renewing) Transcribe(ctx context.Context, q models.Request, emit func([]transcript.Segment)) (models.Result, error) {
	p, err := r.enter(ctx)
	if err != nil {
		return models.Result{}, err
	}
	defer r.leave(p)
	return p.Transcribe(ctx, q, emit)
}

func (r *Renewing) enter(ctx context.Context) (*Process, error) {
	for {
		r.mu.Lock()
		err, fresh := r.err, r.fresh
		if err == nil && fresh == nil {
			r.inFlight++
			p := r.cur
			r.mu.Unlock()
			return p, nil
		}
		r.mu.Unlock()
		if err != nil {
			return nil, asDied(err)
		}
		select {
		case <-fresh:
		case <-r.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// leave ends a request; the last one out of a worn process has it replaced.
func (r *Renewing) leave(p *Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
	if r.fresh == nil && p.Worn() != "" {
		r.fresh = make(chan struct{})
	}
	if r.fresh != nil && r.inFlight == 0 && !r.closing && r.err == nil {
		r.cur = nil
		r.work.Go(func() { r.replace(p) })
	}
}

// replace runs alone: fresh keeps requests out until it is over.
func (r *Renewing) replace(old *Process) {
	old.Close()
	p, err := Start(r.ctx, r.cfg)
	if err != nil {
		if r.ctx.Err() == nil { // else Close says why
			r.die(fmt.Errorf("%w: replace a worn engine: %w", models.ErrEngineDied, err))
		}
		return
	}
	r.mu.Lock()
	if r.closing {
		r.mu.Unlock()
		p.Close()
		return
	}
	was := r.info
	r.cur, r.info = p, p.Info()
	close(r.fresh)
	r.fresh = nil
	r.mu.Unlock()
	r.cfg.Observer.renewed(was, p.Info())
	r.work.Go(func() { r.follow(p) })
}

// follow ends the engine with its process, unless that is being replaced.
func (r *Renewing) follow(p *Process) {
	<-p.Done()
	r.mu.Lock()
	mine := r.cur == p && !r.closing
	r.mu.Unlock()
	if mine {
		r.die(p.Err())
	}
}

func (r *Renewing) die(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
		close(r.done)
	}
}

// Info describes the process that runs, or ran last.
func (r *Renewing) Info() models.Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// Done is closed when the engine is dead or closed and its memory is back.
func (r *Renewing) Done() <-chan struct{} { return r.done }

// Err says why the engine ended; see Process.Err.
func (r *Renewing) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Close ends the engine; see Process.Close.
func (r *Renewing) Close() error {
	r.mu.Lock()
	r.closing = true
	p := r.cur
	r.mu.Unlock()
	r.cancel()
	if p != nil {
		p.Close()
	}
	r.work.Wait()
	r.die(ErrClosed)
	return nil
}
