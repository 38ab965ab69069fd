package fault

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// overload asks a node for more than it can do (F14): readers that take a byte a second, followers of events that never read, and
// creates as fast as they are answered. What is too much is refused with a time to come back, what was accepted is done, others
// are answered all the while, and memory stays within bounds.
func (r *run) overload(ctx context.Context, f *injection, n int) (Row, error) {
	flood := 20 * time.Second
	if r.Tier == T1 {
		flood = 10 * time.Minute
	}
	limits := func(n *Node) { n.env = []string{"STENO_USER_RATE=5"} } // as many jobs as the node does
	node, o, err := r.node(ctx, f, "10ms", []int{1, 2}, limits)
	if err != nil {
		return Row{}, err
	}
	o.Fault("slow readers and a flood")
	slow, stop := context.WithCancel(ctx)
	defer stop()
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	// 7.7 MB: more than any socket's buffers hold.
	big := &Sound{name: "long.wav", data: speech(r.Seed, 240)}
	if big.id, err = o.client.upload(ctx, big.name, big.data); err != nil {
		return Row{}, err
	}
	long, err := o.Submit(ctx, big, "pace 1000", want{state: "cancelled"}) // that there is something to follow
	if err != nil {
		return Row{}, err
	}
	open := 0
	for i := range n {
		path := "/api/v1/files/" + big.id + "/content"
		if i%10 == 9 {
			path = "/api/v1/transcription/" + long + "/events"
		}
		conn, err := o.client.slow(slow, path)
		if err != nil {
			return Row{}, err
		}
		open++
		readers.Go(func() { trickle(slow, conn) })
	}
	var mu sync.Mutex
	answers, longest := map[int]int{}, time.Duration(0)
	bare := 0 // refusals that do not say when to come back
	most, err := node.peak(ctx, func() error {
		var clients errgroup.Group
		end := time.Now().Add(flood)
		for range 10 {
			clients.Go(func() error {
				for time.Now().Before(end) {
					status, after, err := o.ask(ctx)
					if err != nil {
						return err
					}
					mu.Lock()
					answers[status]++
					if status != http.StatusCreated && after == "" {
						bare++
					}
					mu.Unlock()
					if status != http.StatusCreated { // a client that heeds nothing, but has to wait for the answer
						time.Sleep(20 * time.Millisecond)
					}
				}
				return nil
			})
		}
		clients.Go(func() error { // and one who only looks
			for time.Now().Before(end) {
				began := time.Now()
				if _, err := o.client.call(ctx, "GET", "/api/v1/user/history?limit=1", nil); err != nil {
					return err
				}
				mu.Lock()
				longest = max(longest, time.Since(began))
				mu.Unlock()
				time.Sleep(100 * time.Millisecond)
			}
			return nil
		})
		return clients.Wait()
	})
	if err != nil {
		return Row{}, err
	}
	stop()
	if err := o.Cancel(ctx, long); err != nil {
		return Row{}, err
	}
	if err := node.Restart(ctx, o, nil); err != nil { // without limits, for the oracle has much to ask
		return Row{}, err
	}
	for status := range answers {
		if status != http.StatusCreated && !slices.Contains(comeAgain, status) {
			o.Wrong("F14", "%d of the creates were answered with %d", answers[status], status)
		}
	}
	if bare > 0 {
		o.Wrong("F14", "%d refusals had no Retry-After", bare)
	}
	if answers[http.StatusCreated] == 0 || len(answers) < 2 {
		o.Wrong("F14", "it was no overload: %v", answers)
	}
	const bound = 400
	if most > bound {
		o.Wrong("I6", "the node took %.0f MiB, more than %d", most, bound)
	}
	v, err := r.verdict(ctx, o, node, 15*time.Minute)
	v.Recovery = nil
	return Row{Injected: open, Verdict: v, Notes: []string{
		fmt.Sprintf("%s of creates as fast as answered: %v (status: times)", flood, answers),
		fmt.Sprintf("another's page took at most %.2f s", longest.Seconds()), fmt.Sprintf("RSS at most %.0f MiB", most),
	}}, err
}

// slow sends a request and returns its connection with nothing read.
func (c *Client) slow(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: steno\r\nAuthorization: Bearer %s\r\n\r\n", path, c.bearer())
	return conn, err
}

// trickle reads a byte a second until ctx ends or the other side has had enough.
func trickle(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	var b [1]byte
	for wait(ctx, time.Second) {
		if _, err := conn.Read(b[:]); err != nil {
			return
		}
	}
}

// peak is the most resident memory, in MiB, that the node's own process takes while work runs.
func (n *Node) peak(ctx context.Context, work func() error) (float64, error) {
	done := make(chan error, 1)
	go func() { done <- work() }()
	most := 0.0
	for tick := time.NewTicker(time.Second); ; {
		select {
		case err := <-done:
			tick.Stop()
			return most, err
		case <-tick.C:
			if m, err := metrics(ctx, n.admin); err == nil {
				most = max(most, m["process_resident_memory_bytes"]/(1<<20))
			}
		}
	}
}
