package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"steno/api"
	"steno/audio"
	"steno/console"
	"steno/queue"
	"steno/relay"
	"steno/store"
)

func (a *app) gatewayCmd() *cobra.Command {
	return &cobra.Command{
		Use: "gateway", Short: "Serve the HTTP API alone, on an outside NATS",
		Long: "Serve the HTTP API alone: accounts, files, tasks and their history in a database, work through an outside NATS.\n" +
			"Several gateways may share both; give them the same key files, and a Redis. It makes no account: `steno user add` does.",
		Example: "  steno gateway --nats nats://queue.example:4222 --db postgres://steno@db.example/steno\n" +
			"  steno gateway --nats nats://queue.example:4222 --listen 0.0.0.0:8080 --redis redis://cache.example:6379/0",
		Args: args(cobra.NoArgs), Annotations: map[string]string{daemon: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.cfg.NATS == "" {
				return usagef("a gateway needs a NATS server: name it with --nats URL, or use `steno up` for everything in one process")
			}
			return a.serve(cmd.Context(), a.outside())
		},
	}
}

// serve runs a gateway on a queue until ctx ends, and drains it.
func (a *app) serve(ctx context.Context, qc queue.Config) (err error) {
	scratch, err := a.scratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	tools, err := a.tools()
	if err != nil {
		return err
	}
	defer a.warnOfOldTools(ctx, tools)()
	qc.Log, qc.Metrics = a.log, a.reg
	q, err := queue.Connect(ctx, qc)
	if err != nil {
		return err
	}
	defer q.Close()
	checks := map[string]api.Check{"queue": q.Ping}
	g, err := a.gateway(ctx, gatewayParts{queue: q, tools: tools, scratch: scratch, models: registry{}, checks: checks})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	stop, err := a.admin(ctx, checks, nil)
	if err != nil {
		return err
	}
	defer stop()
	err = g.run(ctx)
	a.log.Info("stopped")
	return err
}

// gatewayParts is what a gateway shares with the rest of its process.
type gatewayParts struct {
	queue   *queue.Queue
	tools   audio.Tools
	scratch string
	models  catalogue
	checks  map[string]api.Check // the gateway adds its own
	// quarantined is nil where models are elsewhere.
	quarantined func() map[string]time.Time
}

// gateway is the HTTP API with the record behind it and the relay beside it.
type gateway struct {
	a      *app
	store  *store.Store
	server *api.Server
	relay  *relay.Relay
	cache  closingCache
	ln     net.Listener
}

// closingCache is a cache that holds something open.
type closingCache interface {
	api.Cache
	Close() error
}

// gateway opens the record, listens, and fits all together. Run it, and close it at the end.
func (a *app) gateway(ctx context.Context, p gatewayParts) (_ *gateway, err error) {
	g := &gateway{a: a}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if err := os.MkdirAll(filepath.Dir(a.cfg.Keys), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the keys: %w", err)
	}
	// First of all, so that a second gateway on the same address touches nothing.
	if g.ln, err = new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen for the API: %w: end what uses the address, or choose another with --listen", err)
	}
	if g.store, err = store.Open(ctx, a.cfg.DB, store.Config{}); err != nil {
		return nil, badDatabaseFlag(err)
	}
	if g.cache, err = a.cache(p.checks); err != nil {
		return nil, err
	}
	cfg, err := a.apiConfig(g, p)
	if err != nil {
		return nil, err
	}
	secret, err := loadSecret(filepath.Join(filepath.Dir(a.cfg.Keys), "webhook.key"))
	if err != nil {
		return nil, err
	}
	cfg.WebhookSecret = func(user string) string { return string(relay.UserSecret(secret, user)) }
	policy, err := a.webhookPolicy()
	if err != nil {
		return nil, err
	}
	cfg.CheckWebhook = policy.Check
	if g.server, err = api.New(cfg); err != nil {
		return nil, err
	}
	p.checks["database"] = g.store.Ping
	g.relay = relay.New(relay.Config{
		Store: g.store, Queue: relayQueue{p.queue}, OnChange: g.server.InvalidateTask, Log: a.log, Metrics: a.reg,
		Webhooks: relay.WebhookConfig{
			Policy: policy,
			Secret: func(_ context.Context, user string) ([]byte, error) { return relay.UserSecret(secret, user), nil },
		},
	})
	return g, nil
}

