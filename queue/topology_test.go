package queue

import (
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestStreamsAreFittedOnce: who comes to streams that are as they should be changes nothing, and who has other limits does.
func TestStreamsAreFittedOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, EmbeddedConfig{})
	q := open(t, s)
	var updates atomic.Int64
	sub, err := q.nc.Subscribe("$JS.EVENT.ADVISORY.STREAM.UPDATED.>", func(*nats.Msg) { updates.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	if err := q.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	open(t, s)
	if err := q.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := updates.Load(); n != 0 {
		t.Errorf("%d streams were changed, want none", n)
	}
	open(t, s, func(c *Config) { c.Limits.Jobs = 7 })
	eventually(t, "one stream is changed", func() bool { return updates.Load() == 1 })
	if err := sub.Unsubscribe(); err != nil {
		t.Error(err)
	}
}

// TestBucketsAreAsNATSMakesThem: what this package makes by itself differs from NATS's own buckets and object stores in nothing.
func TestBucketsAreAsNATSMakesThem(t *testing.T) {
	t.Parallel()
	q := newQueue(t)
	config := func(name string) jetstream.StreamConfig {
		t.Helper()
		s, err := q.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		c := s.CachedInfo().Config
		c.Metadata = nil // which version made it
		return c
	}
	same := func(name string, make func() error) {
		t.Helper()
		ours := config(name)
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if theirs := config(name); !fits(theirs, ours) || ours.Duplicates != theirs.Duplicates {
			t.Errorf("%s is %+v, want %+v", name, ours, theirs)
		}
	}
	for _, c := range q.keyValues() {
		same("KV_"+c.Bucket, func() error {
			_, err := q.js.CreateOrUpdateKeyValue(t.Context(), c)
			return err
		})
	}
	for _, c := range q.objectStores() {
		same("OBJ_"+c.Bucket, func() error {
			_, err := q.js.CreateOrUpdateObjectStore(t.Context(), c)
			return err
		})
	}
}
