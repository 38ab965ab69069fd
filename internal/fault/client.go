package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// user and password are those of each node's first account.
const (
	user     = "admin"
	password = "correct horse"
)

// Client calls the HTTP API as one user does. It is safe for concurrent use.
type Client struct {
	base  string // http://host:port
	http  *http.Client
	token atomic.Value // a string
	since atomic.Value // when it was got
	again []int        // statuses after which insist tries again
	renew bool         // whether a token that is refused is replaced
}

func newClient(base string) *Client {
	return &Client{
		base: base, again: comeAgain,
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: 20 * time.Second},
	}
}

// tokens is where a password is given for a token.
const tokens = "/api/v1/auth/token"

// answer is what a call got.
type answer struct {
	status int
	body   []byte
	after  string // Retry-After
}

// call sends a body, JSON unless it is a reader, and returns the answer whatever its status.
func (c *Client) call(ctx context.Context, method, path string, body any, headers ...string) (answer, error) {
	var r io.Reader
	kind := "application/json"
	switch b := body.(type) {
	case nil:
	case io.Reader:
		r, kind = b, "application/octet-stream"
	default:
		data, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		r = bytes.NewReader(data)
	}
	// A token is good for an hour, and rows may take longer.
	if since, got := c.since.Load().(time.Time); got && path != tokens && time.Since(since) > 40*time.Minute {
		if err := c.login(ctx); err != nil {
			return answer{}, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	if token := c.bearer(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, data, res.Header.Get("Retry-After")}, err
}

var comeAgain = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage}

// errAway is the error of a service that did not answer within the time that a user has.
var errAway = errors.New("the service does not answer")

// insist calls until the answer is one to go by: no lost connection, and none of the answers that ask to come again, which are
// 429, 503 and 507 unless c.again says otherwise. Each call is such that it may come twice.
func (c *Client) insist(ctx context.Context, method, path string, body func() any, headers ...string) (answer, error) {
	var last error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		a, err := c.call(ctx, method, path, body(), headers...)
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		if err == nil && a.status == http.StatusUnauthorized && c.renew {
			err = c.login(ctx)
		} else if err == nil && !slices.Contains(c.again, a.status) {
			return a, nil
		}
		if last = err; err == nil {
			last = fmt.Errorf("%s %s: %d %s", method, path, a.status, bytes.TrimSpace(a.body))
		}
		time.Sleep(50 * time.Millisecond)
	}
	return answer{}, fmt.Errorf("%w: %w", errAway, last)
}

// fixed is a body that does not have to be made anew for each try; none is no body.
func fixed(v any) func() any { return func() any { return v } }

func none() any { return nil }

// into is insist for one status and an answer in JSON.
func (c *Client) into(ctx context.Context, v any, want int, method, path string, body func() any, headers ...string) error {
	a, err := c.insist(ctx, method, path, body, headers...)
	if err != nil {
		return err
	}
	if a.status != want {
		return fmt.Errorf("%s %s: %d %s", method, path, a.status, bytes.TrimSpace(a.body))
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(a.body, v)
}

// login gets a token.
func (c *Client) login(ctx context.Context) error {
	var got struct {
		Token string `json:"access_token"`
	}
	who := map[string]string{"username": user, "password": password}
	err := c.into(ctx, &got, http.StatusOK, "POST", tokens, fixed(who))
	if err == nil {
		c.token.Store(got.Token)
		c.since.Store(time.Now())
	}
	return err
}

// bearer is the token, or empty where there is none yet.
func (c *Client) bearer() string {
	token, _ := c.token.Load().(string)
	return token
}

// upload stores a recording and returns its id.
func (c *Client) upload(ctx context.Context, name string, data []byte) (string, error) {
	var got struct {
		ID string `json:"file_id"`
	}
	err := c.into(ctx, &got, http.StatusCreated, "POST", "/api/v1/files?name="+url.QueryEscape(name),
		func() any { return bytes.NewReader(data) })
	return got.ID, err
}

// task is what the API tells of one.
type task struct {
	ID      string `json:"task_id"`
	Status  string `json:"status"`
	Attempt int    `json:"attempt"`
	Stage   string `json:"stage"`
	Error   *struct{ Class, Code, Message string }
	Ended   *time.Time `json:"ended_at"`
}

func (t task) terminal() bool {
	return t.Status == "done" || t.Status == "failed" || t.Status == "cancelled"
}

// history walks all tasks of the user, newest first.
func (c *Client) history(ctx context.Context, each func(task)) error {
	for cursor := ""; ; {
		var page struct {
			Items []task
			Next  *string `json:"next_cursor"`
		}
		path := "/api/v1/user/history?limit=100"
		if cursor != "" {
			path += "&cursor=" + url.QueryEscape(cursor)
		}
		if err := c.into(ctx, &page, http.StatusOK, "GET", path, none); err != nil {
			return err
		}
		for _, t := range page.Items {
			each(t)
		}
		if page.Next == nil {
			return nil
		}
		cursor = *page.Next
	}
}
