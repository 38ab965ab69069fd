package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// names is a name server on loopback. Each name has a list of answers: one for each look-up, the last again and again.
type names struct {
	conn    net.PacketConn
	mu      sync.Mutex
	answers map[string][][]netip.Addr
	asked   map[string]int
}

func newNames(t *testing.T) *names {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{conn: conn, answers: map[string][][]netip.Addr{}, asked: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := make([]byte, 4096); ; {
			size, from, err := conn.ReadFrom(p)
			if err != nil {
				return
			}
			if reply := n.reply(p[:size]); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return n
}

// reply makes an answer by RFC 1035: the question again, and the addresses of the type that it asks for.
func (n *names) reply(q []byte) []byte {
	if len(q) < 17 {
		return nil
	}
	var labels []string
	at := 12
	for at < len(q) && q[at] != 0 {
		end := at + 1 + int(q[at])
		if end >= len(q) {
			return nil
		}
		labels = append(labels, string(q[at+1:end]))
		at = end
	}
	if at+5 > len(q) {
		return nil
	}
	kind := binary.BigEndian.Uint16(q[at+1:])
	var body []byte
	count := 0
	for _, a := range n.look(strings.ToLower(strings.Join(labels, ".")), kind) {
		if data := a.AsSlice(); kind == 1 && a.Is4() || kind == 28 && a.Is6() {
			body = append(body, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(data)))
			body = append(body, data...)
			count++
		}
	}
	out := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, byte(count), 0, 0, 0, 0}, q[12:at+5]...)
	return append(out, body...)
}

// look counts look-ups by their questions for IPv4: each comes with one for IPv6.
func (n *names) look(name string, kind uint16) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.answers[name]
	if len(list) == 0 {
		return nil
	}
	i := min(n.asked[name+fmt.Sprint(kind)], len(list)-1)
	n.asked[name+fmt.Sprint(kind)]++
	return list[i]
}

func (n *names) set(name string, answers ...[]netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[name] = answers
}

// client is that of webhooks, with this name server in place of the machine's.
func (n *names) client(p Policy) *http.Client {
	c := WebhookConfig{Policy: p, Timeout: 2 * time.Second}
	d := p.dialer(c.Timeout)
	d.Resolver = &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", n.conn.LocalAddr().String())
	}}
	return newClient(c, d)
}

// pair are two servers with one port: that of 127.0.0.2 may be called, that of 127.0.0.1 is what must never be reached.
func pair(t *testing.T, allowed http.HandlerFunc) (port uint16, reached *atomic.Int32) {
	t.Helper()
	inside, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = netip.MustParseAddrPort(inside.Addr().String()).Port()
	outside, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", fmt.Sprintf("127.0.0.2:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	reached = new(atomic.Int32)
	for ln, h := range map[net.Listener]http.HandlerFunc{outside: allowed, inside: func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	}} {
		s := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}}
		if ln == inside {
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					reached.Add(1)
				}
			}
		}
		s.Start()
		t.Cleanup(s.Close)
	}
	return port, reached
}

func post(t *testing.T, c *http.Client, url string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		return 0, err
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// second is the one address that these tests may call.
var second = Policy{HTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}}

