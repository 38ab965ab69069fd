package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"steno/job"
)

// ErrBlocked is the cause of the error for an address that must not be called.
var ErrBlocked = errors.New("the address is not one of the public internet")

// Policy says which addresses users may have called. The zero value allows https to all of the public internet, and nothing else:
// not this machine, not the networks behind it, not the metadata services of clouds.
type Policy struct {
	// HTTP allows http besides https.
	HTTP bool
	// Allow lists networks that are allowed though they are not public.
	Allow []netip.Prefix
}

// Check says whether an address may be a webhook, before there is anything to call. Its errors have the class INPUT and the code
// BAD_WEBHOOK. What a name stands for is checked when it is dialled, for it may change.
func (p Policy) Check(address string) error {
	bad := func(format string, args ...any) error { return job.Errorf(job.Input, "BAD_WEBHOOK", format, args...) }
	if len(address) > 2048 {
		return bad("the webhook's address has %d bytes: at most 2,048 are allowed", len(address))
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Opaque != "" || u.Hostname() == "" {
		return bad("the webhook is no address: give one such as https://example.com/steno")
	}
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !p.HTTP):
		return bad("the webhook's scheme is %q: use https", u.Scheme)
	case u.User != nil:
		return bad("the webhook's address holds a password: check the signature instead")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && !p.allows(ip) {
		return bad("the webhook's address is %s: %w", ip, ErrBlocked)
	}
	return nil
}

// dialer connects to allowed addresses only. The check stands after the look-up of the name, on the very address that is dialled:
// a name that means another address the second time does not get past it.
func (p Policy) dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: -1, Control: func(network, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil || (network != "tcp4" && network != "tcp6") || !p.allows(a.Addr()) {
			return fmt.Errorf("%s: %w", address, ErrBlocked)
		}
		return nil
	}}
}

// allows reports whether an address may be called.
func (p Policy) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, net := range p.Allow {
		if net.Contains(a) {
			return true
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	if a.Is6() && !public6.Contains(a) {
		return false
	}
	for _, net := range special {
		if net.Contains(a) {
			return false
		}
	}
	return true
}

// public6 is all of IPv6 that is given out. Outside it lie, besides what net/netip knows, those of NAT64 and site-local ones.
var public6 = netip.MustParsePrefix("2000::/3")

// special are networks of the IANA registries of special purpose that net/netip takes for public.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),        // this network: Linux takes it for the machine itself
	netip.MustParsePrefix("100.64.0.0/10"),    // between a provider and its customers; metadata of some clouds
	netip.MustParsePrefix("192.0.0.0/24"),     // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),     // documentation
	netip.MustParsePrefix("192.88.99.0/24"),   // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),    // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"),  // documentation
	netip.MustParsePrefix("203.0.113.0/24"),   // documentation
	netip.MustParsePrefix("240.0.0.0/4"),      // reserved, and broadcast
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's host, public by number only
	netip.MustParsePrefix("2001::/23"),        // protocol assignments, Teredo among them
	netip.MustParsePrefix("2001:db8::/32"),    // documentation
	netip.MustParsePrefix("2002::/16"),        // 6to4: holds an IPv4 address
	netip.MustParsePrefix("3fff::/20"),        // documentation
}
