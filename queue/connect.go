package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"steno/job"
)

// Queue is a connection to the broker, for clients and workers alike. It is safe for concurrent use. It reconnects for ever;
// while the broker is away, calls return an error of class TRANSIENT after their context or 5 s.
type Queue struct {
	cfg Config
	nc  *nats.Conn
	js  jetstream.JetStream

	jobs, dead, advisories    jetstream.Stream
	chunkStream, recordStream jetstream.Stream
	records, chunks           jetstream.KeyValue
	nodes                     jetstream.KeyValue // nil where the broker has none
	spread                    jetstream.Stream   // nil where the broker has none
	audio, results            *objects

	metrics *metrics
}

// Connect reaches the broker and makes sure that the streams and buckets are there. The caller must Close the queue.
func Connect(ctx context.Context, cfg Config) (*Queue, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	q := &Queue{cfg: cfg}
	if err := q.dial(ctx); err != nil {
		return nil, err
	}
	if err := q.prepare(ctx); err != nil {
		q.nc.Close()
		return nil, err
	}
	q.metrics = newMetrics(cfg.Metrics, q)
	if cfg.Server != nil {
		cfg.Server.orphans.Do(func() {
			if err := q.releaseOrphans(ctx); err != nil {
				cfg.Log.Warn("jobs of workers that died wait until their leases run out", "error", err)
			}
		})
	}
	return q, nil
}

func (q *Queue) prepare(ctx context.Context) (err error) {
	if q.js, err = jetstream.New(q.nc); err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	return q.patiently(ctx, "queue cannot be set up", q.setUp)
}

// patiently asks for what the server has to make or find, with growing pauses until ctx ends where Retry is set: servers of a
// cluster take connections before enough of them have met to keep anything, and streams are without a leader for seconds.
// failing is what the log says of it.
func (q *Queue) patiently(ctx context.Context, failing string, ask func(context.Context) error) error {
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := ask(ctx)
		if err == nil || !q.cfg.Retry || !passing(err) && !fewServers(err) || ctx.Err() != nil {
			return err
		}
		q.cfg.Log.Warn(failing+", trying again", "error", err, "pause", pause)
		if !sleep(ctx, pause) {
			return err
		}
	}
}

// dial connects, with growing pauses until ctx ends where Retry is set.
func (q *Queue) dial(ctx context.Context) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		nc, err := nats.Connect(q.cfg.URL, q.options()...)
		if err == nil {
			q.nc = nc
			return nil
		}
		if errors.Is(err, nats.ErrAuthorization) {
			return &job.Error{
				Class: job.Input, Code: "QUEUE_REFUSED", Err: err,
				Message: "the NATS server refused the credentials: check the token, the .creds file or the user in the URL",
			}
		}
		if !q.cfg.Retry {
			return unreachable("connect to the queue", err)
		}
		q.cfg.Log.Warn("queue not reached, trying again", "error", err, "pause", pause)
		if !sleep(ctx, pause) {
			return unreachable("connect to the queue", err)
		}
	}
}

func (q *Queue) options() []nats.Option {
	log := q.cfg.Log
	opts := []nats.Option{
		nats.Name(q.cfg.Name),
		nats.MaxReconnects(-1), // the default of 60 ends in a dead worker that looks alive
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.PingInterval(20 * time.Second),
		nats.MaxPingsOutstanding(2),
		// Permission errors are seen nowhere else: the call that caused one only times out.
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			subject := ""
			if s != nil {
				subject = s.Subject
			}
			log.Error("queue connection", "error", err, "subject", subject)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("queue connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("queue connection is back") }),
	}
	token := q.cfg.Token
	if q.cfg.Server != nil {
		opts = append(opts, nats.InProcessServer(q.cfg.Server))
		token = q.cfg.Server.token
	}
	if token != "" {
		opts = append(opts, nats.Token(token))
	}
	if q.cfg.local != "" {
		f := follower{q.cfg.local}
		opts = append(opts, nats.SetCustomDialer(f), nats.TokenHandler(f.token))
	}
	if q.cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(q.cfg.CredsFile))
	}
	if q.cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(q.cfg.CAFile))
	}
	return opts
}

// Close sends what is buffered and ends the connection. Work and Watch must have returned.
func (q *Queue) Close() {
	if q.nc.IsConnected() {
		_ = q.nc.FlushTimeout(2 * time.Second) // there is nobody left to tell
	}
	q.nc.Close()
}

// Ping reports whether the broker takes requests and can write: it stores a value and waits for the confirmation.
func (q *Queue) Ping(ctx context.Context) error {
	_, err := q.chunks.Put(ctx, keyPing, []byte(time.Now().UTC().Format(time.RFC3339)))
	return q.unreachable("write to the queue", err)
}

// Keys of the chunk bucket that are no chunks; chunk keys never begin so.
const (
	keyPing        = "steno-ping"
	keyMaintenance = "steno-maintenance"
)

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func noStream(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound)
}
