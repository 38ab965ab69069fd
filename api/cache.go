package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/gob"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"steno/job"
)

// Cache keeps answers for a while. Each belongs to one tag, a name for what it depends on; to drop a tag forgets all that belongs
// to it, also what is just being worked out from what was true before. Implementations are safe for concurrent use.
type Cache interface {
	// Get returns what is kept under a key of a tag. Where there is nothing, it returns a ticket: by it Put can tell whether the tag
	// was dropped since.
	Get(ctx context.Context, tag, key string) (value []byte, ticket string, err error)
	// Put keeps a value for the given time, unless the tag was dropped since the ticket was given.
	Put(ctx context.Context, tag, key, ticket string, value []byte, ttl time.Duration) error
	// Drop forgets all values of the tags.
	Drop(ctx context.Context, tags ...string) error
}

// The tags. A user's name is part of each, so no answer can reach anybody else.
func taskTag(user string, id job.ID) string { return user + "/task/" + string(id) }
func historyTag(user string) string         { return user + "/history" }
func fileTag(user, id string) string        { return user + "/file/" + id }

func taskOfRoute(r *http.Request) string {
	return taskTag(userOf(r.Context()), job.ID(strings.ToUpper(r.PathValue("task_id"))))
}
func historyOfRoute(r *http.Request) string { return historyTag(userOf(r.Context())) }
func fileOfRoute(r *http.Request) string {
	return fileTag(userOf(r.Context()), strings.ToUpper(r.PathValue("file_id")))
}

// maxKept is the most bytes of an answer that is kept: the transcript of a few hours.
const maxKept = 4 << 20

// dropTime bounds how long a write waits for the cache.
const dropTime = 2 * time.Second

// drop forgets answers.
func (s *Server) drop(tags ...string) {
	if s.cfg.CacheTTL < 0 {
		return
	}
	defer s.metrics.timed("drop", time.Now())
	ctx, cancel := context.WithTimeout(context.Background(), dropTime)
	defer cancel()
	if err := s.cfg.Cache.Drop(ctx, tags...); err != nil {
		s.doWithout(err)
	}
}

// doWithout lets nothing be taken from the cache until all that is in it now has grown too old. A cache that does not answer has
// missed what was to be dropped, by us or by other gateways, and may still have it when it is back; and to ask it each time in
// vain would slow down all requests.
func (s *Server) doWithout(err error) {
	now := time.Now()
	if s.distrust.Swap(now.Add(s.cfg.CacheTTL).UnixNano()) <= now.UnixNano() {
		s.cfg.Log.Warn("the cache does not answer: doing without it for a while", "for", s.cfg.CacheTTL, "error", err)
	}
}

// reply is an answer as it is kept.
type reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// recorder takes a handler's answer.
type recorder struct {
	reply
	body bytes.Buffer
}

func (c *recorder) Header() http.Header { return c.reply.Header }

func (c *recorder) WriteHeader(status int) {
	if c.Status == 0 {
		c.Status = status
	}
}

func (c *recorder) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return c.body.Write(p)
}

// caching answers from the cache where it can, and keeps what the handler says. Answers get an entity tag, so that clients can
// ask whether theirs is still true, and for parts.
func (s *Server) caching(t route, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		until := time.Now().Add(s.cfg.CacheTTL) // from before the work, so that after distrust nothing from before it is left
		tag, key := t.cached(r), r.URL.Path+"?"+r.URL.Query().Encode()
		kept, ticket := s.kept(r, tag, key)
		if kept != nil {
			s.send(w, r, *kept, "HIT")
			return
		}
		c := &recorder{reply: reply{Header: http.Header{}}}
		plain := r.Clone(r.Context()) // the whole answer is made, whatever the client has of it
		plain.Method = http.MethodGet
		for _, name := range []string{"Range", "If-Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"} {
			plain.Header.Del(name)
		}
		handle(c, plain)
		c.WriteHeader(http.StatusOK)
		c.Body = c.body.Bytes()
		if c.Status == http.StatusOK && c.Header().Get("ETag") == "" {
			sum := sha256.Sum256(c.Body)
			c.Header().Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
		}
		if c.Status >= 200 && c.Status < 400 {
			s.keep(r.Context(), tag, key, ticket, c.reply, time.Until(until))
		}
		s.send(w, r, c.reply, "MISS")
	}
}

// kept looks an answer up.
func (s *Server) kept(r *http.Request, tag, key string) (*reply, string) {
	if s.cfg.CacheTTL < 0 || time.Now().UnixNano() < s.distrust.Load() {
		return nil, ""
	}
	began := time.Now()
	value, ticket, err := s.cfg.Cache.Get(r.Context(), tag, key)
	s.metrics.timed("get", began)
	if err != nil {
		s.metrics.cache.WithLabelValues("error").Inc()
		if r.Context().Err() == nil { // else it is the client who has gone
			s.doWithout(err)
		}
		return nil, ""
	}
	if value == nil || strings.Contains(r.Header.Get("Cache-Control"), "no-cache") {
		s.metrics.cache.WithLabelValues("miss").Inc()
		return nil, ticket
	}
	var kept reply
	if err := gob.NewDecoder(bytes.NewReader(value)).Decode(&kept); err != nil { // of another version
		s.metrics.cache.WithLabelValues("error").Inc()
		return nil, ""
	}
	s.metrics.cache.WithLabelValues("hit").Inc()
	return &kept, ""
}

func (s *Server) keep(ctx context.Context, tag, key, ticket string, c reply, ttl time.Duration) {
	if ticket == "" || len(c.Body) > maxKept || ttl < time.Millisecond {
		return
	}
	defer s.metrics.timed("put", time.Now())
	var buf bytes.Buffer
	err := gob.NewEncoder(&buf).Encode(c)
	if err == nil {
		err = s.cfg.Cache.Put(ctx, tag, key, ticket, buf.Bytes(), ttl)
	}
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "write to the cache", "error", err)
	}
}

// send writes an answer, or the part of it that was asked for, or that the client has it already.
func (s *Server) send(w http.ResponseWriter, r *http.Request, c reply, from string) {
	requestOf(r.Context()).cache = from
	h := w.Header()
	for name, values := range c.Header {
		h[name] = values
	}
	if c.Status < 400 {
		h.Set("X-Cache", from)
		h.Set("Cache-Control", "private, no-cache") // to be asked about each time: only we know of writes
		h.Add("Vary", "Authorization")
	}
	if c.Status == http.StatusOK {
		serveContent(w, r, bytes.NewReader(c.Body))
		return
	}
	if len(c.Body) > 0 {
		h.Set("Content-Length", strconv.Itoa(len(c.Body)))
	}
	w.WriteHeader(c.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(c.Body) // an error means that the client has gone
	}
}

// String tells what is kept, for logs.
func (c reply) String() string { return fmt.Sprintf("%d, %d bytes", c.Status, len(c.Body)) }
