package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"steno/internal/proc"
	"steno/models"
	"steno/transcript"
)

// Process is a model in a process of its own; it implements models.Engine. It is safe for concurrent use; more than
// Info().States requests wait for each other.
type Process struct {
	cfg  Config
	cmd  *exec.Cmd
	conn *os.File
	tail *proc.Tail
	oom  *oomCounter

	out     chan []byte   // frames to write, unbuffered: a sender that gives up has sent nothing
	control chan frame    // hello, loaded and a failed load
	slots   chan struct{} // one per decode state in use; made before Start returns
	reaped  chan struct{} // closed when the child has been waited for
	started chan struct{} // closed when Start is about to return
	done    chan struct{}
	silent  atomic.Int32 // watchdog ticks since the last frame

	mu      sync.Mutex // guards what follows
	info    models.Info
	calls   map[uint32]*call
	lastID  uint32
	pace    float64 // seconds per second of audio
	wear    wear
	closing bool
	cause   error // why the parent killed the child
	err     error // set before done is closed
}

// Start starts a child and loads a model in it. When ctx ends before that is done, the child is killed; afterwards the engine
// lives until Close or its death. The error is ErrBadFile, models.ErrOutOfMemory or models.ErrEngineDied where it is one
// of them.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	began := time.Now()
	p, err := spawn(cfg)
	if err == nil {
		defer close(p.started)
		err = p.handshake(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("load model %s on %s: %w", cfg.Load.Model, cfg.Load.Device, err)
	}
	p.cfg.Observer.started(p.Info(), time.Since(began))
	return p, nil
}

// spawn starts the child and the goroutines around it.
func spawn(cfg Config) (*Process, error) {
	cfg.Limits = cfg.Limits.WithDefaults()
	if len(cfg.Command) == 0 {
		cfg.Command = defaultCommand()
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "engine socket"), os.NewFile(uintptr(fds[1]), "engine socket of the child")
	defer theirs.Close()
	p := &Process{
		cfg: cfg, conn: ours, tail: &proc.Tail{}, oom: newOOMCounter(),
		out: make(chan []byte), control: make(chan frame, 2),
		reaped: make(chan struct{}), started: make(chan struct{}), done: make(chan struct{}),
		calls: map[uint32]*call{}, pace: cfg.Limits.Pace,
	}
	said := newStderr(p.tail, cfg)
	p.cmd, err = cfg.start(func() (*exec.Cmd, error) {
		// The engine outlives the request that started it: no context ends it.
		cmd := exec.CommandContext(context.Background(), cfg.Command[0], cfg.Command[1:]...)
		cmd.Args[0] = childName(cfg.Command[0])
		cmd.Env = proc.Env(cfg.Env, allowedEnv...)
		cmd.ExtraFiles = []*os.File{theirs}
		cmd.Stderr = said
		proc.Harden(cmd)
		return cmd, nil
	})
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start %s: %w", cfg.Command[0], err)
	}
	p.offer()
	go p.supervise(said)
	go p.write()
	return p, nil
}

// oomScore adds half of all memory to the child's badness, as the kernel counts it.
const oomScore = 500

// offer offers the child to the kernel's out-of-memory killer before this process. It cannot do so itself, confined as it is. A
// kernel that refuses is no reason to refuse work.
func (p *Process) offer() {
	path := fmt.Sprintf("/proc/%d/oom_score_adj", p.cmd.Process.Pid)
	_ = os.WriteFile(path, []byte(strconv.Itoa(oomScore)), 0)
}

// start starts the child that build makes, confined where it runs on a CPU.
func (c Config) start(build func() (*exec.Cmd, error)) (*exec.Cmd, error) {
	if c.Load.Device != "cpu" && c.Load.Device != "" {
		cmd, err := build()
		if err == nil {
			err = proc.Start(cmd)
		}
		return cmd, err
	}
	may := proc.Confinement{
		Read: []string{
			c.Load.Path, c.Load.VADPath, "/sys/devices/system", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage",
			"/proc", // what others keep to themselves there is not shown to a confined process
		},
	}
	for _, kv := range c.Env {
		if dir, ok := strings.CutPrefix(kv, "GOCOVERDIR="); ok { // coverage of tests
			may.Write, may.FileSize = append(may.Write, dir), 1<<30
		}
	}
	return c.Sandbox.Start(build, may)
}

// handshake brings the child to a loaded model, or kills it and waits for its end.
func (p *Process) handshake(ctx context.Context) error {
	err := p.load(ctx)
	if err == nil {
		return nil
	}
	p.kill(err)
	<-p.done
	// A child that ended first tells more than the handshake that failed for it.
	if died := p.Err(); p.endedByItself() {
		return died
	}
	// The library tells of memory on stderr only, which is complete now.
	if _, said := errors.AsType[*remoteError](err); said && !errors.Is(err, ErrBadFile) && memoryText.MatchString(p.tail.String()) {
		return fmt.Errorf("%w: %w", models.ErrOutOfMemory, err)
	}
	return err
}

