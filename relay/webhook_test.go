package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"steno/job"
	"steno/queue"
	"steno/relay"
	"steno/store"
	"steno/transcript"
)

var master = []byte("a key of the configuration")

// receiver is a user's server. It answers with the codes of answers, the last again and again.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int
	calls   []call
}

type call struct {
	header http.Header
	body   []byte
	at     time.Time
}

func newReceiver(t *testing.T, answers ...int) *receiver {
	t.Helper()
	r := &receiver{answers: answers}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

// newSilent is a server that never answers.
func newSilent(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // the server sees the end of a connection only after it
		<-req.Context().Done()
	}))
	t.Cleanup(s.Close)
	return s
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	code := r.answers[min(len(r.calls), len(r.answers)-1)]
	r.calls = append(r.calls, call{req.Header, body, time.Now()})
	if code >= 300 && code < 400 {
		w.Header().Set("Location", r.URL+"/elsewhere")
	}
	w.WriteHeader(code)
}

func (r *receiver) got() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call(nil), r.calls...)
}

// calling is a relay that may call this machine, soon and often.
func (r *rig) calling() relay.Config {
	cfg := r.config()
	cfg.Webhooks = relay.WebhookConfig{
		Secret:  func(_ context.Context, user string) ([]byte, error) { return relay.UserSecret(master, user), nil },
		Policy:  relay.Policy{HTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		Timeout: 2 * time.Second, RetryBase: 50 * time.Millisecond, RetryCap: 200 * time.Millisecond,
	}
	return cfg
}

func to(url string) func(*store.NewTask) { return func(n *store.NewTask) { n.Webhook = url } }

func TestWebhook(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		r := newRig(t, dsn)
		cfg := r.calling()
		r.relay(cfg)
		r.work(r.q, func(ctx context.Context, d *queue.Delivery) (transcript.Transcript, error) {
			if d.Job.Params.Prompt == "fail" {
				return transcript.Transcript{}, job.Errorf(job.Input, "NO_AUDIO_STREAM", "there is no sound: send another file")
			}
			return echo(ctx, d)
		})
		server := newReceiver(t, 500, 302, 204) // the redirect must not be followed
		task := r.create(to(server.URL + "/steno"))
		r.eventually("it is told", func() bool { return len(server.got()) == 3 })
		calls := server.got()
		secret := relay.UserSecret(master, r.user.ID)
		for i, c := range calls {
			if err := relay.Verify(secret, c.header.Get(relay.SignatureHeader), c.body, time.Now(), time.Minute); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			if c.header.Get("Steno-Delivery") != calls[0].header.Get("Steno-Delivery") || string(c.body) != string(calls[0].body) {
				t.Errorf("call %d differs from the first: %v, %s", i, c.header, c.body)
			}
			if i > 0 && c.at.Sub(calls[i-1].at) < 50*time.Millisecond {
				t.Errorf("call %d came %v after the one before", i, c.at.Sub(calls[i-1].at))
			}
		}
		var e relay.Event
		if err := json.Unmarshal(calls[2].body, &e); err != nil {
			t.Fatal(err)
		}
		if e.Type != "transcription.done" || e.Task != task.ID || e.Status != job.Done || e.FileName != "talk.mp3" || e.Ended.IsZero() ||
			e.Delivery != calls[2].header.Get("Steno-Delivery") || e.Error != nil {
			t.Errorf("%+v", e)
		}
		r.settled()
		if n := len(server.got()); n != 3 {
			t.Errorf("%d calls", n)
		}
		r.wantOutcomes(cfg, map[string]float64{"failed": 2, "delivered": 1})

		other := newReceiver(t, 200)
		r.create(to(other.URL), func(n *store.NewTask) { n.Params.Prompt = "fail" })
		r.eventually("it is told", func() bool { return len(other.got()) == 1 })
		e = relay.Event{}
		if err := json.Unmarshal(other.got()[0].body, &e); err != nil || e.Type != "transcription.failed" || e.Error.Code != "NO_AUDIO_STREAM" {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

func (r *rig) wantOutcomes(cfg relay.Config, want map[string]float64) {
	r.Helper()
	for _, outcome := range []string{"delivered", "failed", "blocked", "gave up", "disabled"} {
		if n := counter(r.T, cfg, "steno_webhook_deliveries_total", "outcome", outcome); n != want[outcome] {
			r.Errorf("%v calls %s, want %v", n, outcome, want[outcome])
		}
	}
}

// Calls that end without being delivered leave the outbox, too.
func TestWebhookGivenUp(t *testing.T) {
	t.Parallel()
	slow := newSilent(t)
	endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		for req.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	}))
	t.Cleanup(endless.Close)
	header := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 100<<10))
	}))
	t.Cleanup(header.Close)
	gone, fails := newReceiver(t, http.StatusGone), newReceiver(t, http.StatusServiceUnavailable)
	t.Cleanup(func() { // when all of them have ended
		if n := len(fails.got()); n != 1 {
			t.Errorf("the server that must not be called, but for once, was called %d times", n)
		}
	})
	for name, c := range map[string]struct {
		url    string
		change func(*relay.Config)
		want   map[string]float64
	}{
		"private address":   {url: "http://127.0.0.1:9/", change: strict, want: map[string]float64{"blocked": 1}},
		"name of it":        {url: strings.Replace(fails.URL, "127.0.0.1", "localhost", 1), change: strict, want: map[string]float64{"blocked": 1}},
		"scheme":            {url: "ftp://example.com/", want: map[string]float64{"blocked": 1}},
		"410":               {url: gone.URL, want: map[string]float64{"gave up": 1}},
		"too old":           {url: fails.URL, change: impatient, want: map[string]float64{"gave up": 1}},
		"too slow":          {url: slow.URL, change: impatient, want: map[string]float64{"gave up": 1}},
		"head too long":     {url: header.URL, change: impatient, want: map[string]float64{"gave up": 1}},
		"body without end":  {url: endless.URL, want: map[string]float64{"delivered": 1}},
		"without a secret":  {url: fails.URL, change: func(c *relay.Config) { c.Webhooks.Secret = nil }, want: map[string]float64{"disabled": 1}},
		"nobody is there":   {url: "http://127.0.0.1:1/", change: impatient, want: map[string]float64{"gave up": 1}},
		"not what HTTP is":  {url: "http://127.0.0.1:1/%zz", want: map[string]float64{"blocked": 1}},
		"password in there": {url: "http://a:b@127.0.0.1:1/", want: map[string]float64{"blocked": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
			cfg := r.calling()
			cfg.Webhooks.Timeout = 500 * time.Millisecond
			if c.change != nil {
				c.change(&cfg)
			}
			r.relay(cfg)
			r.work(r.q, echo)
			r.done(r.create(to(c.url)).ID)
			r.settled()
			r.wantOutcomes(cfg, c.want)
		})
	}
}

