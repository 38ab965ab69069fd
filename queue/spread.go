package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// Chunk is a part of a job's work that any worker with the same weights can do.
type Chunk struct {
	Job job.ID `json:"job"`
	// Key is what its result is kept under (Chunks).
	Key string `json:"key"`
	// Model is the SHA-256 of the weights.
	Model string `json:"model"`
	// Task says what to do with the audio. The queue does not look into it.
	Task json.RawMessage `json:"task"`
	// Reply is the subject for news of the chunk.
	Reply string `json:"reply"`
	// Audio is 16 kHz mono, 16 bits a sample, little-endian.
	Audio []byte `json:"-"`
}

// News of an offered chunk, in the header of a message on Chunk.Reply.
const (
	headerChunk = "Steno-Chunk" // of the offer itself: the Chunk in JSON
	headerNews  = "Steno-News"
	headerNode  = "Steno-Node"

	newsFree    = "free"    // a node tells how many chunks it would take; the body is the number
	newsTaken   = "taken"   // a node has it, and tells so again each newsEvery
	newsDone    = "done"    // the body is the result, which is kept under Chunk.Key, too
	newsRefused = "refused" // the body says why
)

const (
	askEvery  = 500 * time.Millisecond
	newsEvery = time.Second
	// takeWithin is how long an offer waits for a node, and silentFor how long a node that has taken it may say nothing.
	takeWithin, silentFor = 3 * time.Second, 5 * time.Second
	// offerWithin bounds the one write of an offer: whoever offers has better to do than to wait.
	offerWithin = 2 * time.Second
	// freeName is what stands for a chunk's number in answers to an ask.
	freeName = "free"
)

// Why a chunk comes back.
var (
	errNoHelp  = errors.New("no other worker decodes the chunk")
	errRefused = errors.New("another worker gave the chunk back")
)

// Spread has chunks of a job decoded by other workers. Nothing depends on it: where it returns an error, whoever has the job
// decodes the chunk. So it promises nothing and tries nothing twice; the promise is the job's lease, and the kept results. Its
// methods are safe for concurrent use.
type Spread struct {
	d      *Delivery
	model  string
	inbox  string
	sub    *nats.Subscription
	places chan struct{}
	moved  chan struct{} // asks run to look again how many places there are
	close  context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	last    int
	offers  map[string]*offer // by number
	helpers map[string]helper // by node
	lent    int               // places that were taken and are no offer yet
}

type helper struct {
	free int
	told time.Time
}

type offer struct {
	node  string // that has it; empty while nobody does
	taken chan struct{}
	ended chan news
}

type news struct {
	data []byte
	err  error
}

// Spread begins to ask other workers of the job's pool for decodes with a model, given by the SHA-256 of its weights, until ctx
// ends or Close is called.
func (d *Delivery) Spread(ctx context.Context, model string) (*Spread, error) {
	if d.w.q.spread == nil {
		return nil, fmt.Errorf("%w: the broker has no stream for chunks", errNoHelp)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Spread{
		d: d, model: model, inbox: nats.NewInbox(), places: make(chan struct{}), moved: make(chan struct{}, 1), close: cancel,
		ended: make(chan struct{}), offers: map[string]*offer{}, helpers: map[string]helper{},
	}
	var err error
	if s.sub, err = d.w.q.nc.Subscribe(s.inbox+".*", s.hear); err != nil {
		cancel()
		return nil, fmt.Errorf("listen for other workers: %w", err)
	}
	go s.run(ctx)
	return s, nil
}

// Close ends the asking. Decode must not be called any more.
func (s *Spread) Close() {
	s.close()
	<-s.ended
}

// Places gives a value for each chunk that another worker would take now. A place that is not used is given again.
func (s *Spread) Places() <-chan struct{} { return s.places }

func (s *Spread) run(ctx context.Context) {
	defer close(s.ended)
	defer func() { _ = s.sub.Unsubscribe() }() // an error means that the connection has ended
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	s.ask()
	for {
		var places chan struct{}
		if s.room() > 0 {
			places = s.places
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.ask()
		case <-s.moved:
		case places <- struct{}{}:
			s.mu.Lock()
			s.lent++
			s.mu.Unlock()
		}
	}
}

// asked is what workers are asked for.
type asked struct {
	Node  string `json:"node"` // who asks
	Pool  string `json:"pool"`
	Model string `json:"model"`
	Reply string `json:"reply"`
}

// ask asks all workers of the pool how many chunks they would take.
func (s *Spread) ask() {
	w := s.d.w
	data, err := json.Marshal(asked{nodeID(w.cfg.Name), s.d.rec.Pool, s.model, s.inbox + "." + freeName})
	if err == nil {
		err = w.q.nc.Publish(subjectAsk+"."+s.d.rec.Pool, data)
	}
	if err != nil {
		s.d.log.Debug("ask other workers", "error", err)
	}
}

// room is how many more chunks others would take.
func (s *Spread) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := -s.lent
	for node, h := range s.helpers {
		if time.Since(h.told) > 3*askEvery { // it has ended, or has too much to do of its own
			delete(s.helpers, node)
			continue
		}
		n += h.free
	}
	for _, o := range s.offers {
		if o.node == "" {
			n--
		}
	}
	return n
}

