package queue

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// Node is a worker as it tells of itself with each heartbeat.
type Node struct {
	// ID is unique among all that live: the host's name and the process's number.
	ID   string `json:"id"`
	Host string `json:"host"`
	// Worker is the name that its jobs show.
	Worker  string    `json:"worker"`
	Started time.Time `json:"started_at"`
	// State is NodeReady, NodeWaiting or NodeDraining.
	State string `json:"state"`
	// Pools are those that it takes jobs from.
	Pools []string `json:"pools"`
	// Slots is how many jobs it may run at the same time, Running how many it does.
	Slots   int `json:"slots"`
	Running int `json:"running"`
	// Helping is how many chunks of other workers' jobs it decodes.
	Helping int `json:"helping"`
	// About is what WorkerConfig.Describe returned, in JSON.
	About json.RawMessage `json:"about,omitempty"`
	// Seen is when it last told, by the broker's clock.
	Seen time.Time `json:"seen_at"`
}

// The states of a node.
const (
	NodeReady    = "ready"    // takes jobs
	NodeWaiting  = "waiting"  // takes none for now: WorkerConfig.Ready says why in the log
	NodeDraining = "draining" // takes none any more, and ends with those that it runs
)

// Nodes lists the workers that live, by id. One that died is listed for Limits.NodeAge.
func (q *Queue) Nodes(ctx context.Context) ([]Node, error) {
	if q.nodes == nil {
		return nil, job.Errorf(job.Input, "NO_NODES", "no worker on this queue tells of itself: they are older than this steno")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// Not by a watch: where an entry ends meanwhile, that waits for ever for what it has counted.
	stream, err := q.js.Stream(ctx, "KV_"+bucketNodes)
	if err != nil {
		return nil, q.unreachable("list nodes", err)
	}
	prefix := "$KV." + bucketNodes + "."
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return nil, q.unreachable("list nodes", err)
	}
	nodes := []Node{}
	for _, subject := range slices.Sorted(maps.Keys(info.State.Subjects)) {
		entry, err := q.nodes.Get(ctx, strings.TrimPrefix(subject, prefix))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // it has ended
		}
		if err != nil {
			return nil, q.unreachable("list nodes", err)
		}
		var n Node
		if err := json.Unmarshal(entry.Value(), &n); err != nil {
			q.cfg.Log.Error("node's heartbeat", "node", entry.Key(), "error", err)
			continue
		}
		n.Seen = entry.Created()
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// Drain tells a node to take no more jobs and to end when those that it runs have ended, or after its time for that. It returns
// when the node has heard it.
func (q *Queue) Drain(ctx context.Context, node string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if node != nodeID(node) || node == "" {
		return noNode(node)
	}
	_, err := q.nc.RequestWithContext(ctx, subjectDrain+"."+node, nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return noNode(node)
	}
	return q.unreachable("drain node "+node, err)
}

// nodeID turns a name into one that is a token of a subject and a key.
func nodeID(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
}

// node is what the worker tells of itself now.
func (w *worker) node(started time.Time) Node {
	host, _ := os.Hostname() // an empty name is as good as none
	n := Node{
		ID: nodeID(w.cfg.Name), Host: host, Worker: w.cfg.Name, Started: started, State: NodeReady,
		Pools: w.cfg.Pools, Slots: w.cfg.Slots,
	}
	w.mu.Lock()
	n.Running = len(w.running)
	if w.waits {
		n.State = NodeWaiting
	}
	w.mu.Unlock()
	if w.helping != nil {
		n.Helping = w.helping.count()
	}
	if w.stopping() {
		n.State = NodeDraining
	}
	if w.cfg.Describe != nil {
		about, err := json.Marshal(w.cfg.Describe())
		if err != nil {
			w.q.cfg.Log.Error("describe the node", "error", err)
		}
		n.About = about
	}
	return n
}

// After an order a worker tells of itself each second for a minute: whoever gave it watches what becomes of it.
const (
	watchedFor   = time.Minute
	watchedEvery = time.Second
)

// announce tells of the worker with each heartbeat, and at once when it begins to drain or was given an order, until the function
// that it returns is called; then the node is no longer listed. That nobody hears it is no reason to stop work.
func (w *worker) announce() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.stop))
	started, ended := time.Now().UTC(), make(chan struct{})
	tell := func() {
		data, err := json.Marshal(w.node(started))
		if err == nil {
			err = w.q.tell(ctx, nodeID(w.cfg.Name), data)
		}
		if err != nil && ctx.Err() == nil {
			w.q.cfg.Log.Warn("node's heartbeat", "error", err)
		}
	}
	go func() {
		defer close(ended)
		beat := time.NewTicker(w.cfg.HeartbeatEvery)
		defer beat.Stop()
		draining := w.stop.Done()
		var watched <-chan time.Time
		var until time.Time
		for {
			tell()
			if watched != nil && time.Now().After(until) {
				watched = nil
			} else if watched != nil {
				watched = time.After(watchedEvery)
			}
			select {
			case <-beat.C:
			case <-watched:
			case <-w.ordered:
				watched, until = time.After(watchedEvery), time.Now().Add(watchedFor)
			case <-draining:
				draining = nil
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		w.q.unlist(nodeID(w.cfg.Name))
	}
}

// tell stores a heartbeat.
func (q *Queue) tell(ctx context.Context, id string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if q.nodes == nil {
		return errors.New("the broker has no place for nodes: start a worker or gateway of this version that may make one")
	}
	_, err := q.nodes.Put(ctx, id, data)
	return q.unreachable("tell of the node", err)
}

// unlist takes a node off the list. Where that does not work its entry ends by itself.
func (q *Queue) unlist(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if q.nodes == nil || !q.nc.IsConnected() {
		return
	}
	if err := q.nodes.Purge(ctx, id); err != nil {
		q.cfg.Log.Warn("take the node off the list", "error", err)
	}
}
