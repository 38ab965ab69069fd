package api

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// maxBuckets bounds the addresses and users that are remembered, and idleBucket how long: a bucket is full again by then.
const (
	maxBuckets = 100_000
	idleBucket = 10 * time.Minute
)

// limits holds each key to a rate. A nil one lets everything pass. Safe for concurrent use.
type limits struct {
	rate    rate.Limit
	burst   int
	buckets *otter.Cache[string, *rate.Limiter]
}

// newLimits allows n events in the given time for each key, and a burst of them at once. It is nil for n of 0.
func newLimits(n int, per time.Duration, burst int) *limits {
	if n <= 0 {
		return nil
	}
	return &limits{rate.Limit(float64(n) / per.Seconds()), burst, otter.Must(&otter.Options[string, *rate.Limiter]{
		MaximumSize: maxBuckets, ExpiryCalculator: otter.ExpiryAccessing[string, *rate.Limiter](idleBucket),
	})}
}

func (l *limits) bucket(key string) *rate.Limiter {
	b, _ := l.buckets.ComputeIfAbsent(key, func() (*rate.Limiter, bool) { return rate.NewLimiter(l.rate, l.burst), false })
	return b
}

// take counts one event. Where it is one too many, it returns how long to wait.
func (l *limits) take(key string, now time.Time) (wait time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	r := l.bucket(key).ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// free reports whether another event would pass, and if not, how long to wait. It counts nothing.
func (l *limits) free(key string, now time.Time) (wait time.Duration, ok bool) {
	if l == nil {
		return 0, true
	}
	if left := l.bucket(key).TokensAt(now); left < 1 {
		return time.Duration((1 - left) / float64(l.rate) * float64(time.Second)), false
	}
	return 0, true
}

func (l *limits) close() {
	if l != nil {
		l.buckets.StopAllGoroutines()
	}
}

// addressOf is whom the limits count: the peer, or where that is a proxy of ours, the last address before it in X-Forwarded-For.
// Of IPv6 the network counts, for one subscriber has all of its addresses.
func (s *Server) addressOf(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	addr := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && s.isProxy(addr); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap()
	}
	if addr.Is6() {
		if network, err := addr.WithZone("").Prefix(64); err == nil {
			return network.String()
		}
	}
	return addr.String()
}

func (s *Server) isProxy(addr netip.Addr) bool {
	for _, p := range s.cfg.Proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
