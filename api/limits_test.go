package api_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"steno/api"
	"steno/job"
)

// A user may send so many requests a second, and twice as many at once; who waits as Retry-After says gets through.
func TestUserRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, func(c *api.Config) { c.UserRate = 2 })
		var k keyOf
		b.call(b.ada, "POST", "/api/v1/user/keys", map[string]string{"name": "laptop"}).want(201).json(&k)
		program := user{b.ada.User, k.Key}
		for _, path := range []string{"/api/v1/user/me", "/v1/models"} { // counted together
			b.call(b.ada, "GET", path, nil).want(200)
		}
		b.from("192.0.2.9:1").call(program, "GET", "/api/v1/user/me", nil).want(200) // wherever, and by a key
		for _, as := range []user{b.ada, program} {
			b.from("192.0.2.9:1").call(as, "GET", "/v1/models", nil).openaiError(429, "rate_limit_error", "TOO_MANY_REQUESTS")
			refused := b.call(as, "GET", "/api/v1/user/me", nil)
			refused.problem(429, "TOO_MANY_REQUESTS")
			if wait := refused.retryAfter(); wait != time.Second {
				t.Errorf("wait for %s", wait)
			}
		}
		for range 4 {
			b.call(b.eve, "GET", "/api/v1/user/me", nil).want(200)
		}
		b.call(user{}, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED")
		b.call(user{token: "x"}, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED")
		time.Sleep(time.Second)
		for range 2 {
			b.call(b.ada, "GET", "/api/v1/user/me", nil).want(200)
		}
		b.call(b.ada, "GET", "/api/v1/user/me", nil).problem(429, "TOO_MANY_REQUESTS")
		time.Sleep(30 * time.Minute) // no more than the burst is saved up, also by those who are not remembered any more
		for range 4 {
			b.call(b.ada, "GET", "/api/v1/user/me", nil).want(200)
		}
		b.call(b.ada, "GET", "/api/v1/user/me", nil).problem(429, "TOO_MANY_REQUESTS")
	})
}

// An address is held to its rate whatever it asks for, but for its health.
func TestAddressRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, func(c *api.Config) { c.AddressRate = 2 })
		b.call(user{}, "GET", "/nothing", nil).want(404)
		b.call(user{}, "GET", "/api/v1/user/me", nil).want(401)
		b.call(b.ada, "GET", "/api/v1/user/me", nil).want(200)
		b.call(user{}, "GET", "/openapi.json", nil).want(200)
		for _, path := range []string{"/nothing", "/openapi.json", "/docs/", "/api/v1/user/me"} {
			refused := b.call(b.eve, "GET", path, nil)
			refused.problem(429, "TOO_MANY_REQUESTS")
			if wait := refused.retryAfter(); wait != time.Second {
				t.Errorf("%s: wait for %s", path, wait)
			}
		}
		b.call(b.eve, "GET", "/v1/models", nil).openaiError(429, "rate_limit_error", "TOO_MANY_REQUESTS")
		b.login("ada", password).problem(429, "TOO_MANY_REQUESTS")
		for range 10 {
			for _, path := range []string{"/health", "/health/ready", "/api/v1/health", "/api/v1/health/ready"} {
				b.call(user{}, "GET", path, nil).want(200)
			}
		}
		b.call(user{}, "GET", "/health/nothing", nil).problem(429, "TOO_MANY_REQUESTS")
		b.from("192.0.2.2:1").call(b.ada, "GET", "/api/v1/user/me", nil).want(200)
		b.from("192.0.2.1:4321").call(b.ada, "GET", "/api/v1/user/me", nil).problem(429, "TOO_MANY_REQUESTS") // another port
		time.Sleep(time.Second)
		b.call(b.ada, "GET", "/api/v1/user/me", nil).want(200)
	})
}

