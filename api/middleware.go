package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Time-outs of a plain request; uploads and streams move their deadlines on while bytes flow.
const (
	readTime  = 30 * time.Second
	writeTime = time.Minute
)

// chain wraps all routes in what every request passes.
func (s *Server) chain(next http.Handler) http.Handler {
	return s.observed(s.guarded(s.crossOrigin(s.limited(next))))
}

// observed gives the request its id, and notes how it ended.
func (s *Server) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := &request{id: requestID(r), address: s.addressOf(r)}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, q))
		a := &answer{ResponseWriter: w}
		w.Header().Set("X-Request-Id", q.id)
		began := time.Now()
		s.metrics.inFlight.Inc()
		defer func() {
			s.metrics.inFlight.Dec()
			took := time.Since(began)
			s.metrics.observe(q, r.Method, a.status, took)
			s.logRequest(r, a.status, slog.String("request", q.id), slog.String("method", r.Method),
				slog.String("route", q.route), slog.Int("status", a.status), slog.Int64("bytes", a.bytes),
				slog.Duration("took", took), slog.String("user", q.user.ID), slog.String("cache", q.cache))
		}()
		next.ServeHTTP(a, r)
	})
}

// guarded answers for a handler that panics, sets the headers that keep browsers safe, and the deadlines of a plain request.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && err == http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
				panic(v)
			}
			s.cfg.Log.ErrorContext(r.Context(), "a handler broke", "request", requestOf(r.Context()).id, "panic", fmt.Sprint(v),
				"stack", string(debug.Stack()))
			if a, ok := w.(*answer); ok && a.status == 0 {
				s.fail(w, r, newProblem(http.StatusInternalServerError, "INTERNAL",
					"something went wrong on our side: try again, and report the request id if it stays"))
				return
			}
			panic(http.ErrAbortHandler) // half an answer must not look like a whole one
		}()
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		deadlines(w, readTime, writeTime)
		next.ServeHTTP(w, r)
	})
}

// deadlines sets how long the connection may take from now on; 0 is for ever. In tests without a connection nothing is set.
func deadlines(w http.ResponseWriter, read, write time.Duration) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(after(read))
	_ = c.SetWriteDeadline(after(write))
}

func after(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// What pages of other origins may send and see.
const (
	corsMethods = "GET, HEAD, POST, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Range, Tus-Resumable, " +
		"Upload-Length, Upload-Metadata, Upload-Offset, X-Request-Id"
	corsExposed = "Content-Disposition, Content-Range, ETag, Idempotency-Replayed, Location, Retry-After, Steno-Revision, " +
		"Tus-Resumable, Upload-Length, Upload-Offset, X-Cache, X-Request-Id"
)

// crossOrigin lets pages of the configured origins call.
func (s *Server) crossOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if len(s.cfg.Origins) > 0 {
			w.Header().Add("Vary", "Origin")
		}
		if origin == "" || !s.mayCall(origin) {
			next.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", corsExposed)
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", corsMethods)
			h.Set("Access-Control-Allow-Headers", corsHeaders)
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// mayCall reports whether pages of an origin may call. No cookie is ever sent or asked for, so "*" gives nothing away.
func (s *Server) mayCall(origin string) bool {
	return slices.Contains(s.cfg.Origins, "*") || slices.Contains(s.cfg.Origins, origin)
}

// limited holds each address to its rate. Health stays free: whoever asks it must not be kept from it by others.
func (s *Server) limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isHealth(r.URL.Path) {
			if wait, ok := s.addresses.take(requestOf(r.Context()).address, time.Now()); !ok {
				s.fail(w, r, s.tooMany("address", wait))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func isHealth(path string) bool {
	path = strings.TrimPrefix(path, prefix)
	return path == "/health" || path == "/health/ready"
}

// tooMany is the answer to one who asks too often.
func (s *Server) tooMany(limit string, wait time.Duration) *Problem {
	s.metrics.limited.WithLabelValues(limit).Inc()
	return newProblem(http.StatusTooManyRequests, "TOO_MANY_REQUESTS", "too many requests: wait as long as Retry-After says").
		with("Retry-After", seconds(wait))
}

// seconds rounds up, to 1 at least.
func seconds(d time.Duration) string { return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second))) }
