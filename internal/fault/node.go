package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
