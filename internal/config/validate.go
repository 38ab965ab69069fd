package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// most bounds counts against slips of the keyboard: beyond it no machine of today gains anything.
const most = 4096

// fastest bounds rates: who wants more wants no limit.
const fastest = 1_000_000

// validate checks the effective values, one by one and against each other, and reports all that is wrong.
func (l *loader) validate() error {
	c := &l.cfg
	var errs []error
	check := func(key string, err error) {
		if err != nil {
			errs = append(errs, wrong(key, l.where[key], err))
		}
	}
	check("jobs", inRange(c.Jobs, 1, most))
	check("states", inRange(c.States, 0, most))
	check("chunks_in_flight", inRange(c.ChunksInFlight, 0, most))
	check("threads", inRange(c.Threads, 0, most))
	check("pool_models", inRange(c.PoolModels, 1, most))
	check("pool_idle", positive(c.PoolIdle))
	check("max_duration", positive(c.MaxDuration))
	check("max_upload", positive(c.MaxUpload))
	check("sandbox", oneOf(c.Sandbox, "auto", "required", "off"))
	check("kernels", oneOf(c.Kernels, "auto", "avx512", "avxvnni", "avx2", "ggml"))
	check("device", device(c.Device))
	for _, m := range c.ModelDevices {
		check("model_devices", modelDevice(m))
	}
	check("log_level", oneOf(c.LogLevel, "debug", "info", "warn", "error"))
	check("log_format", oneOf(c.LogFormat, "text", "json"))
	check("model", word(c.Model))
	check("user", word(c.User))
	check("listen", address(c.Listen))
	check("nats_listen", address(c.NATSListen))
	check("redis", redisURL(c.Redis))
	check("cache_ttl", notNegative(c.CacheTTL))
	check("token_lifetime", positive(c.TokenLifetime))
	check("session", positive(c.Session))
	for key, n := range map[string]int{"user_rate": c.UserRate, "address_rate": c.AddressRate, "login_rate": c.LoginRate} {
		check(key, inRange(n, 0, fastest))
	}
	for _, network := range c.Proxies {
		check("proxies", cidr(network))
	}
	for _, network := range c.WebhookAllow {
		check("webhook_allow", cidr(network))
	}
	for _, o := range c.Origins {
		check("origins", origin(o))
	}
	check("nats", natsURLs(c.NATS))
	check("nats_replicas", oneOf(strconv.Itoa(c.NATSReplicas), "1", "3", "5"))
	for _, root := range c.Roots {
		check("roots", folder(root))
	}
	for _, mirror := range c.Mirrors {
		check("mirrors", webURL(mirror))
	}
	if c.Admin != "" {
		check("admin", address(c.Admin))
	}
	return errors.Join(append(errs, l.validateTogether()...)...)
}

// validateTogether checks what only makes sense, or not, beside another key.
func (l *loader) validateTogether() (errs []error) {
	c := &l.cfg
	if c.NATSCreds != "" && c.NATS == "" {
		errs = append(errs, wrong("nats_creds", l.where["nats_creds"], errors.New("set nats too: the embedded server takes none")))
	}
	if c.NATSReplicas > 1 && c.NATS == "" {
		errs = append(errs, wrong("nats_replicas", l.where["nats_replicas"], errors.New("set nats too: the embedded server is one")))
	}
	if c.NATSCreds != "" && c.NATS != "" {
		if _, err := os.Stat(c.NATSCreds); err != nil {
			errs = append(errs, wrong("nats_creds", l.where["nats_creds"], err))
		}
	}
	if c.PProf && c.Admin == "" {
		errs = append(errs, wrong("pprof", l.where["pprof"], errors.New("set admin to an address, or pprof to false")))
	}
	if c.PProf && c.Admin != "" && !loopback(c.Admin) {
		errs = append(errs, wrong("pprof", l.where["pprof"], fmt.Errorf(
			"profiles show secrets, and admin %s can be reached from outside: use 127.0.0.1, or set pprof to false", c.Admin)))
	}
	taken := map[string]string{}
	for _, a := range []struct{ key, address string }{{"admin", c.Admin}, {"listen", c.Listen}, {"nats_listen", c.NATSListen}} {
		if _, port, err := net.SplitHostPort(a.address); err != nil || port == "0" {
			continue
		}
		if other := taken[a.address]; other != "" {
			errs = append(errs, wrong(a.key, l.where[a.key], fmt.Errorf("%s is %s's address too: choose another", a.address, other)))
		}
		taken[a.address] = a.key
	}
	return errs
}

func inRange(n, least, greatest int) error {
	if n < least || n > greatest {
		return fmt.Errorf("%d is not between %d and %d", n, least, greatest)
	}
	return nil
}

func positive[T interface {
	~int64
	fmt.Stringer
}](v T) error {
	if v <= 0 {
		return fmt.Errorf("%v is not more than zero", v)
	}
	return nil
}

func notNegative(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%v is less than zero", d)
	}
	return nil
}

func oneOf(value string, known ...string) error {
	if !slices.Contains(known, value) {
		return fmt.Errorf("%q is none of %s", value, strings.Join(known, ", "))
	}
	return nil
}

var deviceName = regexp.MustCompile(`^(auto|cpu|cuda:\d{1,3}(\.\d{1,2})?)$`)

func device(value string) error {
	if !deviceName.MatchString(value) {
		return fmt.Errorf("%q is none of auto, cpu and cuda:N; `steno doctor` lists the devices of this machine", value)
	}
	return nil
}

func modelDevice(value string) error {
	model, at, found := strings.Cut(value, "=")
	if !found || model == "" {
		return fmt.Errorf("%q is not MODEL=DEVICE, such as large-v3=cuda:1", value)
	}
	return device(at)
}

func word(value string) error {
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("%q is empty or has a space in it", value)
	}
	return nil
}

func address(value string) error {
	_, port, err := net.SplitHostPort(value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not host:port, as in 127.0.0.1:9464", value)
	}
	return nil
}

// loopback is strict: a name other than localhost may mean anything tomorrow, and no host at all means every interface.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// natsURLs leaves the value out of its messages: a URL may hold a password.
func natsURLs(list string) error {
	for _, text := range splitList(list) {
		if !strings.Contains(text, "://") {
			text = "nats://" + text // as the client has it
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return errors.New("this is not the URL of a NATS server: write it as in nats://host:4222")
		}
	}
	return nil
}

func webURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("this is not a web address: write it as in https://host/folder")
	}
	return nil
}

// redisURL leaves the value out of its messages, as natsURLs does.
func redisURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) {
		return errors.New("this is not the URL of a Redis: write it as in redis://host:6379/0")
	}
	return nil
}

// cidr refuses networks of IPv4 in IPv6: addresses are compared as IPv4, so they would never be met.
func cidr(text string) error {
	if p, err := netip.ParsePrefix(text); err != nil || p.Addr().Is4In6() {
		return fmt.Errorf("%q is not a network: write it as in 10.0.0.0/8", text)
	}
	return nil
}

// origin is what browsers send: scheme and host, with nothing behind.
func origin(text string) error {
	u, err := url.Parse(text)
	if text != "*" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != text) {
		return fmt.Errorf("%q is not an origin: write it as in https://app.example", text)
	}
	return nil
}

func folder(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", path)
	}
	return nil
}