// apiConfig is the gateway's configuration, but for its webhooks.
func (a *app) apiConfig(g *gateway, p gatewayParts) (api.Config, error) {
	keys, err := api.LoadKeys(a.cfg.Keys)
	if err != nil {
		return api.Config{}, err
	}
	proxies, err := networks(a.cfg.Proxies)
	if err != nil {
		return api.Config{}, err
	}
	scratch := filepath.Join(p.scratch, "uploads")
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return api.Config{}, fmt.Errorf("make the folder for uploads: %w", err)
	}
	ttl := a.cfg.CacheTTL
	if ttl == 0 {
		ttl = -1
	}
	ready := map[string]api.Check{}
	for name, check := range p.checks {
		ready[name] = check
	}
	return api.Config{
		Store: g.store, Objects: objects{p.queue}, Live: live{p.queue}, Cache: g.cache, CacheTTL: ttl, Keys: keys,
		Dead: deadLetters{p.queue}, Fleet: workers{p.queue}, Depth: depth(p.queue),
		Scratch: scratch, Partial: filepath.Join(a.cfg.Data, "uploads"),
		Probe: prober{p.tools, a.cfg.MaxDuration}.probe, Resolve: resolver{p.models, a.cfg.Model}.resolve, Models: p.models.names,
		Notify: func() { g.relay.Notify() }, Ready: ready, Sandbox: a.sandbox.Layers, Room: a.room(1),
		Quarantined: p.quarantined, MaxUpload: int64(a.cfg.MaxUpload),
		TokenLifetime: a.cfg.TokenLifetime, Session: a.cfg.Session,
		UserRate: a.cfg.UserRate, AddressRate: a.cfg.AddressRate, LoginRate: a.cfg.LoginRate, Proxies: proxies, Origins: a.cfg.Origins,
		Console: api.Console{Path: console.Path, Handler: console.Handler()},
		Version: version, Log: a.log, Metrics: a.reg,
	}, nil
}

// cacheBytes is the most that responses take in this process.
const cacheBytes = 64 << 20

func (a *app) cache(checks map[string]api.Check) (closingCache, error) {
	if a.cfg.Redis == "" {
		return api.NewMemoryCache(cacheBytes), nil
	}
	c, err := api.NewRedisCache(a.cfg.Redis)
	if err != nil {
		return nil, err
	}
	checks["redis"] = c.Ping
	return c, nil
}

func (a *app) webhookPolicy() (relay.Policy, error) {
	allow, err := networks(a.cfg.WebhookAllow)
	return relay.Policy{HTTP: a.cfg.WebhookHTTP, Allow: allow}, err
}

func networks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// run serves until ctx ends, beside what else is given; where one of them ends before, so do the others. The relay goes on while
// they drain, so that what they still write or bring to an end is passed on, and ends then; the rest it finds at the next start.
func (g *gateway) run(ctx context.Context, beside ...func(context.Context) error) error {
	relaying, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- g.relay.Run(relaying) }()
	g.a.log.Info("the API is at", "url", "http://"+g.ln.Addr().String(),
		"page", "http://"+g.ln.Addr().String()+console.Path, "docs", "http://"+g.ln.Addr().String()+"/docs/")
	err := together(ctx, append(beside, func(ctx context.Context) error { return g.server.Serve(ctx, g.ln) })...)
	stop()
	return errors.Join(err, <-ended)
}

// together runs all at once, waits for all, and returns all their errors. When one ends, the others are told to.
func together(ctx context.Context, runs ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(runs))
	var all sync.WaitGroup
	for i, run := range runs {
		all.Go(func() {
			defer stop()
			errs[i] = run(ctx)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// close gives back what was opened; it may have been opened in part.
func (g *gateway) close() error {
	var errs []error
	if g.ln != nil {
		_ = g.ln.Close() // Serve has closed it mostly
	}
	if g.server != nil {
		g.server.Close()
	}
	if g.cache != nil {
		errs = append(errs, g.cache.Close())
	}
	if g.store != nil {
		errs = append(errs, g.store.Close())
	}
	return errors.Join(errs...)
}

// firstAccount makes the account that an empty record begins with, and shows its password where that was made up.
func (g *gateway) firstAccount(ctx context.Context) error {
	users, err := g.store.Users(ctx)
	if err != nil || len(users) > 0 {
		return err
	}
	password := g.a.cfg.Password
	if password == "" {
		password = api.GeneratePassword()
	}
	hash, err := api.HashPassword(password)
	if err != nil {
		return usagef("make the first account: %w, by STENO_PASSWORD or password_file", err)
	}
	u, err := g.store.CreateUser(ctx, store.User{Username: g.a.cfg.User, PasswordHash: hash, Role: store.RoleAdmin})
	if errors.Is(err, store.ErrConflict) {
		return nil // another process was faster
	}
	if err != nil {
		return err
	}
	if g.a.cfg.Password != "" {
		g.a.log.Info("the first account was made", "user", u.Username)
		return nil
	}
	fmt.Fprintf(g.a.std.err, "\n  The first account was made. Its password is shown only this once.\n"+
		"  `steno user passwd %[1]s` sets another.\n\n    user      %[1]s\n    password  %[2]s\n\n", u.Username, password)
	return nil
}

// patience is how long a command that opens the database waits for others to let go of it.
const patience = 10 * time.Second
