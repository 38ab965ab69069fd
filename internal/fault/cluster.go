package fault

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"steno/internal/proc"
)

// Cluster is a NATS server, or three that keep copies of each other's streams, with a gateway and workers.
type Cluster struct {
	site    *site
	script  string
	servers []*broker
	proxy   *Proxy // on the way to a server that is alone
	gateway *process
	workers []*process
	address string
	admin   string   // the gateway's
	admins  []string // the workers'
	client  *Client
}

// broker is one NATS server.
type broker struct {
	address string   // for clients
	route   string   // for the other servers, who get there by their proxies only
	proxies []*Proxy // on this server's ways to the others
	run     *process
}

// newCluster starts the server, the proxy and the gateway, and makes the account. Workers are started by Work.
func newCluster(ctx context.Context, s *site, script string) (c *Cluster, err error) {
	c = &Cluster{site: s, script: script, servers: []*broker{{}}}
	if c.servers[0].address, err = freeAddress(); err != nil {
		return nil, err
	}
	if c.proxy, err = newProxy(c.servers[0].address); err != nil {
		return nil, err
	}
	return c, c.start(ctx)
}

// newTrio is newCluster with three servers. Worker i knows server i only, as if on one machine with it; the gateway knows all.
func newTrio(ctx context.Context, s *site, script string) (c *Cluster, err error) {
	c = &Cluster{site: s, script: script}
	for range 3 {
		b := &broker{}
		for _, address := range []*string{&b.address, &b.route} {
			if *address, err = freeAddress(); err != nil {
				return nil, err
			}
		}
		c.servers = append(c.servers, b)
	}
	for i, b := range c.servers {
		for j, other := range c.servers {
			if i == j {
				continue
			}
			p, err := newProxy(other.route)
			if err != nil {
				return nil, err
			}
			b.proxies = append(b.proxies, p)
		}
	}
	return c, c.start(ctx)
}