func (p *Process) load(ctx context.Context) error {
	l := p.cfg.Limits
	f, err := p.await(ctx, kindHello, l.Handshake)
	if err != nil {
		return err
	}
	h, err := unmarshal[hello](f)
	if err != nil {
		return err
	}
	if h.Protocol != protocol || h.Version != p.cfg.Version {
		return fmt.Errorf("the engine is steno %s with protocol %d, this is %s with %d: restart the worker after an update",
			h.Version, h.Protocol, p.cfg.Version, protocol)
	}
	b, err := marshal(kindLoad, 0, load{LoadRequest: p.cfg.Load, Beat: l.Silence / 10})
	if err != nil {
		return err
	}
	if err := p.send(ctx, b); err != nil {
		return err
	}
	go p.watch()
	if f, err = p.await(ctx, kindLoaded, l.Load); err != nil {
		return err
	}
	info, err := unmarshal[models.Info](f)
	if err != nil {
		return err
	}
	if info.States < 1 || info.PID != p.cmd.Process.Pid {
		return fmt.Errorf("%w: an engine with %d states and process id %d", ErrProtocol, info.States, info.PID)
	}
	info.Bytes = max(info.Bytes, p.cfg.Bytes)
	p.slots = make(chan struct{}, info.States)
	p.mu.Lock()
	p.info = info
	p.mu.Unlock()
	return nil
}

// await waits for one frame of the handshake.
func (p *Process) await(ctx context.Context, want kind, limit time.Duration) (frame, error) {
	t := time.NewTimer(limit)
	defer t.Stop()
	var f frame
	select {
	case f = <-p.control:
	case <-ctx.Done():
		return frame{}, context.Cause(ctx)
	case <-t.C:
		return frame{}, fmt.Errorf("%w: no answer within %s", ErrStalled, limit)
	case <-p.done:
		// What it said before it ended counts.
		select {
		case f = <-p.control:
		default:
			return frame{}, p.Err()
		}
	}
	if f.kind == want {
		return f, nil
	}
	if f.kind == kindFailed {
		msg, err := unmarshal[failure](f)
		if err != nil {
			return frame{}, err
		}
		return frame{}, msg.toError()
	}
	return frame{}, fmt.Errorf("%w: frame type %d in the handshake", ErrProtocol, f.kind)
}

// Info describes the loaded model.
func (p *Process) Info() models.Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.info
}

// Done is closed when the child has ended and its memory is back.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the engine ended: ErrClosed after Close, and else an error that is models.ErrEngineDied. It is nil before.
func (p *Process) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Close asks the child to end, kills it after Limits.Close, and returns when it is gone and its memory is back.
func (p *Process) Close() error {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Limits.Close)
	defer cancel()
	if b, err := encode(kindShutdown, 0); err == nil {
		_ = p.send(ctx, b) // a child that does not read is killed below
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill(ErrClosed)
		<-p.done
	}
	return nil
}

// send hands one frame to the writer and gives up with ctx or the child.
func (p *Process) send(ctx context.Context, b []byte) error {
	select {
	case p.out <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.done:
		return p.Err()
	}
}

// write owns the writing side of the socket. It blocks while the child does not read; the end of the child ends that.
func (p *Process) write() {
	for {
		select {
		case b := <-p.out:
			if _, err := p.conn.Write(b); err != nil {
				return
			}
		case <-p.done:
			return
		}
	}
}

// kill ends the child's group at once. The first cause counts.
func (p *Process) kill(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.reaped:
		// Its id may belong to somebody else by now.
		return
	default:
	}
	if p.cause == nil {
		p.cause = cause
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}

// endedByItself tells whether the child ended without being killed here. Call it after done.
func (p *Process) endedByItself() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause == nil
}

// supervise owns the child's end: it reads until the socket does, waits for the process, and tells everybody.
func (p *Process) supervise(said *stderr) {
	var exit error
	go func() {
		exit = p.cmd.Wait()
		said.flush()
		close(p.reaped)
		// Whatever the child still said is in the socket; only a process it left behind could hold it open.
		_ = p.conn.SetReadDeadline(time.Now().Add(lastWords))
	}()
	if err := p.read(); errors.Is(err, ErrProtocol) {
		p.kill(err)
	}
	select {
	case <-p.reaped:
	case <-time.After(lastWords):
		p.kill(errors.New("it closed its connection and did not exit"))
		<-p.reaped
	}
	p.conn.Close()
	p.mu.Lock()
	p.err = p.verdict(exit)
	p.mu.Unlock()
	close(p.done)
	<-p.started
	if i := p.Info(); i.PID != 0 {
		p.cfg.Observer.ended(i, p.Err())
	}
}

// lastWords is how long the end of the socket and the end of the process may lie apart.
const lastWords = 500 * time.Millisecond

// read handles the child's frames until the socket ends.
func (p *Process) read() error {
	r := bufio.NewReaderSize(p.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		p.silent.Store(0)
		if err := p.handle(f); err != nil {
			return err
		}
	}
}

func (p *Process) handle(f frame) error {
	switch f.kind {
	case kindHeartbeat:
		pulses, err := unmarshal[[]pulse](f)
		if err == nil {
			p.feel(pulses)
		}
		return err
	case kindSegments:
		segs, err := unmarshal[[]transcript.Segment](f)
		if err != nil {
			return err
		}
		return p.emit(f.id, segs)
	case kindResult:
		res, err := unmarshal[models.Result](f)
		if err != nil {
			return err
		}
		return p.finish(f.id, res, nil)
	case kindFailed:
		if f.id != 0 {
			msg, err := unmarshal[failure](f)
			if err != nil {
				return err
			}
			return p.finish(f.id, models.Result{}, msg.toError())
		}
		fallthrough
	case kindHello, kindLoaded:
		select {
		case p.control <- f:
			return nil
		default:
		}
	}
	return fmt.Errorf("%w: unexpected frame type %d", ErrProtocol, f.kind)
}
