package api

import (
	"context"
	"net/http"
	"sync"
	"time"

	"steno/job"
	"steno/store"
)

// Fleet are the workers.
type Fleet interface {
	// Nodes lists those that live.
	Nodes(ctx context.Context) ([]Node, error)
	// Drain has one take no more jobs and end with those that it runs. The code of the error is NODE_NOT_FOUND where it is not
	// there.
	Drain(ctx context.Context, node string) error
	// Order has one do something with a model. It returns when the node has begun. The node's refusals pass with class and code.
	Order(ctx context.Context, node string, o ModelOrder) error
}

// Node is a worker as it tells of itself. Its JSON is what administrators see.
type Node struct {
	ID      string    `json:"node_id"`
	Host    string    `json:"host"`
	Worker  string    `json:"worker" doc:"the name that its jobs show"`
	Version string    `json:"version"`
	State   string    `json:"state" enum:"ready,waiting,draining" doc:"waiting takes no jobs for now, draining none any more"`
	Started time.Time `json:"started_at"`
	Seen    time.Time `json:"seen_at" doc:"when it last told of itself; one that died is listed for half a minute"`
	Pools   []string  `json:"pools" nullable:"false" doc:"those that it takes jobs from"`
	Slots   int       `json:"slots" doc:"how many jobs it may run at the same time"`
	Running int       `json:"running" doc:"how many it does"`
	Helping int       `json:"helping" doc:"chunks of other workers' jobs that it decodes"`
	Waiting int       `json:"waiting" doc:"requests that wait for a model"`
	// RSS is of the worker alone: each engine has its own.
	RSS         int64                `json:"rss_bytes" doc:"resident memory of the worker's own process"`
	Devices     []NodeDevice         `json:"devices" nullable:"false"`
	Models      []NodeModel          `json:"models" nullable:"false" doc:"those that take room"`
	Files       []string             `json:"files" nullable:"false" doc:"the models that it could load"`
	Quarantined map[string]time.Time `json:"quarantined,omitempty" doc:"models that rest until then: their engines died too often"`
	Troubles    []NodeTrouble        `json:"troubles" nullable:"false" doc:"the last orders that were begun and went wrong"`
}

// NodeDevice is what a node computes on.
type NodeDevice struct {
	ID           string   `json:"device" example:"cuda:0"`
	Name         string   `json:"name"`
	Kind         string   `json:"kind" doc:"cpu or cuda"`
	Total        int64    `json:"total_bytes" doc:"its memory; of a CPU the RAM that the node may use"`
	Free         int64    `json:"free_bytes"`
	Models       int64    `json:"model_bytes" doc:"what the models on it take"`
	Budget       int64    `json:"budget_bytes" doc:"what they may take"`
	Slots        int      `json:"slots" doc:"decodes at the same time"`
	SlotsInUse   int      `json:"slots_in_use"`
	SlotsWaiting int      `json:"slots_waiting"`
	Utilization  *float64 `json:"utilization" doc:"of a GPU, 0 to 1"`
	Temperature  *float64 `json:"temperature_celsius"`
	Power        *float64 `json:"power_watts"`
	Problem      string   `json:"problem" doc:"why nothing can run on it; empty where it can"`
}

// NodeModel is a model that takes room on a node.
type NodeModel struct {
	Model    string     `json:"model"`
	Device   string     `json:"device" doc:"where it is"`
	Asked    string     `json:"asked_device" doc:"where it was to be; orders name this one"`
	Words    bool       `json:"words" doc:"it was loaded for times of words"`
	State    string     `json:"state" enum:"loading,ready,closing"`
	Refs     int        `json:"references" doc:"jobs that have it now"`
	Bytes    int64      `json:"bytes" doc:"of the device's memory; a forecast while it is loading"`
	RSS      int64      `json:"rss_bytes" doc:"of its engine's process"`
	Pinned   bool       `json:"pinned" doc:"it gives way to no other and stays when idle"`
	Loads    int        `json:"loads" doc:"since the node's start"`
	Fallback string     `json:"fallback" doc:"why it is not where it was to be"`
	LastUsed *time.Time `json:"last_used_at"`
}