func strict(c *relay.Config)    { c.Webhooks.Policy = relay.Policy{HTTP: true} }
func impatient(c *relay.Config) { c.Webhooks.MaxAge = time.Nanosecond }

// A task that was deleted is not told of any more, and its command goes.
func TestWebhookOfADeletedTask(t *testing.T) {
	t.Parallel()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	server := newReceiver(t, 500)
	cfg := r.calling()
	r.relay(cfg)
	r.work(r.q, echo)
	task := r.create(to(server.URL))
	r.eventually("it was called", func() bool { return len(server.got()) > 0 })
	if err := r.s.DeleteTask(t.Context(), r.user.ID, task.ID); err != nil {
		t.Fatal(err)
	}
	r.settled()
}

// An address that nobody answers holds neither the queue nor other calls up.
func TestSlowWebhooks(t *testing.T) {
	t.Parallel()
	hang := newSilent(t)
	good := newReceiver(t, 200)
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.calling()
	cfg.Webhooks.Timeout, cfg.Slots = 20*time.Second, 4
	_, stop := r.relay(cfg)
	r.work(r.q, echo)
	for range 3 {
		r.done(r.create(to(hang.URL)).ID)
	}
	for range 10 {
		r.done(r.create(to(good.URL)).ID)
	}
	r.eventually("the others are told", func() bool { return len(good.got()) == 10 })
	start := time.Now()
	stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the calls held the stop up for %v", took)
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	open := relay.Policy{HTTP: true}
	for address, want := range map[string]bool{
		// IPv4
		"8.8.8.8": true, "1.1.1.1": true, "172.15.255.255": true, "172.32.0.0": true, "100.63.255.255": true, "100.128.0.0": true,
		"198.17.255.255": true, "223.255.255.255": true, "11.0.0.0": true, "169.253.0.1": true, "192.1.0.1": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "10.255.255.255": false, "100.64.0.1": false, "100.100.100.200": false,
		"127.0.0.1": false, "127.255.255.254": false, "169.254.169.254": false, "169.254.0.1": false, "172.16.0.1": false,
		"172.31.255.255": false, "192.0.0.192": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.0.1": false,
		"198.18.0.1": false, "198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false,
		"239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false, "168.63.129.16": false,
		// IPv6
		"2606:4700::1111": true, "2a00:1450::1": true, "2001:4860::8888": true,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:8.8.8.8": true, "::127.0.0.1": false,
		"64:ff9b::a9fe:a9fe": false, "64:ff9b:1::1": false, "100::1": false, "2001::1": false, "2001:db8::1": false,
		"2002:7f00:1::": false, "3fff::1": false, "fc00::1": false, "fd00:ec2::254": false, "fe80::1": false, "fec0::1": false,
		"ff02::1": false, "5f00::1": false, "fe80::1%25lo": false,
	} {
		host := address
		if strings.Contains(address, ":") {
			host = "[" + address + "]"
		}
		err := open.Check("http://" + host + ":80/hook")
		if (err == nil) != want {
			t.Errorf("%s: %v, want allowed %v", address, err, want)
		}
	}
	for url, want := range map[string]bool{
		"https://example.com/steno?x=1": true, "https://example.com:8443": true,
		"http://example.com/": false, "ftp://example.com/": false, "file:///etc/passwd": false, "gopher://example.com/": false,
		"//example.com/": false, "example.com": false, "https://": false, "https:///x": false, "https:example.com": false,
		"https://user:pw@example.com/": false, "https://:443/": false, "": false, "https://exa mple.com/": false,
		"https://[::1]/": false, "https://127.0.0.1/": false, "https://" + strings.Repeat("x", 2048) + ".com/": false,
	} {
		err := relay.Policy{}.Check(url)
		if (err == nil) != want {
			t.Errorf("%.60s: %v, want allowed %v", url, err, want)
		}
		if err != nil && codeOf(err) != "BAD_WEBHOOK" {
			t.Errorf("%.60s: code %s", url, codeOf(err))
		}
	}
	some := relay.Policy{HTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	for address, want := range map[string]bool{"10.1.2.3": true, "10.2.0.1": false, "127.0.0.1": false} {
		if err := some.Check("http://" + address); (err == nil) != want {
			t.Errorf("%s with an allow-list: %v", address, err)
		}
	}
}

// Names that stand for addresses which must not be called are blocked when they are dialled, however they are written.
func TestNamesAreCheckedWhenDialled(t *testing.T) {
	t.Parallel()
	server := newReceiver(t, 200)
	port := netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://")).Port()
	r := newRig(t, filepath.Join(t.TempDir(), "steno.db"))
	cfg := r.calling()
	strict(&cfg)
	impatient(&cfg) // some systems do not know all of these names
	r.relay(cfg)
	r.work(r.q, echo)
	for _, host := range []string{"localhost", "LOCALHOST", "localhost.", "2130706433", "0x7f000001", "0177.0.0.1", "127.1"} {
		r.done(r.create(to(fmt.Sprintf("http://%s:%d/", host, port))).ID)
	}
	r.settled()
	if n := counter(t, cfg, "steno_webhook_deliveries_total", "outcome", "blocked"); n < 1 {
		t.Errorf("%v were blocked", n)
	}
	if n := len(server.got()); n != 0 {
		t.Errorf("%d calls came through", n)
	}
}

func TestSignature(t *testing.T) {
	t.Parallel()
	at, body := time.Unix(1_800_000_000, 0), []byte(`{"a":1}`)
	header := relay.Sign([]byte("key"), at, body)
	// echo -n '1800000000.{"a":1}' | openssl dgst -sha256 -hmac key
	const want = "t=1800000000,v1=7330c9cf7d886970cbebbbb5494c04d2aeff06a990adb7d7a75abfeb0159d291"
	if header != want {
		t.Errorf("%s, want %s", header, want)
	}
	for name, c := range map[string]struct {
		key, header, body string
		now               time.Time
		want              error
	}{
		"good":            {"key", header, `{"a":1}`, at, nil},
		"clock behind":    {"key", header, `{"a":1}`, at.Add(-5 * time.Minute), nil},
		"too old":         {"key", header, `{"a":1}`, at.Add(5*time.Minute + time.Second), relay.ErrExpired},
		"from the future": {"key", header, `{"a":1}`, at.Add(-6 * time.Minute), relay.ErrExpired},
		"other key":       {"kex", header, `{"a":1}`, at, relay.ErrSignature},
		"other body":      {"key", header, `{"a":2}`, at, relay.ErrSignature},
		"other time":      {"key", strings.Replace(header, "t=18", "t=19", 1), `{"a":1}`, at, relay.ErrSignature},
		"no signature":    {"key", "t=1800000000", `{"a":1}`, at, relay.ErrSignature},
		"no time":         {"key", header[strings.Index(header, "v1"):], `{"a":1}`, at, relay.ErrSignature},
		"nothing":         {"key", "", `{"a":1}`, at, relay.ErrSignature},
	} {
		if err := relay.Verify([]byte(c.key), c.header, []byte(c.body), c.now, 5*time.Minute); err != c.want { //nolint:errorlint // the very one
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	a, b := relay.UserSecret(master, "a"), relay.UserSecret(master, "b")
	if string(a) == string(b) || len(a) != 64 {
		t.Errorf("secrets %q and %q", a, b)
	}
}
