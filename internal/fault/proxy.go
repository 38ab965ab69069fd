package fault

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Proxy passes TCP connections on, late or not at all. It is safe for concurrent use.
type Proxy struct {
	target string
	ln     net.Listener
	all    sync.WaitGroup

	mu    sync.Mutex
	delay time.Duration
	cut   bool
	conns map[net.Conn]bool
}

// newProxy listens on a loopback address of its own.
func newProxy(target string) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Close ends it
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, ln: ln, conns: map[net.Conn]bool{}}
	p.all.Go(p.serve)
	return p, nil
}

// URL is what a NATS client connects to.
func (p *Proxy) URL() string { return "nats://" + p.ln.Addr().String() }

// Delay makes each piece of data wait, in both directions.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Cut ends all connections, and refuses others until it is called with false.
func (p *Proxy) Cut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for c := range p.conns {
			c.Close()
		}
	}
}

// Close ends all.
func (p *Proxy) Close() {
	p.ln.Close()
	p.Cut(true)
	p.all.Wait()
}

// keep registers a connection that Cut is to end; false where it is cut already.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	c.Close()
}

func (p *Proxy) serve() {
	dialer := net.Dialer{Timeout: time.Second}
	for {
		in, err := p.ln.Accept()
		if err != nil {
			return
		}
		out, err := dialer.DialContext(context.Background(), "tcp", p.target)
		if err != nil {
			in.Close()
			continue
		}
		if !p.keep(in) || !p.keep(out) {
			in.Close()
			out.Close()
			continue
		}
		p.all.Go(func() { p.pass(in, out) })
		p.all.Go(func() { p.pass(out, in) })
	}
}

// piece is data with the time at which it may be passed on.
type piece struct {
	data []byte
	due  time.Time
}

// pass copies one direction: latency delays data, and does not make it fewer.
func (p *Proxy) pass(from, to net.Conn) {
	defer p.drop(from)
	defer p.drop(to)
	queue := make(chan piece, 1024)
	var writer sync.WaitGroup
	writer.Go(func() {
		for q := range queue {
			time.Sleep(time.Until(q.due))
			if _, err := to.Write(q.data); err != nil {
				from.Close()
				_, _ = io.Copy(io.Discard, from)
			}
		}
	})
	defer writer.Wait()
	defer close(queue)
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		p.mu.Lock()
		due := time.Now().Add(p.delay)
		p.mu.Unlock()
		if n > 0 {
			queue <- piece{buf[:n], due}
		}
		if err != nil {
			return
		}
	}
}
