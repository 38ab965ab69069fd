package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"steno/job"
)

// RedisCache keeps answers in Redis, where all gateways see them and what each of them drops. It is safe for concurrent use.
//
// A tag's stamp is a random text under a key of its own; each value begins with the stamp that its tag had when the work on it
// began, and is good while they are the same. So to drop a tag is to delete one key, and one MGET reads both.
type RedisCache struct{ client *redis.Client }

// stampLife is how long a tag's stamp is kept. One that has gone is replaced by another, so values are lost, never wrong.
const stampLife = time.Hour

// stampSize is the length of a stamp in a value.
const stampSize = 22

// Time-outs of Redis: an answer that takes longer is worked out sooner than it comes.
const (
	redisDial = time.Second
	redisCall = 500 * time.Millisecond
)

// NewRedisCache connects to the Redis that a URL names, such as redis://host:6379/0. The code of the error is BAD_REDIS for a URL
// that cannot be read. A Redis that is away is no error: its answers are missed until it is back.
func NewRedisCache(url string) (*RedisCache, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, job.Errorf(job.Input, "BAD_REDIS", "the URL of Redis cannot be read: write it as in redis://host:6379/0")
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redisDial, redisCall, redisCall
	o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = 1, 1, true // by default five dials with pauses: 0.4 s where it is down
	return &RedisCache{redis.NewClient(o)}, nil
}

// Ping asks Redis for an answer.
func (c *RedisCache) Ping(ctx context.Context) error {
	if err := c.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("reach Redis: %w", err)
	}
	return nil
}

// Keys are of bounded length, whatever the path and the query.
func stampKey(tag string) string      { return "steno:stamp:" + digest(tag) }
func valueKey(tag, key string) string { return "steno:value:" + digest(tag+" "+key) }

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Get implements Cache.
func (c *RedisCache) Get(ctx context.Context, tag, key string) ([]byte, string, error) {
	both, err := c.client.MGet(ctx, stampKey(tag), valueKey(tag, key)).Result()
	if err != nil {
		return nil, "", fmt.Errorf("read from Redis: %w", err)
	}
	stamp, known := both[0].(string)
	if !known {
		stamp, err = c.stamp(ctx, tag)
		return nil, stamp, err
	}
	if value, there := both[1].(string); there && len(value) > stampSize && value[:stampSize] == stamp {
		return []byte(value[stampSize:]), "", nil
	}
	return nil, stamp, nil
}

// stamp gives a tag a new stamp, or returns that which somebody else has just given it.
func (c *RedisCache) stamp(ctx context.Context, tag string) (string, error) {
	data := make([]byte, 16)
	rand.Read(data) // never fails
	stamp := base64.RawURLEncoding.EncodeToString(data)
	err := c.client.SetArgs(ctx, stampKey(tag), stamp, redis.SetArgs{Mode: "NX", TTL: stampLife, Get: true}).Err()
	if errors.Is(err, redis.Nil) { // there was none
		return stamp, nil
	}
	if err != nil {
		return "", fmt.Errorf("write to Redis: %w", err)
	}
	return "", nil // somebody else's: they keep the answer, we need not
}

// Put implements Cache.
func (c *RedisCache) Put(ctx context.Context, tag, key, ticket string, value []byte, ttl time.Duration) error {
	if err := c.client.Set(ctx, valueKey(tag, key), ticket+string(value), ttl).Err(); err != nil {
		return fmt.Errorf("write to Redis: %w", err)
	}
	return nil
}

// Drop implements Cache.
func (c *RedisCache) Drop(ctx context.Context, tags ...string) error {
	keys := make([]string, len(tags))
	for i, tag := range tags {
		keys[i] = stampKey(tag)
	}
	if err := c.client.Del(ctx, keys...).Err(); err != nil {
		return fmt.Errorf("delete from Redis: %w", err)
	}
	return nil
}

// Close closes the connections.
func (c *RedisCache) Close() error { return c.client.Close() }
