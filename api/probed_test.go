package api_test

import (
	"context"
	"sync/atomic"
	"testing"

	"steno/api"
)

// TestProbedOnce: a file that a user sends again is not probed again; another user's is, and one whose name ends otherwise, and what
// was refused is refused anew.
func TestProbedOnce(t *testing.T) {
	t.Parallel()
	var probes atomic.Int64
	r := newRig(t, func(c *api.Config) {
		probe := c.Probe
		c.Probe = func(ctx context.Context, path string) (api.Media, error) {
			probes.Add(1)
			return probe(ctx, path)
		}
	})
	probed := func(want int64, what string) {
		t.Helper()
		if n := probes.Swap(0); n != want {
			t.Errorf("%s: %d probes, want %d", what, n, want)
		}
	}
	first := r.upload(r.ada, "a.wav", wav(3))
	probed(1, "a file")
	again := r.upload(r.ada, "b.wav", wav(3))
	probed(0, "the same again")
	if first.Duration == 0 || again.Duration != first.Duration || again.ID == first.ID {
		t.Errorf("%+v and %+v: want two files of the same length", first, again)
	}
	r.upload(r.eve, "a.wav", wav(3))
	probed(1, "another user's")
	r.upload(r.ada, "a.mp3", wav(3))
	probed(1, "another ending")
	for range 2 {
		body, contentType := formOf(t, "a.txt", []byte("no sound"))
		r.call(r.ada, "POST", "/api/v1/files", body, "Content-Type", contentType).want(422)
	}
	probed(2, "what is no audio")
}