// Names that stand for what is not the public internet are blocked when they are dialled, whichever form the address has.
func TestNamesOfInnerAddresses(t *testing.T) {
	t.Parallel()
	n := newNames(t)
	port, reached := pair(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	client := n.client(second)
	inner := []string{
		// this machine, and what Linux takes for it
		"127.0.0.1", "127.0.0.3", "127.255.255.254", "0.0.0.0", "0.0.0.1", "::", "::1", "::127.0.0.1",
		// the same in forms of IPv6 that hold an IPv4 address: mapped, NAT64 with both prefixes, 6to4, Teredo, SIIT
		"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1",
		"2002:7f00:1::1", "2001:0:7f00:1::1", "::ffff:0:127.0.0.1",
		// metadata of clouds: AWS, Azure, Google; Alibaba, Oracle, AWS by IPv6, Azure's host, ECS tasks
		"169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "168.63.129.16", "169.254.170.2",
		// link-local, private, carrier-grade
		"169.254.0.1", "fe80::1", "fec0::1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12::1",
		// many at once, reserved, documentation, benchmarks
		"224.0.0.1", "239.1.2.3", "ff02::1", "ff0e::1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1",
		"2001:db8::1", "3fff::1", "198.18.0.1", "100::1", "5f00::1",
	}
	blocked := 0
	for i, text := range inner {
		addr := netip.MustParseAddr(text)
		if second.allows(addr) {
			t.Errorf("%s may be called", addr)
		}
		name := fmt.Sprintf("n%d.example", i)
		n.set(name, []netip.Addr{addr})
		url := fmt.Sprintf("http://%s:%d/", name, port)
		if err := second.Check(url); err != nil {
			t.Errorf("%s: %v: a name is no address before it is looked up", url, err)
		}
		_, err := post(t, client, url)
		switch {
		case errors.Is(err, ErrBlocked):
			blocked++
		case err == nil || addr.Unmap().Is4(): // a machine without IPv6 does not even try it
			t.Errorf("%s: %v", addr, err)
		}
		// Written out, it is refused before there is anything to call, and if it were not, when it is dialled.
		literal := fmt.Sprintf("http://%s/", netip.AddrPortFrom(addr, port))
		if err := second.Check(literal); err == nil {
			t.Errorf("%s passes", literal)
		}
		if _, err := post(t, client, literal); err == nil {
			t.Errorf("%s is called", literal)
		}
	}
	// Forms that C libraries take for addresses: whatever the look-up makes of them is checked as anything else.
	odd := []string{
		"2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.1", "0x7f.1", "017700000001", "0", "localhost", "LOCALHOST", "localhost.",
		"127.0.0.1.nip.example", "xn--12-x.example",
	}
	for _, host := range odd {
		n.set(strings.ToLower(strings.TrimSuffix(host, ".")), []netip.Addr{netip.MustParseAddr("127.0.0.1")})
		if code, err := post(t, client, fmt.Sprintf("http://%s:%d/", host, port)); err == nil {
			t.Errorf("%s is called: %d", host, code)
		}
	}
	t.Logf("%d addresses, of which %d were blocked by name when dialled, and %d odd forms; the machine was reached %d times",
		len(inner), blocked, len(odd), reached.Load())
	if r := reached.Load(); r != 0 || len(inner)+len(odd) < 40 {
		t.Errorf("%d connections to the machine itself", r)
	}
	n.set("good.example", []netip.Addr{netip.MustParseAddr("127.0.0.2")})
	if code, err := post(t, client, fmt.Sprintf("http://good.example:%d/", port)); code != http.StatusNoContent {
		t.Errorf("what may be called: %d, %v", code, err)
	}
}

// A name that means something else at the next look-up, or two things at once, does not get past the check: it is made for the very
// address that is dialled, in each call anew.
func TestRebinding(t *testing.T) {
	t.Parallel()
	good, bad := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	n := newNames(t)
	port, reached := pair(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	client := n.client(second)
	n.set("turns.example", []netip.Addr{good}, []netip.Addr{bad}, []netip.Addr{good}, []netip.Addr{bad})
	for i := range 6 {
		code, err := post(t, client, fmt.Sprintf("http://turns.example:%d/", port))
		if want := i == 0 || i == 2; want != (code == http.StatusNoContent) || !want && !errors.Is(err, ErrBlocked) {
			t.Errorf("call %d: %d, %v", i, code, err)
		}
	}
	n.set("both.example", []netip.Addr{bad, good})
	n.set("both2.example", []netip.Addr{good, bad})
	for _, name := range []string{"both.example", "both2.example"} {
		if code, err := post(t, client, fmt.Sprintf("http://%s:%d/", name, port)); err == nil && code != http.StatusNoContent {
			t.Errorf("%s: %d", name, code)
		}
	}
	if r := reached.Load(); r != 0 {
		t.Errorf("%d connections to what must not be called", r)
	}
}

// No redirect is followed, whatever its status and wherever it leads.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	n := newNames(t)
	n.set("good.example", []netip.Addr{netip.MustParseAddr("127.0.0.2")})
	var status, calls atomic.Int32
	var to atomic.Value
	port, reached := pair(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Location", to.Load().(string))
		w.WriteHeader(int(status.Load()))
	})
	client := n.client(second)
	asked := int32(0)
	for _, code := range []int32{301, 302, 303, 307, 308} {
		for _, where := range []string{
			fmt.Sprintf("http://127.0.0.1:%d/", port), fmt.Sprintf("http://good.example:%d/again", port), "http://169.254.169.254/latest/",
			"file:///etc/passwd", "gopher://127.0.0.1:1/", fmt.Sprintf("//127.0.0.1:%d", port),
		} {
			status.Store(code)
			to.Store(where)
			asked++
			if got, err := post(t, client, fmt.Sprintf("http://good.example:%d/", port)); got != int(code) {
				t.Errorf("%d to %s: %d, %v", code, where, got, err)
			}
		}
	}
	if calls.Load() != asked || reached.Load() != 0 {
		t.Errorf("%d calls made %d, and %d to the machine itself", asked, calls.Load(), reached.Load())
	}
}

// A proxy of the environment would dial in the place of the client, past its check.
func TestNoProxy(t *testing.T) {
	port, reached := pair(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	t.Setenv("HTTP_PROXY", fmt.Sprintf("http://127.0.0.1:%d", port))
	t.Setenv("ALL_PROXY", fmt.Sprintf("http://127.0.0.1:%d", port))
	n := newNames(t)
	n.set("good.example", []netip.Addr{netip.MustParseAddr("127.0.0.2")})
	client := n.client(second)
	if tr, ok := client.Transport.(*http.Transport); !ok || tr.Proxy != nil {
		t.Error("the client asks for a proxy")
	}
	if code, err := post(t, client, fmt.Sprintf("http://good.example:%d/", port)); code != http.StatusNoContent || reached.Load() != 0 {
		t.Errorf("%d, %v, and %d calls of the proxy", code, err, reached.Load())
	}
}
