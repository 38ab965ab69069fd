package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"steno/job"
)

// Order is what a node is to do with a model.
type Order struct {
	// Do is OrderLoad, OrderPin, OrderUnpin or OrderUnload.
	Do    string `json:"do"`
	Model string `json:"model"`
	// Device is one of the node's, or empty for the one that it would choose.
	Device string `json:"device,omitempty"`
	// Words tells that word timestamps will be asked for.
	Words bool `json:"words,omitempty"`
}

// What a node can be told to do with a model.
const (
	OrderLoad   = "load"   // into memory, to be there for the next job
	OrderPin    = "pin"    // it gives way to no other, and stays when idle
	OrderUnpin  = "unpin"  // it may
	OrderUnload = "unload" // out of memory when no job has it any more; takes a pin back
)

// orderTime is how long a worker has to answer to an order: less than the one who gave it waits.
const orderTime = 5 * time.Second

// maxOrder is the most bytes of an order.
const maxOrder = 4 << 10

// Order has a node do something with a model. It returns when the node has begun; what becomes of it is seen in what the node
// tells of itself with its heartbeats. The node's own refusals pass with their class and code; besides there are NODE_NOT_FOUND,
// NODE_DRAINING and NO_MODELS.
func (q *Queue) Order(ctx context.Context, node string, o Order) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if node != nodeID(node) || node == "" {
		return noNode(node)
	}
	data, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode an order: %w", err)
	}
	if len(data) > maxOrder {
		return job.Errorf(job.Input, "BAD_ORDER", "the order has %d bytes of %d: name the model alone", len(data), maxOrder)
	}
	answer, err := q.nc.RequestWithContext(ctx, subjectModel+"."+node, data)
	if errors.Is(err, nats.ErrNoResponders) {
		return noNode(node)
	}
	if err != nil {
		return q.unreachable("give node "+node+" an order", err)
	}
	if len(answer.Data) == 0 {
		return nil
	}
	var refusal job.Error
	if err := json.Unmarshal(answer.Data, &refusal); err != nil || refusal.Code == "" {
		return job.Errorf(job.Internal, "BAD_ANSWER", "node %s has answered what is not understood: look at its version", node)
	}
	return &refusal
}

func noNode(node string) error {
	return &job.Error{
		Class: job.Input, Code: "NODE_NOT_FOUND",
		Message: fmt.Sprintf("there is no node %q: list them with `steno nodes`", node),
	}
}

// hearOrder answers an order with nothing, or with the error that refuses it.
func (w *worker) hearOrder(m *nats.Msg) {
	err := w.order(m.Data)
	var answer []byte
	if e := job.AsError(err); e != nil {
		e, _ = shorten(e)
		w.q.cfg.Log.Warn("order refused", "worker", w.cfg.Name, "code", e.Code, "error", err)
		if answer, err = json.Marshal(e); err != nil {
			w.q.cfg.Log.Error("answer an order", "error", err)
		}
	}
	if err := m.Respond(answer); err != nil {
		w.q.cfg.Log.Warn("answer an order", "error", err) // who gave it gets no answer in time
	}
}

func (w *worker) order(data []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = job.Errorf(job.Internal, "PANIC", "the node cannot do that, which is a fault of ours: read its log")
			w.q.cfg.Log.Error("order panicked", "panic", r)
		}
	}()
	var o Order
	if len(data) > maxOrder || json.Unmarshal(data, &o) != nil {
		return job.Errorf(job.Input, "BAD_ORDER", "the order is not understood: give one of this version")
	}
	if w.cfg.Manage == nil {
		return job.Errorf(job.Input, "NO_MODELS", "this node keeps no models that could be managed: choose another one")
	}
	if w.stopping() && o.Do != OrderUnload {
		return job.Errorf(job.Input, "NODE_DRAINING", "the node is draining: choose another one")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.stop), orderTime)
	defer cancel()
	w.q.cfg.Log.Info("order", "worker", w.cfg.Name, "do", o.Do, "model", o.Model, "device", o.Device)
	if err := w.cfg.Manage(ctx, o); err != nil {
		return err
	}
	select {
	case w.ordered <- struct{}{}:
	default: // it is about to tell
	}
	return nil
}
