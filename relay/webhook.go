package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"steno/job"
	"steno/store"
)

// WebhookConfig says how the servers that users have named are told of the ends of their tasks.
type WebhookConfig struct {
	// Secret returns the key with which calls for a user's tasks are signed; UserSecret makes one. Where it is nil nobody is called,
	// and commands to do so are dropped.
	Secret func(ctx context.Context, user string) ([]byte, error)
	// Policy says which addresses may be called.
	Policy Policy
	// Timeout of one call, from the look-up of the name to the end of the answer. Default 10 s.
	Timeout time.Duration
	// MaxAge is how long after the end of its task a call that fails is tried again. Default 24 h.
	MaxAge time.Duration
	// RetryBase is the pause after the first failure, and each is twice the one before up to RetryCap, with up to a quarter more.
	// Defaults 5 s and 1 h: with them a server that is away is called some 33 times in a day.
	RetryBase, RetryCap time.Duration
}

func (c WebhookConfig) withDefaults() WebhookConfig {
	c.Timeout = or(c.Timeout, 10*time.Second)
	c.MaxAge = or(c.MaxAge, 24*time.Hour)
	c.RetryBase = or(c.RetryBase, 5*time.Second)
	c.RetryCap = or(c.RetryCap, time.Hour)
	return c
}

func (c WebhookConfig) pause(tries int) time.Duration {
	d := c.RetryCap
	if tries <= 30 {
		d = min(d, c.RetryBase<<max(0, tries-1))
	}
	return d + rand.N(d/4+1)
}

// Event is the body of a call, as JSON.
type Event struct {
	// Type is "transcription.done", "transcription.failed" or "transcription.cancelled".
	Type string `json:"type"`
	// Delivery is the same in all calls for one event, and stands in the header Steno-Delivery: by it receivers drop repetitions.
	Delivery string     `json:"delivery"`
	Task     job.ID     `json:"task_id"`
	Status   job.State  `json:"status"`
	FileName string     `json:"file_name"`
	Model    string     `json:"model"`
	Language string     `json:"language"` // as asked for
	Duration float64    `json:"duration"` // of the audio, seconds
	Error    *job.Error `json:"error,omitempty"`
	Created  time.Time  `json:"created_at"`
	Started  time.Time  `json:"started_at,omitzero"`
	Ended    time.Time  `json:"ended_at"`
}

func event(t store.Task) Event {
	delivery := string(t.ID) + "." + string(t.Status)
	if t.Status == job.Failed { // which a task can more than once, where it is tried again
		delivery += "." + strconv.Itoa(t.Attempt)
	}
	e := Event{
		Type: "transcription." + string(t.Status), Delivery: delivery, Task: t.ID, Status: t.Status,
		FileName: t.FileName, Model: t.Params.Model, Language: t.Params.Language, Duration: t.Duration,
		Created: t.Created, Started: t.Started, Ended: t.Ended,
	}
	if t.Status == job.Failed {
		e.Error = t.Error
	}
	return e
}

// outcome is how a call ended, for the metrics.
type outcome string

const (
	delivered outcome = "delivered"
	refused   outcome = "failed"   // it is tried again
	blocked   outcome = "blocked"  // by the policy
	gaveUp    outcome = "gave up"  // it has failed for MaxAge, or the server said 410
	disabled  outcome = "disabled" // there is no secret to sign it with
)

// webhooks calls the users' servers.
type webhooks struct {
	cfg     Config
	client  *http.Client
	metrics *metrics
}

func newWebhooks(cfg Config, m *metrics) *lane {
	w := &webhooks{cfg: cfg, client: newClient(cfg.Webhooks, cfg.Webhooks.Policy.dialer(cfg.Webhooks.Timeout)), metrics: m}
	return &lane{
		name: store.LaneWebhook, outbox: cfg.Store, do: w.do, pause: cfg.Webhooks.pause, tick: cfg.Tick,
		// A third is for the call and what the database is asked around it.
		lease: 3*cfg.Webhooks.Timeout + cfg.Lease,
		slots: make(chan struct{}, cfg.Slots), wake: make(chan struct{}, 1), log: cfg.Log, metrics: m,
	}
}

// newClient makes the client for addresses that users chose. It follows no redirect, for the signature would go to somebody else,
// uses no proxy, which would dial in its place, and keeps no connection, so that the address is checked for each call.
func newClient(c WebhookConfig, d *net.Dialer) *http.Client {
	return &http.Client{
		Timeout: c.Timeout,
		Transport: &http.Transport{
			DialContext: d.DialContext, DisableKeepAlives: true, DisableCompression: true,
			TLSHandshakeTimeout: c.Timeout, ResponseHeaderTimeout: c.Timeout, MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// maxAnswer bounds what is read of an answer, its head and its body each.
const maxAnswer = 16 << 10

// do makes one call. It returns an error where it is to be made again.
func (w *webhooks) do(ctx context.Context, cmd store.Command) error {
	how, err := w.deliver(ctx, cmd)
	if how == refused && w.cfg.Now().Sub(cmd.Created) > w.cfg.Webhooks.MaxAge {
		how = gaveUp
	}
	if how != "" {
		w.metrics.deliveries.WithLabelValues(string(how)).Inc()
	}
	switch how {
	case blocked, gaveUp, disabled:
		w.cfg.Log.Warn("webhook is given up", "task", cmd.Task, "outcome", how, "tries", cmd.Tries, "error", err)
		return nil
	}
	return err
}

// deliver makes one call. The outcome is empty where it did not come to that: the task was deleted, or the database is away.
func (w *webhooks) deliver(ctx context.Context, cmd store.Command) (outcome, error) {
	if w.cfg.Webhooks.Secret == nil {
		return disabled, errors.New("webhooks are not configured")
	}
	if err := w.cfg.Webhooks.Policy.Check(cmd.URL); err != nil {
		return blocked, err
	}
	t, err := w.cfg.Store.AnyTask(ctx, cmd.Task)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !t.Status.Terminal() {
		return "", nil // it is tried again after a failure, and is told of when it has ended
	}
	secret, err := w.cfg.Webhooks.Secret(ctx, t.User)
	if err != nil {
		return "", fmt.Errorf("find the secret of user %s: %w", t.User, err)
	}
	e := event(t)
	body, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("encode event: %w", err)
	}
	return w.post(ctx, cmd.URL, secret, e, body)
}

func (w *webhooks) post(ctx context.Context, to string, secret []byte, e Event, body []byte) (outcome, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return blocked, fmt.Errorf("make request: %w", withoutURL(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "steno-webhook/1")
	req.Header.Set("Steno-Event", e.Type)
	req.Header.Set("Steno-Delivery", e.Delivery)
	req.Header.Set(SignatureHeader, Sign(secret, w.cfg.Now(), body))
	res, err := w.client.Do(req)
	if errors.Is(err, ErrBlocked) {
		return blocked, withoutURL(err)
	}
	if err != nil {
		return refused, withoutURL(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // so that the server can end in order; what it says does not matter
	switch {
	case res.StatusCode >= 200 && res.StatusCode <= 299:
		return delivered, nil
	case res.StatusCode == http.StatusGone:
		return gaveUp, errors.New("the server answered 410 Gone")
	}
	return refused, fmt.Errorf("the server answered %s", http.StatusText(res.StatusCode)+fmt.Sprintf(" (%d)", res.StatusCode))
}

// withoutURL takes the address out of an error of the HTTP client: its path and query may hold the user's secrets.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
