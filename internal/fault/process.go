package fault

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"steno/internal/proc"
)

// process is a child with its log.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   *logFile
	ended chan struct{}
	err   error // how it ended; read it after ended is closed
}

// logFile keeps what a process writes, in a file and, for those who wait for a line, in memory. Safe for concurrent use.
type logFile struct {
	mu   sync.Mutex
	file *os.File
	text bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	return l.file.Write(p)
}

func (l *logFile) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text.Bytes(), []byte(s))
}

func (l *logFile) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte(s))
}

func (l *logFile) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.text.Bytes()
	return string(b[max(0, len(b)-4096):])
}

// site is where a row's processes run. It is safe for concurrent use.
type site struct {
	Programs
	folder string // for logs and data

	mu  sync.Mutex
	all []*process
}

// left returns the processes that have not ended within a time, and those below them.
func (s *site) left(within time.Duration) []child {
	s.mu.Lock()
	defer s.mu.Unlock()
	var still []child
	end := time.Now().Add(within)
	for _, p := range s.all {
		if !p.waitFor(time.Until(end)) {
			still = append(append(still, child{pid: p.pid(), name: p.name}), children(p.pid())...)
		}
	}
	return still
}

// start runs a program until its end or that of ctx. Its log is added to name.log in the site's folder.
func (s *site) start(ctx context.Context, name, path string, env []string, args ...string) (*process, error) {
	f, err := os.OpenFile(filepath.Join(s.folder, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, log: &logFile{file: f}, ended: make(chan struct{})}
	p.cmd = proc.Command(ctx, path, args...)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, p.log, p.log
	if err := proc.Start(p.cmd); err != nil {
		f.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.mu.Lock()
	s.all = append(s.all, p)
	s.mu.Unlock()
	go func() {
		p.err = p.cmd.Wait()
		f.Close()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal sends it a signal, if it still runs.
func (p *process) signal(s syscall.Signal) {
	if p.alive() {
		_ = p.cmd.Process.Signal(s) // an error means that it has ended
	}
}

// kill ends it by SIGKILL and waits.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// waitFor waits until it has ended; false where it has not in time.
func (p *process) waitFor(within time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(within):
		return false
	}
}

// says waits until its log has a line.
func (p *process) says(line string, within time.Duration) error {
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		switch {
		case p.log.contains(line):
			return nil
		case !p.alive():
			return fmt.Errorf("%s ended before it said %q: %w\n%s", p.name, line, p.err, p.log.tail())
		case time.Now().After(end):
			return fmt.Errorf("%s did not say %q within %s\n%s", p.name, line, within, p.log.tail())
		}
	}
}

// killed tells whether it ended by SIGKILL.
func (p *process) killed() bool {
	var exit *exec.ExitError
	return errors.As(p.err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// child is a process below another one.
type child struct {
	pid  int
	name string
	born string // with the pid it names a process for good
}

// children lists the processes below a pid, those of children included.
func children(pid int) []child {
	parents := map[int][]child{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, path := range stats {
		c, parent, ok := readStat(path)
		if ok {
			parents[parent] = append(parents[parent], c)
		}
	}
	var all []child
	for todo := []int{pid}; len(todo) > 0; todo = todo[1:] {
		for _, c := range parents[todo[0]] {
			all = append(all, c)
			todo = append(todo, c.pid)
		}
	}
	return all
}

// readStat reads a process that is there and no zombie.
func readStat(path string) (c child, parent int, ok bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return c, 0, false
	}
	// pid (name) state ppid … starttime; the name may hold spaces and brackets.
	i := bytes.LastIndex(data, []byte(") "))
	head, rest := string(data[:max(i, 0)]), strings.Fields(string(data[min(i+2, len(data)):]))
	id, name, found := strings.Cut(head, " (")
	if i < 0 || !found || len(rest) < 20 || rest[0] == "Z" || rest[0] == "X" {
		return c, 0, false
	}
	c = child{name: name, born: rest[19]}
	if c.pid, err = strconv.Atoi(id); err != nil {
		return c, 0, false
	}
	parent, err = strconv.Atoi(rest[1])
	return c, parent, err == nil
}

// left returns those that still run after a time, by which all should be gone.
func left(all []child, within time.Duration) []child {
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		all = slices.DeleteFunc(slices.Clone(all), func(c child) bool {
			now, _, ok := readStat(fmt.Sprintf("/proc/%d/stat", c.pid))
			return !ok || now.born != c.born
		})
		if len(all) == 0 || time.Now().After(end) {
			return all
		}
	}
}

// freeAddress returns a loopback address that nobody listens on, below the ports that the kernel gives to connections, so that it
// stays free while its process is started again and again.
func freeAddress() (string, error) {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		if ln, err := net.Listen("tcp", address); err == nil { //nolint:noctx // it is closed at once
			return address, ln.Close()
		}
	}
	return "", errors.New("no free port between 20000 and 30000")
}

// metrics reads a Prometheus page: the sum of all series of each name, and each series by its full name.
func metrics(ctx context.Context, address string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	all := map[string]float64{}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		series := line[:i]
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("read metrics: %w", err)
		}
		all[series] = v
		if name, _, labels := strings.Cut(series, "{"); labels {
			all[name] += v
		}
	}
	return all, nil
}
