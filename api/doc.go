// Package api is the HTTP gateway: accounts, files, tasks, history, downloads and events, as docs/HTTP.md tells users.
//
//	s, err := api.New(api.Config{Store: st, Objects: objects, Live: live, …})
//	err = s.Serve(ctx, listener) // until ctx ends, then drains
//	s.InvalidateTask(user, task) // whenever somebody else has changed a task
//
// It knows the record (package store) and nothing of queue, pipeline, models and audio: what it needs of those it asks for by the
// small interfaces of ports.go, and cmd/steno fits them in.
//
// Every route passes the same chain: request id, log and metrics, security headers, CORS, limits, authentication, cache. Routes
// with JSON bodies are huma operations; uploads, downloads and events are plain handlers, and are documented in the same OpenAPI
// object. A request that fails gets one problem (RFC 9457) with the stable code of a *job.Error.
package api
