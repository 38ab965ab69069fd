package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"steno/job"
	"steno/store"
)

// Config says what a Server connects. The fields of the first group are required; the zero value of another means its default.
type Config struct {
	Store   *store.Store
	Objects Objects
	Live    Live
	// Probe says what a file is. Errors of class INPUT are the user's.
	Probe func(ctx context.Context, path string) (Media, error)
	// Resolve fills in what a task's parameters leave open, and refuses, by an error of class INPUT, what no worker can do.
	Resolve func(job.Params) (job.Params, error)
	// Keys sign the tokens.
	Keys Keys
	// Scratch is a folder for uploads on their way; it exists.
	Scratch string
	// Partial is a folder for uploads in parts; they stay there over restarts. It is made where it is not there.
	Partial string

	// Notify is called after each commit that leaves commands in the outbox. Default: nobody is told, and the relay finds out.
	Notify func()
	// Models are the names of models that tasks may ask for. Default: none are listed.
	Models func() []string
	// WebhookSecret is the key with which calls for a user's tasks are signed. Default: users are told of none.
	WebhookSecret func(user string) string
	// CheckWebhook refuses addresses that will not be called. Default: webhooks are refused.
	CheckWebhook func(address string) error
	// Dead are the jobs that failed for good, for administrators. Default: they are told that there is nothing to see.
	Dead DeadLetters
	// Fleet are the workers, and Depth says how much work there is, for administrators as well. Defaults as for Dead.
	Fleet Fleet
	Depth func(ctx context.Context) (Depth, error)
	// Ready are the dependencies that /health/ready names, besides the database.
	Ready map[string]Check
	// Cache keeps responses. Default: NewMemoryCache with 64 MiB.
	Cache Cache
	// CacheTTL is how long a response is kept. Default 60 s; negative: none is.
	CacheTTL time.Duration

	// MaxUpload is the most bytes that a file may have. Default 2 GiB.
	MaxUpload int64
	// Uploads is the number of uploads at the same time; more wait for a while and are then refused. Default 16.
	Uploads int
	// InFlight is the number of requests at the same time, health and events left out. Default 512.
	InFlight int
	// Subscribers is the number of event streams at the same time, and UserSubscribers that of one user. Defaults 1,000 and 50.
	Subscribers, UserSubscribers int

	// TokenLifetime is how long an access token is good. Default 1 h.
	TokenLifetime time.Duration
	// Session is how long a log-in can be prolonged by new tokens. Default 30 days.
	Session time.Duration
	// UserRate and AddressRate are requests per second for one user and one address; twice as many may come at once. Default 0: any
	// number. LoginRate is failed log-ins per minute from one address. Default 0: any number.
	UserRate, AddressRate, LoginRate int
	// Proxies are networks whose X-Forwarded-For is believed.
	Proxies []netip.Prefix
	// Origins are those of web pages that may call, such as https://app.example; "*" stands for all. Default none.
	Origins []string

	// Console is the page for people. Default: there is none, and / leads to the documentation.
	Console Console

	// Drain is how long requests may finish after the end of the context. Default 20 s.
	Drain time.Duration
	// Heartbeat is the time between two signs of life on an event stream. Default 15 s.
	Heartbeat time.Duration

	// Room returns a *disk.LowError where there is too little of it to take on more; nil means there always is enough.
	Room func() error
	// Sandbox lists the layers around ffprobe that hold, for readiness; may be nil.
	Sandbox func() []string
	// Quarantined tells until when models rest whose engines died too often, for readiness; may be nil. It waits for nothing.
	Quarantined func() map[string]time.Time
	Version     string
	Log         *slog.Logger          // default: nothing
	Metrics     prometheus.Registerer // default: counted but not shown
	Now         func() time.Time      // default time.Now
}

// Console is a page for people and where it is served, such as /console/. It sets its own policy.
type Console struct {
	Path    string
	Handler http.Handler
}

func (c Config) withDefaults() Config {
	if c.Room == nil {
		c.Room = func() error { return nil }
	}
	c.CacheTTL = or(c.CacheTTL, time.Minute)
	c.MaxUpload = or(c.MaxUpload, 2<<30)
	c.Uploads = or(c.Uploads, 16)
	c.InFlight = or(c.InFlight, 512)
	c.Subscribers = or(c.Subscribers, 1000)
	c.UserSubscribers = or(c.UserSubscribers, 50)
	c.TokenLifetime = or(c.TokenLifetime, time.Hour)
	c.Session = or(c.Session, 30*24*time.Hour)
	c.Drain = or(c.Drain, 20*time.Second)
	c.Heartbeat = or(c.Heartbeat, 15*time.Second)
	c.Version = or(c.Version, "dev")
	c.Log = or(c.Log, slog.New(slog.DiscardHandler))
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Notify == nil {
		c.Notify = func() {}
	}
	if c.CheckWebhook == nil {
		c.CheckWebhook = func(string) error {
			return job.Errorf(job.Input, "NO_WEBHOOKS", "this service calls no webhooks: leave webhook out")
		}
	}
	if c.Models == nil {
		c.Models = func() []string { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// hashers is the number of passwords that are checked at the same time: each takes 19 MiB and most of a core for 20 ms.
func hashers() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// or returns v, or d where v is the zero value.
func or[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
