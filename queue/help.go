package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// Helper decodes chunks of jobs that other workers have. Its functions must be safe for concurrent use.
type Helper struct {
	// Free is how many more chunks would be decoded at once, or wait for no more than one, if so many are in hand.
	Free func(inHand int) int
	// Has tells whether the weights with this SHA-256 are here.
	Has func(model string) bool
	// Decode returns the chunk's result. An error gives the chunk back to whoever has the job, who decodes it then.
	Decode func(ctx context.Context, c Chunk) ([]byte, error)
}

// helping is a worker's work for others. It takes chunks while the worker has nothing better to do, and so is no bound to jobs.
type helping struct {
	w       *worker
	cfg     Helper
	offered chan struct{} // there may be chunks to take
	asks    chan asked

	sources map[source]*offers // used by loop alone

	mu     sync.Mutex
	inHand map[*Chunk]context.CancelCauseFunc
}

// source is what a worker takes chunks from.
type source struct{ pool, model string }

type offers struct {
	consumer jetstream.Consumer
	asked    time.Time
}

const (
	// asksKept is how many asks may wait for their answer. Who gets none asks again.
	asksKept = 64
	// offersFor is how long a worker looks for chunks of a model that nobody asks for any more; the broker forgets the consumer in
	// ten times that.
	offersFor = time.Minute
)

// offerHelp makes the worker listen for those who want chunks decoded. It returns nil where it is no helper.
func (w *worker) offerHelp() (*helping, error) {
	if w.cfg.Helper == nil || w.q.spread == nil {
		return nil, nil
	}
	h := &helping{
		w: w, cfg: *w.cfg.Helper, offered: make(chan struct{}, 1), asks: make(chan asked, asksKept),
		sources: map[source]*offers{}, inHand: map[*Chunk]context.CancelCauseFunc{},
	}
	for _, pool := range w.cfg.Pools {
		if err := w.listen(subjectAsk+"."+pool, h.hearAsk); err != nil {
			return nil, err
		}
		if err := w.listen(subjectOffered+"."+pool, func(*nats.Msg) { h.nudge() }); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *helping) nudge() {
	select {
	case h.offered <- struct{}{}:
	default:
	}
}

func (h *helping) hearAsk(m *nats.Msg) {
	var a asked
	if err := json.Unmarshal(m.Data, &a); err != nil {
		h.w.q.cfg.Log.Warn("another worker asks for help in words not understood", "error", err)
		return
	}
	if a.Node == nodeID(h.w.cfg.Name) || !slices.Contains(h.w.cfg.Pools, a.Pool) {
		return
	}
	select {
	case h.asks <- a:
	default:
	}
}

// loop answers and takes chunks until ctx ends. work is what the decodes see.
func (h *helping) loop(ctx, work context.Context) {
	poll := time.NewTicker(h.w.cfg.PollEvery) // for chunks that come back from a worker that died
	defer poll.Stop()
	for {
		for ctx.Err() == nil && h.free() > 0 {
			msg := h.next()
			if msg == nil {
				break
			}
			h.take(work, msg)
		}
		select {
		case a := <-h.asks:
			h.answer(ctx, a)
		case <-h.offered:
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

func (h *helping) free() int { return h.cfg.Free(h.count()) }

func (h *helping) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.inHand)
}

// answer tells how many chunks the worker would take, if it can take any.
func (h *helping) answer(ctx context.Context, a asked) {
	free := h.free()
	if free <= 0 || !h.cfg.Has(a.Model) {
		return
	}
	if err := h.open(ctx, source{a.Pool, a.Model}); err != nil {
		h.w.q.cfg.Log.Warn("take chunks of others", "error", err)
		return
	}
	h.tell(a.Reply, newsFree, []byte(strconv.Itoa(free)))
}

// open makes the consumer that all workers with these weights share.
func (h *helping) open(ctx context.Context, s source) error {
	if o := h.sources[s]; o != nil {
		o.asked = time.Now()
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, offerWithin)
	defer cancel()
	c, err := h.w.q.js.CreateOrUpdateConsumer(ctx, streamChunks, jetstream.ConsumerConfig{
		Durable: s.pool + "-" + short(s.model), FilterSubject: offerSubject(s.pool, s.model, "*"),
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: 3 * silentFor, MaxDeliver: 3, MaxAckPending: -1,
		InactiveThreshold: 10 * offersFor, Replicas: h.w.q.cfg.Replicas, MemoryStorage: true,
	})
	if err != nil {
		return fmt.Errorf("open consumer of chunks: %w", err)
	}
	h.sources[s] = &offers{c, time.Now()}
	return nil
}

// next takes a chunk from the stream, if there is one.
func (h *helping) next() jetstream.Msg {
	for s, o := range h.sources {
		if time.Since(o.asked) > offersFor {
			delete(h.sources, s)
			continue
		}
		batch, err := o.consumer.FetchNoWait(1)
		if err == nil {
			if msg, ok := <-batch.Messages(); ok {
				return msg
			}
			err = batch.Error()
		}
		if err != nil {
			h.w.q.cfg.Log.Debug("look for chunks of others", "error", err)
			delete(h.sources, s) // whoever asks again gets it opened anew
		}
	}
	return nil
}

// take decodes a chunk beside what else the worker does.
func (h *helping) take(work context.Context, msg jetstream.Msg) {
	c := &Chunk{Audio: msg.Data()}
	if err := json.Unmarshal([]byte(msg.Headers().Get(headerChunk)), c); err != nil || c.Reply == "" {
		h.w.q.cfg.Log.Error("message is no chunk", "subject", msg.Subject(), "error", err)
		h.settle(msg.TermWithReason("no chunk"))
		return
	}
	ctx, cancel := context.WithCancelCause(work)
	h.mu.Lock()
	h.inHand[c] = cancel
	h.mu.Unlock()
	h.w.jobs.Go(func() {
		defer h.nudge() // there is room for another
		defer func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.inHand, c)
		}()
		defer cancel(nil)
		h.serve(ctx, msg, c)
	})
}

