package api

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// maxTags bounds the tags that are remembered. One that is forgotten gets a new stamp, so its answers are lost, never wrong.
const maxTags = 100_000

// MemoryCache keeps answers in this process. It is safe for concurrent use.
type MemoryCache struct {
	values *otter.Cache[string, stamped]
	stamps *otter.Cache[string, string] // of tags; a dropped one gets another
	last   atomic.Uint64
}

// stamped is a value with the stamp that its tag had when the work on it began.
type stamped struct {
	stamp string
	value []byte
	ttl   time.Duration
}

// entryCost is about what an entry takes besides its value.
const entryCost = 256

// NewMemoryCache makes a cache of about the given number of bytes.
func NewMemoryCache(bytes int64) *MemoryCache {
	return &MemoryCache{
		values: otter.Must(&otter.Options[string, stamped]{
			MaximumWeight:    uint64(max(bytes, 1)),
			Weigher:          func(key string, v stamped) uint32 { return uint32(len(key) + len(v.value) + entryCost) },
			ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, stamped]) time.Duration { return e.Value.ttl }),
		}),
		stamps: otter.Must(&otter.Options[string, string]{MaximumSize: maxTags}),
	}
}

// Get implements Cache.
func (c *MemoryCache) Get(_ context.Context, tag, key string) ([]byte, string, error) {
	stamp, _ := c.stamps.ComputeIfAbsent(tag, func() (string, bool) { return strconv.FormatUint(c.last.Add(1), 36), false })
	if v, ok := c.values.GetIfPresent(tag + " " + key); ok && v.stamp == stamp {
		return v.value, "", nil
	}
	return nil, stamp, nil
}

// Put implements Cache.
func (c *MemoryCache) Put(_ context.Context, tag, key, ticket string, value []byte, ttl time.Duration) error {
	c.values.Set(tag+" "+key, stamped{ticket, value, ttl})
	return nil
}

// Drop implements Cache.
func (c *MemoryCache) Drop(_ context.Context, tags ...string) error {
	for _, tag := range tags {
		c.stamps.Invalidate(tag)
	}
	return nil
}

// Close ends what the cache does in the background.
func (c *MemoryCache) Close() error {
	c.values.StopAllGoroutines()
	c.stamps.StopAllGoroutines()
	return nil
}
