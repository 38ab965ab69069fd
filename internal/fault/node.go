package fault

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"steno/internal/proc"
)

// Programs are those under test.
type Programs struct {
	Steno  string // built with -tags failpoints
	NATS   string // a NATS server, for rows that need one of its own
	Models string // folder of model files
}

// model that the jobs ask for. Its file is real, and verified at each load, also where a script plays its engine.
const model = "tiny.en"

// startTime is how long a process may take to be ready.
const startTime = 60 * time.Second

// Node is one `steno up`.
type Node struct {
	p       Programs
	folder  string // logs
	data    string
	script  string // STENO_SCRIPT; empty for the real engine
	address string
	admin   string
	run     *process
	client  *Client
}

// newNode prepares a node with a data folder; Start starts it.
func newNode(p Programs, folder, data, script string) (*Node, error) {
	n := &Node{p: p, folder: folder, data: data, script: script}
	var err error
	if n.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if n.admin, err = freeAddress(); err != nil {
		return nil, err
	}
	n.client = newClient("http://" + n.address)
	return n, nil
}

// environment is what steno sees: nothing of the caller's own settings.
func environment(p Programs, script, failpoints string) []string {
	env := append(proc.Env(os.Environ(), "PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH"),
		"STENO_MODELS="+p.Models, "STENO_PASSWORD="+password, "STENO_PPROF=true",
		"STENO_USER_RATE=0", "STENO_ADDRESS_RATE=0", "STENO_LOGIN_RATE=0")
	if script != "" {
		env = append(env, "STENO_SCRIPT="+script)
	}
	if failpoints != "" {
		env = append(env, "STENO_FAILPOINTS="+failpoints)
	}
	return env
}

// Start starts the node and returns when it takes jobs. failpoints says where it is to die, if anywhere.
func (n *Node) Start(ctx context.Context, failpoints string) (err error) {
	n.run, err = start(ctx, n.folder, "up", n.p.Steno, environment(n.p, n.script, failpoints),
		"up", "--data", n.data, "--listen", n.address, "--admin", n.admin, "--model", model)
	if err != nil {
		return err
	}
	if err := n.run.says("ready for jobs", startTime); err != nil {
		return err
	}
	if n.client.token != "" {
		return nil
	}
	return n.client.login(ctx)
}

// Kill kills the node and checks that its children go with it.
func (n *Node) Kill() (orphans []child) {
	below := children(n.run.pid())
	n.run.kill()
	return left(below, 5*time.Second)
}

// Goroutines writes what the node's goroutines do to a file in its folder.
func (n *Node) Goroutines(ctx context.Context, name string) error {
	a, err := newClient("http://"+n.admin).call(ctx, "GET", "/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.folder, name), a.body, 0o600)
}

// Scratch lists what jobs have left in the scratch folder of the running node.
func (n *Node) Scratch() []string { return scratch(n.data) }

func scratch(data string) []string {
	all, _ := filepath.Glob(filepath.Join(data, "scratch", "*", "*")) // the pattern is good
	uploads, _ := filepath.Glob(filepath.Join(data, "scratch", "*", "uploads", "*"))
	var found []string
	for _, path := range append(all, uploads...) {
		if filepath.Base(path) != "uploads" {
			found = append(found, path)
		}
	}
	return found
}

// Cluster is a NATS server, a gateway and workers.
type Cluster struct {
	p       Programs
	folder  string
	script  string
	nats    string // the server's own address
	proxy   *Proxy // what the others connect to
	server  *process
	gateway *process
	workers []*process
	address string
	client  *Client
}

// newCluster starts the server, the proxy and the gateway, and makes the account. Workers are started by Work.
func newCluster(ctx context.Context, p Programs, folder, script string) (*Cluster, error) {
	c := &Cluster{p: p, folder: folder, script: script}
	var err error
	for _, address := range []*string{&c.nats, &c.address} {
		if *address, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	if err := c.StartServer(ctx); err != nil {
		return nil, err
	}
	if c.proxy, err = newProxy(c.nats); err != nil {
		return nil, err
	}
	if err := c.account(ctx); err != nil {
		return nil, err
	}
	if err := c.startGateway(ctx); err != nil {
		return nil, err
	}
	c.client = newClient("http://" + c.address)
	return c, c.client.login(ctx)
}

// StartServer starts the NATS server on its store.
func (c *Cluster) StartServer(ctx context.Context) (err error) {
	config := filepath.Join(c.folder, "nats.conf")
	host, port, _ := strings.Cut(c.nats, ":")
	text := fmt.Sprintf("host: %s\nport: %s\njetstream { store_dir: %q, sync_interval: always }\n",
		host, port, filepath.Join(c.folder, "jetstream"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	c.server, err = start(ctx, c.folder, "nats", c.p.NATS, proc.Env(os.Environ(), "PATH", "HOME"), "-c", config)
	if err != nil {
		return err
	}
	return c.server.says("Server is ready", startTime)
}

// account makes the user, as an operator does before the first start of a gateway.
func (c *Cluster) account(ctx context.Context) error {
	data := filepath.Join(c.folder, "gateway")
	cmd := proc.Command(ctx, c.p.Steno, "user", "add", user, "--admin", "--password-stdin", "--data", data)
	var out bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environment(c.p, "", ""), strings.NewReader(password), &out, &out
	if err := proc.Run(ctx, cmd); err != nil {
		return fmt.Errorf("make the account: %w: %s", err, out.String())
	}
	return nil
}

func (c *Cluster) startGateway(ctx context.Context) (err error) {
	c.gateway, err = start(ctx, c.folder, "gateway", c.p.Steno, environment(c.p, "", ""), "gateway",
		"--data", filepath.Join(c.folder, "gateway"), "--nats", c.proxy.URL(), "--listen", c.address, "--admin", "off")
	if err != nil {
		return err
	}
	return c.gateway.says("the API is at", startTime)
}

// data is the folder of a worker.
func (c *Cluster) data(worker int) string {
	return filepath.Join(c.folder, fmt.Sprintf("worker%d", worker))
}

// Work starts a worker, by its number.
func (c *Cluster) Work(ctx context.Context, worker int, failpoints string) error {
	run, err := start(ctx, c.folder, fmt.Sprintf("worker%d", worker), c.p.Steno, environment(c.p, c.script, failpoints), "worker",
		"--data", c.data(worker), "--nats", c.proxy.URL(), "--jobs", "2", "--states", "4", "--model", model, "--admin", "off")
	if err != nil {
		return err
	}
	for len(c.workers) <= worker {
		c.workers = append(c.workers, nil)
	}
	c.workers[worker] = run
	if failpoints != "" {
		return nil // it may die before it is ready
	}
	return run.says("ready for jobs", startTime)
}

// Close ends all processes.
func (c *Cluster) Close() {
	for _, p := range append([]*process{c.gateway, c.server}, c.workers...) {
		if p != nil {
			p.kill()
		}
	}
	if c.proxy != nil {
		c.proxy.Close()
	}
}
