package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// Chunks keeps the results of a job's chunks until the job is recorded, so that the next attempt finds them. Its methods are
// safe for concurrent use.
type Chunks struct {
	q *Queue

	mu      sync.Mutex
	touched map[string]bool // keys that this job has read or written
}

// plainKey is what a bucket takes as it is.
var plainKey = regexp.MustCompile(`^[-_a-zA-Z0-9]+(\.[-_a-zA-Z0-9]+)*$`)

// chunkName is where the bucket holds a key: keys of any form are taken.
func chunkName(key string) string {
	if len(key) <= 200 && plainKey.MatchString(key) {
		return "c." + key
	}
	sum := sha256.Sum256([]byte(key))
	return "h." + hex.EncodeToString(sum[:])
}

// Get returns what was put under key, by this attempt, one before it, or another job on the same audio.
func (c *Chunks) Get(ctx context.Context, key string) (data []byte, found bool, err error) {
	name := chunkName(key)
	entry, err := c.q.chunks.Get(ctx, name)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		c.q.metrics.chunks.WithLabelValues("absent").Inc()
		return nil, false, nil
	}
	if err != nil {
		return nil, false, unreachable("read a chunk's result", err)
	}
	c.touch(name)
	c.q.metrics.chunks.WithLabelValues("reused").Inc()
	return entry.Value(), true, nil
}

// Put keeps data, at most 768 KiB, under key. A job does not need it to succeed: a chunk that is not kept is computed again
// after a crash.
func (c *Chunks) Put(ctx context.Context, key string, data []byte) error {
	if len(data) > maxValueSize {
		return fmt.Errorf("keep result of chunk %s: it has %d bytes, more than %d", key, len(data), maxValueSize)
	}
	name := chunkName(key)
	if _, err := c.q.chunks.Put(ctx, name, data); err != nil {
		return c.q.unreachable("keep a chunk's result", err)
	}
	c.touch(name)
	c.q.metrics.chunks.WithLabelValues("kept").Inc()
	return nil
}

func (c *Chunks) touch(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.touched == nil {
		c.touched = map[string]bool{}
	}
	c.touched[name] = true
}

// clear erases what the job has touched. What it cannot erase goes after Limits.ChunkAge.
func (c *Chunks) clear(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.touched {
		if err := c.q.chunkStream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+bucketChunks+"."+name)); err != nil {
			c.q.cfg.Log.Warn("chunk results stay for now", "error", err)
			return
		}
		delete(c.touched, name)
	}
}