// Whom an address rate counts: the peer, or who a proxy of ours says it is. What comes before that in X-Forwarded-For anybody can
// write there.
func TestForwardedFor(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name, peer string
		header     []string
		counts     string   // calls from there are the same one's
		others     []string // calls from there are not
	}{
		{"no proxy", "198.51.100.1:1", nil, "198.51.100.1:2", []string{"198.51.101.1:1"}},
		{"no proxy of ours", "198.51.100.2:1", []string{"203.0.113.2"}, "198.51.100.2:1", []string{"203.0.113.2:1"}},
		{"proxy", "10.0.0.3:1", []string{"203.0.113.3"}, "203.0.113.3:1", []string{"10.0.0.3:1"}},
		{
			"spoofed before a proxy", "10.0.0.4:1", []string{"203.0.114.4, 203.0.113.4"},
			"203.0.113.4:1", []string{"203.0.114.4:1", "10.0.0.4:1"},
		},
		{"two proxies", "10.0.0.5:1", []string{"203.0.113.5,10.0.1.5"}, "203.0.113.5:1", []string{"10.0.1.5:1", "10.0.0.5:1"}},
		{
			"spoofed as a proxy", "10.0.0.6:1", []string{"203.0.114.6, 10.0.1.6, 203.0.113.6"},
			"203.0.113.6:1", []string{"10.0.1.6:1", "203.0.114.6:1"},
		},
		{
			"spoofed before two proxies", "10.0.0.7:1", []string{"203.0.114.7, 203.0.113.7, 10.0.1.7"},
			"203.0.113.7:1", []string{"203.0.114.7:1"},
		},
		{"two lines", "10.0.0.8:1", []string{"203.0.114.8", " 203.0.113.8 "}, "203.0.113.8:1", []string{"203.0.114.8:1"}},
		{"no header", "10.0.0.9:1", nil, "10.0.0.9:1", nil},
		{"empty header", "10.0.0.10:1", []string{""}, "10.0.0.10:1", nil},
		{"no address", "10.0.0.11:1", []string{"203.0.113.11, nonsense"}, "10.0.0.11:1", []string{"203.0.113.11:1"}},
		{
			"no address before a proxy", "10.0.0.12:1", []string{"203.0.114.12, nonsense, 10.0.1.12"},
			"10.0.1.12:1", []string{"10.0.0.12:1"},
		},
		{"proxies alone", "10.0.0.13:1", []string{"10.0.1.13"}, "10.0.1.13:1", []string{"10.0.0.13:1"}},
		{"network of IPv6", "[2001:db8:1:1::1]:1", nil, "[2001:db8:1:1:ffff::9]:1", []string{"[2001:db8:1:2::1]:1"}},
		{"network behind a proxy", "10.0.0.14:1", []string{"2001:db8:2:1::1"}, "[2001:db8:2:1::2]:1", []string{"10.0.0.14:1"}},
		{"proxy of IPv6", "[2001:db8:ffff::1]:1", []string{"203.0.113.15"}, "203.0.113.15:1", []string{"[2001:db8:ffff::1]:1"}},
		{"IPv4 in IPv6", "[::ffff:198.51.100.16]:1", nil, "198.51.100.16:1", nil},
		{"proxy with IPv4 in IPv6", "[::ffff:10.0.0.17]:1", []string{"::ffff:203.0.113.17"}, "203.0.113.17:1", []string{"10.0.0.17:1"}},
		{"zone", "[fe80::1%eth0]:1", nil, "[fe80::2%eth1]:1", nil},
		{"zone from elsewhere", "10.0.0.18:1", []string{"2001:db8:3:1::1%x"}, "[2001:db8:3:1::2]:1", []string{"10.0.0.18:1"}},
		{"no network", "@", nil, "@", nil},
		{"no network with a header", "/run/steno.sock", []string{"203.0.113.19"}, "/run/steno.sock", []string{"203.0.113.19:1"}},
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, func(c *api.Config) {
			c.AddressRate = 1
			c.Proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}
		})
		for _, row := range rows {
			headers := []string{"X-Real-Ip", "203.0.115.1", "Forwarded", "for=203.0.115.1"}
			for _, v := range row.header {
				headers = append(headers, "X-Forwarded-For", v)
			}
			ask := func(from string, headers ...string) *reply {
				got := b.from(from).call(user{}, "GET", "/nothing", nil, headers...)
				got.what = row.name + ", from " + from
				return got
			}
			ask(row.peer, headers...).problem(404, "NO_SUCH_PATH")
			ask(row.peer, headers...).problem(404, "NO_SUCH_PATH")
			ask(row.counts).problem(429, "TOO_MANY_REQUESTS")
			ask(row.peer, headers...).problem(429, "TOO_MANY_REQUESTS")
			for _, other := range row.others {
				ask(other).problem(404, "NO_SUCH_PATH")
			}
		}
	})
}

// No more requests than the bound are worked on at once; the next is sent away at once, and health is free.
func TestInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := newBare(t, func(c *api.Config) {
			c.InFlight = 2
			c.Models = func() []string {
				<-release
				return nil
			}
		})
		answers := make(chan *reply)
		for range 2 {
			go func() { answers <- b.call(b.ada, "GET", "/v1/models", nil) }()
		}
		synctest.Wait()
		began := time.Now()
		busy := b.call(b.eve, "GET", "/api/v1/user/me", nil)
		busy.problem(503, "BUSY")
		if wait := busy.retryAfter(); wait != time.Second || time.Since(began) > 0 {
			t.Errorf("answered after %s, wait for %s", time.Since(began), wait)
		}
		b.call(b.eve, "GET", "/v1/models", nil).openaiError(503, "server_error", "BUSY")
		b.login("ada", password).problem(503, "BUSY")
		b.call(user{}, "GET", "/api/v1/user/me", nil).problem(401, "UNAUTHORIZED") // strangers take no place
		for _, path := range []string{"/health", "/health/ready", "/api/v1/health", "/api/v1/health/ready"} {
			b.call(user{}, "GET", path, nil).want(200)
		}
		// What may take long has bounds of its own.
		b.call(b.ada, "GET", taskPath(job.NewID(), "/events"), nil).problem(404, "TASK_NOT_FOUND")
		b.call(b.ada, "POST", "/api/v1/files?name="+strings.Repeat("x", 300), nil).problem(422, "NOT_MEDIA")
		close(release)
		for range 2 {
			(<-answers).want(200)
		}
		for range 3 {
			b.call(b.eve, "GET", "/api/v1/user/me", nil).want(200)
		}
	})
}