func (c *Cluster) start(ctx context.Context) (err error) {
	for _, address := range []*string{&c.address, &c.admin} {
		if *address, err = freeAddress(); err != nil {
			return err
		}
	}
	var all errgroup.Group
	for i := range c.servers { // the streams need two to begin
		all.Go(func() error { return c.StartServer(ctx, i) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	if err := c.account(ctx); err != nil {
		return err
	}
	if err := c.startGateway(ctx); err != nil {
		return err
	}
	c.client = newClient("http://" + c.address)
	return c.client.login(ctx)
}

// StartServer starts a NATS server on its store, by its number.
func (c *Cluster) StartServer(ctx context.Context, number int) (err error) {
	b, name := c.servers[number], fmt.Sprintf("nats%d", number)
	if err := os.WriteFile(filepath.Join(c.site.folder, name+".conf"), []byte(c.config(number)), 0o600); err != nil {
		return err
	}
	b.run, err = c.site.start(ctx, name, c.site.NATS, proc.Env(os.Environ(), "PATH", "HOME"),
		"-c", filepath.Join(c.site.folder, name+".conf"))
	if err != nil {
		return err
	}
	return b.run.says("Server is ready", startTime)
}

// config is a server's. The address that it tells other servers of is one where nobody is: they know each other's proxies.
func (c *Cluster) config(number int) string {
	b, name := c.servers[number], fmt.Sprintf("nats%d", number)
	var text strings.Builder
	fmt.Fprintf(&text, "server_name: %s\nlisten: %s\njetstream { store_dir: %q, sync_interval: always }\n",
		name, b.address, filepath.Join(c.site.folder, "jetstream"+strconv.Itoa(number)))
	if len(c.servers) == 1 {
		return text.String()
	}
	fmt.Fprintf(&text, "cluster {\n  name: steno\n  listen: %s\n  advertise: \"127.0.0.1:1\"\n  routes: [", b.route)
	for _, p := range b.proxies {
		fmt.Fprintf(&text, " %q,", p.URL())
	}
	text.WriteString(" ]\n}\n")
	return text.String()
}

// CutOff divides a server from the others, in both directions, or joins it with them again.
func (c *Cluster) CutOff(number int, cut bool) {
	for i, b := range c.servers {
		for k, p := range b.proxies {
			to := k // the others are numbered with the gap of the server itself
			if k >= i {
				to++
			}
			if i == number || to == number {
				p.Cut(cut)
			}
		}
	}
}

// url is where a worker finds the queue.
func (c *Cluster) url(worker int) string {
	if c.proxy != nil {
		return c.proxy.URL()
	}
	return "nats://" + c.servers[worker].address
}

// urls is where the gateway and operators find it.
func (c *Cluster) urls() string {
	if c.proxy != nil {
		return c.proxy.URL()
	}
	var all []string
	for i := range c.servers {
		all = append(all, c.url(i))
	}
	return strings.Join(all, ",")
}

// environment is that of a gateway or worker.
func (c *Cluster) environment(script, failpoints string) []string {
	env := environment(c.site.Programs, script, failpoints)
	if len(c.servers) > 1 {
		env = append(env, fmt.Sprintf("STENO_NATS_REPLICAS=%d", len(c.servers)))
	}
	return env
}

// account makes the user, as an operator does before the first start of a gateway.
func (c *Cluster) account(ctx context.Context) error {
	data := filepath.Join(c.site.folder, "gateway")
	cmd := proc.Command(ctx, c.site.Steno, "user", "add", user, "--admin", "--password-stdin", "--data", data)
	var out bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environment(c.site.Programs, "", ""), strings.NewReader(password), &out, &out
	if err := proc.Run(ctx, cmd); err != nil {
		return fmt.Errorf("make the account: %w: %s", err, out.String())
	}
	return nil
}

func (c *Cluster) startGateway(ctx context.Context) (err error) {
	c.gateway, err = c.site.start(ctx, "gateway", c.site.Steno, c.environment("", ""), "gateway",
		"--data", filepath.Join(c.site.folder, "gateway"), "--nats", c.urls(), "--listen", c.address, "--admin", c.admin)
	if err != nil {
		return err
	}
	return c.gateway.says("the API is at", startTime)
}

// data is the folder of a worker.
func (c *Cluster) data(worker int) string {
	return filepath.Join(c.site.folder, fmt.Sprintf("worker%d", worker))
}

// Dead lists the ids of the dead letters, as an operator would.
func (c *Cluster) Dead(ctx context.Context) ([]string, error) {
	return dead(ctx, c.site, "--nats", c.urls())
}

// Work starts a worker, by its number.
func (c *Cluster) Work(ctx context.Context, worker int, failpoints string) error {
	for len(c.workers) <= worker {
		address, err := freeAddress()
		if err != nil {
			return err
		}
		c.workers, c.admins = append(c.workers, nil), append(c.admins, address)
	}
	env := c.environment(c.script, failpoints)
	run, err := c.site.start(ctx, fmt.Sprintf("worker%d", worker), c.site.Steno, env, "worker", "--data", c.data(worker),
		"--nats", c.url(worker), "--jobs", "2", "--states", "4", "--model", model, "--admin", c.admins[worker])
	if err != nil {
		return err
	}
	c.workers[worker] = run
	if failpoints != "" {
		return nil // it may die before it is ready
	}
	return run.says("ready for jobs", startTime)
}

// Close ends all processes.
func (c *Cluster) Close() {
	all := append([]*process{c.gateway}, c.workers...)
	for _, b := range c.servers {
		all = append(all, b.run)
	}
	for _, p := range all {
		if p != nil {
			p.kill()
		}
	}
	if c.proxy != nil {
		c.proxy.Close()
	}
	for _, b := range c.servers {
		for _, p := range b.proxies {
			p.Close()
		}
	}
}