// NodeTrouble is an order that was begun and went wrong.
type NodeTrouble struct {
	Do      string    `json:"do"`
	Model   string    `json:"model"`
	Device  string    `json:"device"`
	Class   job.Class `json:"class"`
	Code    string    `json:"code"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
}

// ModelOrder is what a node is to do with a model.
type ModelOrder struct {
	Do     string `json:"do" enum:"load,pin,unpin,unload" doc:"unload takes a pin back, and waits for the jobs that have the model"`
	Model  string `json:"model" minLength:"1" maxLength:"128" doc:"one of the node's files, or a loaded one" example:"base-q8_0"`
	Device string `json:"device,omitempty" maxLength:"32" doc:"default: the one that the node chooses" example:"cuda:0"`
	Words  bool   `json:"words,omitempty" doc:"for tasks that ask for times of words"`
}

// Depth is how much work the queue holds.
type Depth struct {
	Pending, InFlight, Dead int
	OldestAge               time.Duration
}

type nodesOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Items []Node `json:"items" nullable:"false" doc:"by id"`
	}
}

// nodes lists the workers.
func (s *Server) nodes(ctx context.Context, _ *struct{}) (*nodesOutput, error) {
	if s.cfg.Fleet == nil {
		return nil, errNoOperations()
	}
	list, err := s.cfg.Fleet.Nodes(ctx)
	out := &nodesOutput{CacheControl: "no-store"}
	out.Body.Items = append([]Node{}, list...)
	return out, err
}

type nodeInput struct {
	ID string `path:"node_id" maxLength:"256"`
}

type begunOutput struct {
	Body struct {
		ID string `json:"node_id"`
	}
}

// drainNode has a worker end.
func (s *Server) drainNode(ctx context.Context, in *nodeInput) (*begunOutput, error) {
	if s.cfg.Fleet == nil {
		return nil, errNoOperations()
	}
	out := &begunOutput{}
	out.Body.ID = in.ID
	return out, s.cfg.Fleet.Drain(ctx, in.ID)
}

type orderInput struct {
	ID   string `path:"node_id" maxLength:"256"`
	Body ModelOrder
}

// orderModel has a worker do something with a model.
func (s *Server) orderModel(ctx context.Context, in *orderInput) (*begunOutput, error) {
	if s.cfg.Fleet == nil {
		return nil, errNoOperations()
	}
	out := &begunOutput{}
	out.Body.ID = in.ID
	return out, s.cfg.Fleet.Order(ctx, in.ID, in.Body)
}

type summaryBody struct {
	Pending   int     `json:"pending" doc:"jobs that no worker has yet"`
	InFlight  int     `json:"in_flight" doc:"jobs that run, or wait for another try"`
	OldestAge float64 `json:"oldest_age_seconds" doc:"how long the first of those that wait has been waiting"`
	Dead      int     `json:"dead_letters"`
	// The rest is of the last hour.
	Done      int      `json:"done" doc:"tasks that were done in the last hour"`
	Failed    int      `json:"failed"`
	Cancelled int      `json:"cancelled"`
	Failures  *float64 `json:"failure_share" doc:"failed of those that were done or failed; null where none was"`
	Audio     float64  `json:"audio_seconds" doc:"the length of what was transcribed"`
	RealTime  *float64 `json:"real_time_factor" doc:"seconds of work for one of audio; null where nothing was done"`
}

type summaryOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         summaryBody
}

// summing keeps the throughput of the last hour for a moment, for it reads a day of tasks. Safe for concurrent use.
type summing struct {
	mu   sync.Mutex // held while the record is asked
	at   time.Time
	last store.Throughput
}

// summed is how long it is kept.
const summed = 5 * time.Second

func (u *summing) now(ctx context.Context, s *Server) (store.Throughput, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := s.cfg.Now()
	if age := now.Sub(u.at); age >= 0 && age < summed {
		return u.last, nil
	}
	t, err := s.cfg.Store.Throughput(ctx, now.Add(-time.Hour))
	if err == nil {
		u.last, u.at = t, now
	}
	return t, err
}

// summary tells at a glance how it goes.
func (s *Server) summary(ctx context.Context, _ *struct{}) (*summaryOutput, error) {
	if s.cfg.Depth == nil {
		return nil, errNoOperations()
	}
	d, err := s.cfg.Depth(ctx)
	if err != nil {
		return nil, err
	}
	t, err := s.summing.now(ctx, s)
	if err != nil {
		return nil, err
	}
	body := summaryBody{
		Pending: d.Pending, InFlight: d.InFlight, OldestAge: d.OldestAge.Seconds(), Dead: d.Dead,
		Done: t.Done, Failed: t.Failed, Cancelled: t.Cancelled, Audio: t.Audio,
	}
	if n := t.Done + t.Failed; n > 0 {
		share := float64(t.Failed) / float64(n)
		body.Failures = &share
	}
	if t.Audio > 0 {
		factor := t.Work / t.Audio
		body.RealTime = &factor
	}
	return &summaryOutput{"no-store", body}, nil
}

func (s *Server) nodeRoutes() {
	const path = prefix + "/admin"
	register(s, route{
		method: http.MethodGet, path: path + "/summary", id: "summary", tag: "operations", admin: true,
		summary:     "See at a glance how it goes",
		description: "Of the last hour those tasks count that were created within the day before it. What was reused is left out.",
		fails:       []int{http.StatusNotFound},
	}, s.summary)
	register(s, route{
		method: http.MethodGet, path: path + "/nodes", id: "list-nodes", tag: "operations", admin: true,
		summary: "List the workers with their devices and models",
		fails:   []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.nodes)
	register(s, route{
		method: http.MethodPost, path: path + "/nodes/{node_id}/drain", id: "drain-node", tag: "operations", admin: true,
		status: http.StatusAccepted, summary: "Have a worker end with the jobs that it runs",
		description: "It takes no more jobs, and its process ends when those that it runs have ended, or have been handed back. " +
			"The worker of `steno up` takes the whole process with it.",
		fails: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.drainNode)
	register(s, route{
		method: http.MethodPost, path: path + "/nodes/{node_id}/models", id: "order-model", tag: "operations", admin: true, body: true,
		status: http.StatusAccepted, summary: "Load, pin, unpin or unload a model on a worker",
		description: "The answer comes when the worker has begun. The list of workers shows what becomes of it: the model's state, " +
			"or among `troubles` why it could not be done.",
		fails: []int{http.StatusNotFound, http.StatusConflict},
	}, s.orderModel)
}
