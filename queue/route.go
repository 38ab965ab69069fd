package queue

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// restFor is how long a worker takes no job that has left one to another, so that the other one gets it.
const restFor = 300 * time.Millisecond

// warm asks for a worker that has a model in memory and a slot to spare.
type warm struct {
	Node  string `json:"node"` // who asks
	Model string `json:"model"`
}

// leave gives a job back that would have to wait for its model here, if another worker has it in memory and is free: once only,
// for whoever gets the message the second time takes it.
func (w *worker) leave(ctx context.Context, msg jetstream.Msg) bool {
	if w.cfg.Warm == nil {
		return false
	}
	if w.rests() { // it was on its way here when the other one was chosen
		return msg.Nak() == nil
	}
	meta, err := msg.Metadata()
	if err != nil || meta.NumDelivered > 1 {
		return false
	}
	j, err := parseMessage(msg.Subject(), msg.Data())
	if err != nil || w.cfg.Warm(j.Params.Model) {
		return false
	}
	data, err := json.Marshal(warm{nodeID(w.cfg.Name), j.Params.Model})
	if err != nil {
		return false
	}
	pool := strings.Split(msg.Subject(), ".")[2]
	ctx, cancel := context.WithTimeout(ctx, w.cfg.WarmWithin)
	defer cancel()
	answer, err := w.q.nc.RequestWithContext(ctx, subjectWarm+"."+pool, data)
	if err != nil {
		return false // nobody, or nobody in time
	}
	w.mu.Lock()
	w.rest = time.Now().Add(restFor) // before the message is there again
	w.mu.Unlock()
	if err := msg.Nak(); err != nil {
		return false
	}
	if err := w.q.nc.Publish(subjectNudge+"."+string(answer.Data), nil); err != nil {
		w.q.cfg.Log.Debug("tell a worker of a job for it", "error", err)
	}
	w.q.metrics.routed.Inc()
	return true
}

// rests tells whether the worker has left a job to another one just now.
func (w *worker) rests() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Before(w.rest)
}

// hearNudge makes the worker look for a job that another one has left to it: again and again, for the server may tell of that
// before the job is there.
func (w *worker) hearNudge(*nats.Msg) {
	w.nudge()
	for _, d := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
		time.AfterFunc(d, w.nudge)
	}
}

// hearWarm answers where this worker has the model and a slot.
func (w *worker) hearWarm(m *nats.Msg) {
	var a warm
	if err := json.Unmarshal(m.Data, &a); err != nil || a.Node == nodeID(w.cfg.Name) || w.stopping() {
		return
	}
	w.mu.Lock()
	free := len(w.running) < w.cfg.Slots && !w.waits
	w.mu.Unlock()
	if free && w.cfg.Warm(a.Model) {
		_ = m.Respond([]byte(nodeID(w.cfg.Name))) // without an answer the other one takes the job
	}
}
