package engine

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"steno/models"
	"steno/transcript"
)

// Backend is a loaded model within the child. It is used by up to Info().States goroutines at once.
type Backend interface {
	Info() models.Info
	// Transcribe is that of models.Engine. It ends within a second after ctx.
	Transcribe(ctx context.Context, r models.Request, emit func([]transcript.Segment)) (models.Result, error)
	Close() error
}

// LoadFunc loads what r names. Its paths are those of descriptors whose bytes have been checked, good until Serve ends.
type LoadFunc func(ctx context.Context, r LoadRequest) (Backend, error)

const (
	// farewell is how long Serve waits for decodes and the backend when it ends; it is less than Limits.Close.
	farewell = 1500 * time.Millisecond
	// firstBeat is the time between heartbeats until the parent names its own.
	firstBeat = time.Second
)

// Serve is the child: it says hello with version, loads what it is told to, and transcribes until the parent says shutdown (nil)
// or is gone (an error). The process should exit then, for a decode that does not end is left behind. It closes conn.
func Serve(ctx context.Context, conn io.ReadWriteCloser, version string, load LoadFunc) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &server{conn: conn, load: load, calls: map[uint32]*served{}, beat: make(chan time.Duration, 1)}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s.work.Go(func() { s.heartbeat(ctx) })
	err := s.send(kindHello, 0, hello{Protocol: protocol, Version: version, PID: os.Getpid()})
	if err == nil {
		err = s.read(ctx)
	}
	cancel()
	return errors.Join(err, s.end())
}

// server is the state of one Serve call.
type server struct {
	conn io.ReadWriteCloser
	load LoadFunc
	beat chan time.Duration // a new time between heartbeats
	work sync.WaitGroup     // all goroutines of Serve
	held []*os.File         // verified files; the load's goroutine opens them, and end closes them

	writing sync.Mutex // one frame at a time

	mu      sync.Mutex // guards what follows
	loading bool
	backend Backend
	calls   map[uint32]*served
}

// served is one request in flight.
type served struct {
	cancel   context.CancelFunc
	activity atomic.Uint64
}

// read handles frames until shutdown or the end of the connection.
func (s *server) read(ctx context.Context) error {
	r := bufio.NewReaderSize(s.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			return fmt.Errorf("read from the parent: %w", err)
		}
		switch f.kind {
		case kindLoad:
			err = s.startLoad(ctx, f)
		case kindTranscribe:
			err = s.startCall(ctx, f)
		case kindCancel:
			s.cancelCall(f.id)
		case kindShutdown:
			return nil
		default:
			err = fmt.Errorf("%w: a parent does not send frame type %d", ErrProtocol, f.kind)
		}
		if err != nil {
			return err
		}
	}
}

// end waits for the goroutines of Serve and frees the model, but not for ever: the kernel frees it as well.
func (s *server) end() error {
	done := make(chan error, 1)
	go func() {
		s.work.Wait()
		var err error
		if s.backend != nil {
			err = s.backend.Close()
		}
		for _, f := range s.held {
			f.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(farewell):
		return errors.New("a decode did not end")
	}
}

func (s *server) startLoad(ctx context.Context, f frame) error {
	r, err := unmarshal[load](f)
	if err != nil {
		return err
	}
	s.mu.Lock()
	again := s.loading
	s.loading = true
	s.mu.Unlock()
	if again || r.Beat <= 0 || r.States < 1 {
		return fmt.Errorf("%w: load frame: second or out of range", ErrProtocol)
	}
	s.beat <- r.Beat
	s.work.Go(func() {
		b, err := s.loadVerified(ctx, r.LoadRequest)
		if err != nil {
			s.fail(0, err)
			return
		}
		info := b.Info()
		info.PID = os.Getpid()
		s.mu.Lock()
		s.backend = b
		s.mu.Unlock()
		s.reply(kindLoaded, 0, info)
	})
	return nil
}

// loadVerified checks the files and loads them through the descriptors that were checked.
func (s *server) loadVerified(ctx context.Context, r LoadRequest) (Backend, error) {
	model, err := open(ctx, r.Path, r.SHA256)
	if err != nil {
		return nil, err
	}
	s.held = append(s.held, model)
	r.Path = descriptor(model)
	if r.VADPath != "" {
		vad, err := open(ctx, r.VADPath, r.VADSHA256)
		if err != nil {
			return nil, err
		}
		// The library opens it again for each new state.
		s.held = append(s.held, vad)
		r.VADPath = descriptor(vad)
	}
	return s.load(ctx, r)
}

// startCall runs one request on a goroutine of its own.
func (s *server) startCall(ctx context.Context, f frame) error {
	r, err := unmarshalRequest(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &served{cancel: cancel}
	s.mu.Lock()
	b := s.backend
	full := b == nil || len(s.calls) >= b.Info().States || s.calls[f.id] != nil
	if !full {
		s.calls[f.id] = c
	}
	s.mu.Unlock()
	if full {
		cancel()
		return fmt.Errorf("%w: request %d before the model is loaded, twice, or over its states", ErrProtocol, f.id)
	}
	r.Activity = &c.activity
	s.work.Go(func() {
		defer cancel()
		res, err := b.Transcribe(ctx, r, func(segs []transcript.Segment) {
			c.activity.Add(1)
			s.reply(kindSegments, f.id, segs)
		})
		// Free the place before the answer: the parent may send the next request as soon as it has read it.
		s.mu.Lock()
		delete(s.calls, f.id)
		s.mu.Unlock()
		if err != nil {
			s.fail(f.id, err)
			return
		}
		s.reply(kindResult, f.id, res)
	})
	return nil
}

func (s *server) cancelCall(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.calls[id]; c != nil {
		c.cancel()
	}
}

// heartbeat runs beside all inference, so that a long decode is not taken for a dead process.
func (s *server) heartbeat(ctx context.Context) {
	t := time.NewTicker(firstBeat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.beat:
			t.Reset(d)
		case <-t.C:
			s.reply(kindHeartbeat, 0, s.pulses())
		}
	}
}

func (s *server) pulses() []pulse {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := make([]pulse, 0, len(s.calls))
	for id, c := range s.calls {
		p = append(p, pulse{ID: id, Activity: c.activity.Load()})
	}
	slices.SortFunc(p, func(a, b pulse) int { return cmp.Compare(a.ID, b.ID) })
	return p
}

// reply sends v; where v does not fit on the wire (a NaN, a result over the limit) the request fails instead. A broken
// connection needs no answer: the reader sees it too and ends Serve.
func (s *server) reply(k kind, id uint32, v any) {
	err := s.send(k, id, v)
	if err == nil || errors.Is(err, errWrite) {
		return
	}
	if k == kindSegments || k == kindHeartbeat {
		// The result carries the same segments, and its failure will be told.
		return
	}
	s.fail(id, err)
}

func (s *server) fail(id uint32, err error) { _ = s.send(kindFailed, id, toFailure(err)) }

var errWrite = errors.New("write to the parent")

func (s *server) send(k kind, id uint32, v any) error {
	b, err := marshal(k, id, v)
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, err := s.conn.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errWrite, err)
	}
	return nil
}