// hear takes an answer to ask, or news of an offer.
func (s *Spread) hear(m *nats.Msg) {
	node, name := m.Header.Get(headerNode), m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.nudge()
	if name == freeName {
		n, err := strconv.Atoi(string(m.Data))
		if err == nil && node != "" {
			s.helpers[node] = helper{n, time.Now()}
			s.lent = 0
		}
		return
	}
	o := s.offers[name]
	if o == nil {
		return // taken back, or ended
	}
	switch kind := m.Header.Get(headerNews); kind {
	case newsTaken:
		if o.node == "" {
			s.adjust(node, -1)
		}
		o.node = node
		select {
		case o.taken <- struct{}{}:
		default: // it is told of the one before
		}
	case newsDone, newsRefused:
		n := news{data: m.Data}
		if kind == newsRefused {
			n = news{err: fmt.Errorf("%w: %s: %s", errRefused, node, m.Data)}
			delete(s.helpers, node) // until it is asked again
		} else {
			s.adjust(node, 1)
		}
		select {
		case o.ended <- n:
		default: // it has ended already
		}
	}
}

// adjust counts a decode of a node, until it tells its own count again. mu is held.
func (s *Spread) adjust(node string, n int) {
	if h, ok := s.helpers[node]; ok {
		h.free = max(0, h.free+n)
		s.helpers[node] = h
	}
}

func (s *Spread) nudge() {
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

// Decode offers a chunk and waits for its result. Only Key, Task and Audio are to be set. An error says nothing of the chunk,
// which is to be decoded here then.
func (s *Spread) Decode(ctx context.Context, c Chunk) ([]byte, error) {
	q := s.d.w.q
	name, o := s.begin()
	defer s.end(name)
	c.Job, c.Model, c.Reply = s.d.Job.ID, s.model, s.inbox+"."+name
	seq, err := q.offer(ctx, s.d.rec.Pool, c)
	if err != nil {
		q.metrics.spread.WithLabelValues("unsent").Inc()
		return nil, err
	}
	data, err := o.await(ctx)
	s.d.chunks.touch(chunkName(c.Key)) // also where it was taken back: its node may write yet
	if err == nil {
		q.metrics.spread.WithLabelValues("done").Inc()
		return data, nil
	}
	late := "taken back"
	if errors.Is(err, errRefused) {
		late = "refused"
	}
	q.metrics.spread.WithLabelValues(late).Inc()
	q.withdraw(ctx, seq)
	if ctx.Err() != nil {
		return nil, err
	}
	s.d.log.Debug("no other worker has decoded a chunk", "key", c.Key, "error", err)
	if kept, found, _ := s.d.chunks.Get(ctx, c.Key); found { // only the news of it was lost
		return kept, nil
	}
	return nil, err
}

func (s *Spread) begin() (name string, o *offer) {
	o = &offer{taken: make(chan struct{}, 1), ended: make(chan news, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	name = strconv.Itoa(s.last)
	s.offers[name] = o
	s.lent = max(0, s.lent-1)
	return name, o
}

func (s *Spread) end(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.offers, name)
	s.nudge()
}

// await follows an offer to its end.
func (o *offer) await(ctx context.Context) ([]byte, error) {
	patience, why := time.NewTimer(takeWithin), "nobody has taken it"
	defer patience.Stop()
	for {
		select {
		case <-o.taken:
			patience.Reset(silentFor)
			why = "who has taken it says nothing any more"
		case n := <-o.ended:
			return n.data, n.err
		case <-patience.C:
			return nil, fmt.Errorf("%w: %s", errNoHelp, why)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// offer puts a chunk on the stream, once, and tells the workers of the pool that it is there.
func (q *Queue) offer(ctx context.Context, pool string, c Chunk) (seq uint64, err error) {
	head, err := json.Marshal(c)
	if err != nil {
		return 0, fmt.Errorf("encode chunk: %w", err)
	}
	m := nats.NewMsg(offerSubject(pool, c.Model, c.Job))
	m.Header.Set(headerChunk, string(head))
	m.Data = c.Audio
	if size := int64(m.Size()); size > q.nc.MaxPayload() {
		return 0, fmt.Errorf("%w: it has %d bytes, more than the broker's %d for a message", errNoHelp, size, q.nc.MaxPayload())
	}
	ctx, cancel := context.WithTimeout(ctx, offerWithin)
	defer cancel()
	ack, err := q.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, fmt.Errorf("offer a chunk: %w", err)
	}
	return ack.Sequence, q.nc.Publish(subjectOffered+"."+pool, nil)
}

// withdraw takes an offer off the stream. Where that fails, a worker may decode what nobody waits for.
func (q *Queue) withdraw(ctx context.Context, seq uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), offerWithin)
	defer cancel()
	if err := q.spread.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		q.cfg.Log.Debug("take an offered chunk back", "error", err)
	}
}