// serve sees a chunk to its end.
func (h *helping) serve(ctx context.Context, msg jetstream.Msg, c *Chunk) {
	stop := h.keep(msg, c)
	data, err := h.decode(ctx, *c)
	stop()
	q := h.w.q
	switch {
	case err == nil:
		// Kept first: where the news is lost, or whoever has the job has died, it is found there.
		if err := (&Chunks{q: q}).Put(context.WithoutCancel(ctx), c.Key, data); err != nil {
			q.cfg.Log.Warn("keep a chunk decoded for another worker", "job", c.Job, "error", err)
		}
		h.tell(c.Reply, newsDone, data)
		q.metrics.helped.WithLabelValues("done").Inc()
		h.settle(msg.Ack())
	case h.w.stopping():
		q.metrics.helped.WithLabelValues("handed back").Inc()
		h.settle(msg.Nak()) // others may have it
		h.tell(c.Reply, newsRefused, []byte("it stops"))
	default:
		if !errors.Is(err, ErrCancelled) {
			q.cfg.Log.Warn("decode a chunk for another worker", "job", c.Job, "error", err)
		}
		q.metrics.helped.WithLabelValues("refused").Inc()
		h.settle(msg.TermWithReason("refused"))
		h.tell(c.Reply, newsRefused, []byte(err.Error()))
	}
}

// keep tells that the chunk is in hand, again and again until stop is called.
func (h *helping) keep(msg jetstream.Msg, c *Chunk) (stop func()) {
	h.tell(c.Reply, newsTaken, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for sleep(ctx, newsEvery) {
			h.settle(msg.InProgress())
			h.tell(c.Reply, newsTaken, nil)
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

func (h *helping) decode(ctx context.Context, c Chunk) (data []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			h.w.q.cfg.Log.Error("a chunk for another worker made it panic", "job", c.Job, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return h.cfg.Decode(ctx, c)
}

// cancel ends the chunks of a job that its user has cancelled.
func (h *helping) cancel(id job.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c, cancel := range h.inHand {
		if c.Job == id {
			cancel(ErrCancelled)
		}
	}
}

// tell sends news. That nobody hears it costs a chunk that is decoded twice.
func (h *helping) tell(reply, kind string, body []byte) {
	m := nats.NewMsg(reply)
	m.Header.Set(headerNews, kind)
	m.Header.Set(headerNode, nodeID(h.w.cfg.Name))
	m.Data = body
	if err := h.w.q.nc.PublishMsg(m); err != nil {
		h.w.q.cfg.Log.Debug("tell of a chunk", "news", kind, "error", err)
	}
}

// settle is for acknowledgements: where one is lost the chunk comes again, and its job may have ended.
func (h *helping) settle(err error) {
	if err != nil {
		h.w.q.cfg.Log.Debug("acknowledge a chunk", "error", err)
	}
}
