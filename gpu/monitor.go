package gpu

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"steno/internal/proc"
)

// MonitorConfig says how a driver is asked.
type MonitorConfig struct {
	// Command starts the child that runs Serve, and Args0 is what it is called in lists of processes. Empty means no cards.
	Command []string
	Args0   string
	// Env is the environment, of which the child gets what concerns the driver. CUDA_VISIBLE_DEVICES picks among the cards.
	Env []string
	// Timeout bounds one answer. Default 20 seconds: without its persistence mode a driver takes up to two seconds to open a GPU.
	Timeout time.Duration
	// Log takes failures. Default none.
	Log *slog.Logger
}

// Monitor asks NVIDIA's driver what its cards do. It asks through a child process, for a driver whose GPU has fallen off the bus
// may hang or end whoever calls it. Make one with NewMonitor and Close it. It is safe for concurrent use.
type Monitor struct {
	cfg MonitorConfig

	mu    sync.Mutex // one question at a time
	child *child     // nil while none runs

	seen sync.Mutex // guards what follows
	last []Card     // of the last question that was answered
	err  error      // of the last question
	at   time.Time
}

type child struct {
	cmd     *exec.Cmd
	stderr  *proc.Tail
	in      io.WriteCloser
	answers chan answer
}

// answer is a line of Serve.
type answer struct {
	Cards []Card `json:"cards,omitempty"`
	Error string `json:"error,omitempty"`
}

// NewMonitor makes a monitor. The child is started by the first question.
func NewMonitor(cfg MonitorConfig) *Monitor {
	cfg.Timeout = cmp.Or(cfg.Timeout, 20*time.Second)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Monitor{cfg: cfg}
}

// Cards asks the driver now. Where it does not answer in time its child is killed, and the next question starts another.
func (m *Monitor) Cards(ctx context.Context) ([]Card, error) {
	if len(m.cfg.Command) == 0 {
		return nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	cards, err := m.ask(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, err // who asked has given up, which says nothing of the driver
	}
	if err != nil {
		m.cfg.Log.Warn("the GPUs cannot be asked", "error", err)
	}
	for _, kv := range m.cfg.Env {
		if list, ok := strings.CutPrefix(kv, "CUDA_VISIBLE_DEVICES="); ok {
			cards = visible(cards, list)
		}
	}
	m.seen.Lock()
	defer m.seen.Unlock()
	m.err, m.at = err, time.Now()
	if err == nil {
		m.last = cards
	}
	return cards, err
}

// Known is what the driver said when it answered last, and the error of a later question that it did not answer. The first
// question is asked now.
func (m *Monitor) Known() ([]Card, error) {
	m.seen.Lock()
	asked := !m.at.IsZero()
	m.seen.Unlock()
	if !asked {
		_, _ = m.Cards(context.Background()) // kept, as are the cards
	}
	m.seen.Lock()
	defer m.seen.Unlock()
	return m.last, m.err
}

// ask has the child answer. mu is held.
func (m *Monitor) ask(ctx context.Context) ([]Card, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.cfg.Timeout,
		fmt.Errorf("the driver has not answered within %s", m.cfg.Timeout))
	defer cancel()
	if m.child == nil {
		c, err := m.start()
		if err != nil {
			return nil, err
		}
		m.child = c
	}
	c := m.child
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		return nil, errors.Join(fmt.Errorf("ask the driver: %w", err), m.end())
	}
	select {
	case a, ok := <-c.answers:
		switch {
		case !ok:
			return nil, errors.Join(errors.New("the process that asks the driver has ended"), m.end())
		case a.Error != "":
			return nil, errors.Join(errors.New(a.Error), m.end())
		}
		return a.Cards, nil
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), m.end())
	}
}

// start starts the child.
func (m *Monitor) start() (*child, error) {
	cmd := exec.CommandContext(context.Background(), m.cfg.Command[0], m.cfg.Command[1:]...) // it outlives the question
	cmd.Args[0] = cmp.Or(m.cfg.Args0, cmd.Args[0])
	cmd.Env = proc.Env(m.cfg.Env, "PATH", "LD_LIBRARY_PATH", "GOCOVERDIR")
	tail := &proc.Tail{}
	cmd.Stderr = tail
	proc.Harden(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	if err := proc.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	c := &child{cmd: cmd, stderr: tail, in: in, answers: make(chan answer, 1)}
	go c.read(out)
	return c, nil
}

// read brings the child's answers, until its end.
func (c *child) read(out io.Reader) {
	defer close(c.answers)
	for lines := json.NewDecoder(out); ; {
		var a answer
		if lines.Decode(&a) != nil {
			return
		}
		c.answers <- a
	}
}

// end kills the child and returns how it ended, where that was not our doing. mu is held.
func (m *Monitor) end() error {
	c := m.child
	m.child = nil
	_ = c.in.Close()
	_ = c.cmd.Process.Kill() // it may have ended
	for range c.answers {
	}
	err := c.cmd.Wait()
	if proc.Signal(err) == syscall.SIGKILL {
		return nil
	}
	said, _, _ := strings.Cut(strings.TrimSpace(c.stderr.String()), "\n") // what follows is a trace
	if err != nil && said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// Watch asks the driver again and again, until ctx ends, so that Machine.Devices has something recent to tell.
func (m *Monitor) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		_, _ = m.Cards(ctx) // it has logged why not
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends the child. The monitor may be asked again after it.
func (m *Monitor) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.child == nil {
		return nil
	}
	return m.end()
}

// Serve answers each line of in with the cards that read finds, until in ends. It is what the child of a Monitor does.
func Serve(in io.Reader, out io.Writer, read func() ([]Card, error)) error {
	w := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var a answer
		cards, err := read()
		if a.Cards = cards; err != nil {
			a.Error = err.Error()
		}
		if err := w.Encode(a); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return nil
}
