package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"steno/internal/proc"
)

// Programs are those under test.
type Programs struct {
	Steno  string // built with -tags failpoints
	Clock  string // the same with a wall clock that can be set, for the row that needs it
	NATS   string // a NATS server, for rows that need one of its own
	Models string // folder of model files
}

// scripted is the model that a soak's jobs ask for where the script is to play; those that ask for model get the library.
const scripted = "base"

// model that the jobs ask for. Its file is real, and verified at each load, also where a script plays its engine.
const model = "tiny.en"

// startTime is how long a process may take to be ready.
const startTime = 60 * time.Second

// Node is one `steno up`.
type Node struct {
	site    *site
	data    string
	script  string   // STENO_SCRIPT; empty for the real engine
	env     []string // further variables
	flags   []string // further flags
	inside  []string // a command that runs it, with its program as the next argument
	address string
	admin   string
	run     *process
	client  *Client
}

// newNode prepares a node with a data folder; Start starts it.
func newNode(s *site, script string) (*Node, error) {
	n := &Node{site: s, data: filepath.Join(s.folder, "data"), script: script}
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
		"STENO_MODELS="+p.Models, "STENO_PASSWORD="+password,
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
	command := slices.Concat(n.inside, []string{n.site.Steno,
		"up", "--data", n.data, "--listen", n.address, "--admin", n.admin, "--model", model}, n.flags)
	env := append(environment(n.site.Programs, n.script, failpoints), "STENO_PPROF=true")
	env = append(env, n.env...)
	if n.run, err = n.site.start(ctx, "up", command[0], env, command[1:]...); err != nil {
		return err
	}
	if err := n.run.says("ready for jobs", startTime); err != nil {
		return err
	}
	if n.client.bearer() != "" {
		return nil
	}
	return n.client.login(ctx)
}

// Restart ends the node by SIGTERM and starts it again with other further variables.
func (n *Node) Restart(ctx context.Context, o *Oracle, env []string) error {
	n.run.signal(syscall.SIGTERM)
	if !n.run.waitFor(35 * time.Second) {
		o.Wrong("I5", "the node had not ended 35 s after SIGTERM")
		n.run.kill()
	}
	n.env = env
	return n.Start(ctx, "")
}

// Kill kills the node and checks that its children go with it.
func (n *Node) Kill() (orphans []child) {
	below := children(n.run.pid())
	n.run.kill()
	return left(below, 5*time.Second)
}

// Lowest reads the node's metrics for a time and returns the lowest value of each: what it holds for good, without what comes and
// goes.
func (n *Node) Lowest(ctx context.Context, within time.Duration) (map[string]float64, error) {
	n.client.http.CloseIdleConnections()
	var lowest map[string]float64
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
		m, err := metrics(ctx, n.admin)
		if err != nil {
			return nil, err
		}
		if lowest == nil {
			lowest = m
		}
		for name, v := range m {
			lowest[name] = min(lowest[name], v)
		}
	}
	return lowest, nil
}

// Profile writes a profile of the node to a file in its folder.
func (n *Node) Profile(ctx context.Context, what, name string) error {
	c := newClient("http://" + n.admin)
	defer c.http.CloseIdleConnections() // it would be counted among what the node holds
	a, err := c.call(ctx, "GET", "/debug/pprof/"+what, nil)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.site.folder, name), a.body, 0o600)
}

// Dead lists the ids of the dead letters, as an operator would.
func (n *Node) Dead(ctx context.Context) ([]string, error) {
	return dead(ctx, n.site, "--data", n.seen())
}

// seen is the path under which the data folder of the running node is seen from here.
func (n *Node) seen() string {
	if n.inside == nil {
		return n.data
	}
	return fmt.Sprintf("/proc/%d/root%s", n.run.pid(), n.data)
}

func dead(ctx context.Context, s *site, where ...string) ([]string, error) {
	cmd := exec.CommandContext(ctx, s.Steno, append([]string{"dead", "list", "--json"}, where...)...)
	cmd.Env = environment(s.Programs, "", "")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	var letters []struct{ ID string }
	if err := json.Unmarshal(out, &letters); err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	var ids []string
	for _, l := range letters {
		ids = append(ids, l.ID)
	}
	return ids, nil
}

// Scratch lists what jobs have left in the scratch folder of the running node.
func (n *Node) Scratch() []string { return scratch(n.seen()) }

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
	site    *site
	script  string
	nats    string // the server's own address
	proxy   *Proxy // what the others connect to
	server  *process
	gateway *process
	workers []*process
	address string
	admin   string   // the gateway's
	admins  []string // the workers'
	client  *Client
}

// newCluster starts the server, the proxy and the gateway, and makes the account. Workers are started by Work.
func newCluster(ctx context.Context, s *site, script string) (*Cluster, error) {
	c := &Cluster{site: s, script: script}
	var err error
	for _, address := range []*string{&c.nats, &c.address, &c.admin} {
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
	config := filepath.Join(c.site.folder, "nats.conf")
	host, port, _ := strings.Cut(c.nats, ":")
	text := fmt.Sprintf("host: %s\nport: %s\njetstream { store_dir: %q, sync_interval: always }\n",
		host, port, filepath.Join(c.site.folder, "jetstream"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	c.server, err = c.site.start(ctx, "nats", c.site.NATS, proc.Env(os.Environ(), "PATH", "HOME"), "-c", config)
	if err != nil {
		return err
	}
	return c.server.says("Server is ready", startTime)
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
	c.gateway, err = c.site.start(ctx, "gateway", c.site.Steno, environment(c.site.Programs, "", ""), "gateway",
		"--data", filepath.Join(c.site.folder, "gateway"), "--nats", c.proxy.URL(), "--listen", c.address, "--admin", c.admin)
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
	return dead(ctx, c.site, "--nats", c.proxy.URL())
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
	env := environment(c.site.Programs, c.script, failpoints)
	run, err := c.site.start(ctx, fmt.Sprintf("worker%d", worker), c.site.Steno, env, "worker", "--data", c.data(worker),
		"--nats", c.proxy.URL(), "--jobs", "2", "--states", "4", "--model", model, "--admin", c.admins[worker])
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
	for _, p := range append([]*process{c.gateway, c.server}, c.workers...) {
		if p != nil {
			p.kill()
		}
	}
	if c.proxy != nil {
		c.proxy.Close()
	}
}
