package api_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"steno/api"
	"steno/internal/testredis"
)

// caches make an empty cache of each kind. What they return opens it, each time as another gateway would.
var caches = map[string]func(*testing.T) func() api.Cache{
	"memory": func(t *testing.T) func() api.Cache {
		c := api.NewMemoryCache(16 << 20) // no other gateway can open it
		t.Cleanup(func() { _ = c.Close() })
		return func() api.Cache { return c }
	},
	"redis": func(t *testing.T) func() api.Cache {
		server := testredis.Start(t)
		return func() api.Cache { return redisCache(t, server) }
	},
}

func redisCache(t *testing.T, server *testredis.Server) *api.RedisCache {
	t.Helper()
	c := must(api.NewRedisCache(server.URL()))(t)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// What a Cache promises, of each kind. One and other are two gateways.
func TestCache(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T, one, other api.Cache){
		"keeps": testKeeps, "expires": testExpires, "drops": testDrops, "late": testLate, "concurrent": testConcurrent,
	} {
		for kind, start := range caches {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				open := start(t)
				test(t, open(), open())
			})
		}
	}
}

// fill works a value out and puts it.
func fill(t *testing.T, c api.Cache, tag, key, value string, ttl time.Duration) {
	t.Helper()
	if err := c.Put(t.Context(), tag, key, ticket(t, c, tag, key), []byte(value), ttl); err != nil {
		t.Fatal(err)
	}
}

func drop(t *testing.T, c api.Cache, tags ...string) {
	t.Helper()
	if err := c.Drop(t.Context(), tags...); err != nil {
		t.Fatal(err)
	}
}

// ticket is that of a miss.
func ticket(t *testing.T, c api.Cache, tag, key string) string {
	t.Helper()
	value, ticket, err := c.Get(t.Context(), tag, key)
	if err != nil || value != nil || ticket == "" {
		t.Fatalf("%s of %s: %q, ticket %q, %v; want a miss with a ticket", key, tag, value, ticket, err)
	}
	return ticket
}

// holds checks what is kept; "" is nothing.
func holds(t *testing.T, c api.Cache, tag, key, want string) {
	t.Helper()
	got, _, err := c.Get(t.Context(), tag, key)
	if err != nil || string(got) != want || (got == nil) != (want == "") {
		t.Errorf("%s of %s is %q, %v; want %q", key, tag, got, err, want)
	}
}

func testKeeps(t *testing.T, one, other api.Cache) {
	values := map[[2]string]string{
		{"a", "k"}: "1", {"a", "l"}: "2", {"b", "k"}: "3", {"a", ""}: "4", {"a b", "c"}: "5", {"ä/☃", strings.Repeat("q", 9000)}: "6",
		{"a", "binary"}: "\x00\xff\r\n$-1\r\n", {"a", "large"}: strings.Repeat("x", 1<<20),
	}
	for at, value := range values {
		fill(t, one, at[0], at[1], value, time.Minute)
	}
	for at, value := range values {
		holds(t, one, at[0], at[1], value)
		holds(t, other, at[0], at[1], value)
	}
	holds(t, one, "b", "l", "")
	// A value can be put again, and the new one holds.
	if err := one.Put(t.Context(), "c", "k", ticket(t, one, "c", "k"), []byte("old"), time.Minute); err != nil {
		t.Fatal(err)
	}
	again := ticket(t, one, "c", "l")
	if err := one.Put(t.Context(), "c", "k", again, []byte("new"), time.Minute); err != nil {
		t.Fatal(err)
	}
	holds(t, other, "c", "k", "new")
}

func testExpires(t *testing.T, one, other api.Cache) {
	fill(t, one, "a", "long", "1", time.Minute)
	fill(t, one, "a", "short", "2", 50*time.Millisecond)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		value, _, err := other.Get(t.Context(), "a", "short")
		if err != nil {
			t.Fatal(err)
		}
		if value == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a value of 50 ms is there after 10 s")
		}
	}
	holds(t, other, "a", "long", "1")
	fill(t, one, "a", "short", "3", time.Minute)
	holds(t, other, "a", "short", "3")
}

func testDrops(t *testing.T, one, other api.Cache) {
	drop(t, one, "never seen")
	for _, tag := range []string{"u/task/1", "u/task/10", "u/history", "v/history"} {
		fill(t, one, tag, "k", tag, time.Minute)
		fill(t, one, tag, "l", tag, time.Minute)
	}
	drop(t, other, "u/task/1", "u/history")
	for _, c := range []api.Cache{one, other} {
		for _, key := range []string{"k", "l"} {
			holds(t, c, "u/task/1", key, "")
			holds(t, c, "u/history", key, "")
			holds(t, c, "u/task/10", key, "u/task/10")
			holds(t, c, "v/history", key, "v/history")
		}
	}
}

// What was worked out from what was true before a drop never comes back, whoever dropped and whatever has happened since.
func testLate(t *testing.T, one, other api.Cache) {
	for name, since := range map[string]func(){
		"nothing":      func() {},
		"another drop": func() { drop(t, one, "a") },
		"a miss":       func() { _, _, _ = other.Get(t.Context(), "a", "k") },
		"a newer value": func() {
			value, ticket, err := other.Get(t.Context(), "a", "k")
			if err == nil && value == nil && ticket != "" {
				err = other.Put(t.Context(), "a", "k", ticket, []byte("new"), time.Minute)
			}
			if err != nil {
				t.Fatal(err)
			}
			holds(t, other, "a", "k", "new")
		},
	} {
		drop(t, one, "a")
		early := ticket(t, one, "a", "k")
		drop(t, other, "a")
		since()
		if err := one.Put(t.Context(), "a", "k", early, []byte("old"), time.Minute); err != nil {
			t.Fatal(err)
		}
		for _, c := range []api.Cache{one, other} {
			if value, _, err := c.Get(t.Context(), "a", "k"); err != nil || string(value) == "old" {
				t.Errorf("after %s: %q, %v", name, value, err)
			}
		}
		// And the cache goes on to keep what is true.
		if value, ticket, err := one.Get(t.Context(), "a", "l"); err != nil || value != nil || ticket == "" {
			t.Errorf("after %s: %q, ticket %q, %v", name, value, ticket, err)
		}
	}
}

// Numbers grow, each growth is followed by a drop, and after that nobody gets a smaller one.
func testConcurrent(t *testing.T, one, other api.Cache) {
	const writes = 400
	type number struct{ truth, floor atomic.Int64 }
	numbers := map[string]*number{"a": {}, "b": {}, "c": {}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hits, late atomic.Int64
	read := func(c api.Cache, tag, key string) error {
		n := numbers[tag]
		floor := n.floor.Load()
		value, ticket, err := c.Get(t.Context(), tag, key)
		switch {
		case err != nil:
			return err
		case value != nil:
			hits.Add(1)
			if got, err := strconv.ParseInt(string(value), 10, 64); err != nil || got < floor {
				return fmt.Errorf("%s is %q after %d", tag, value, floor)
			}
		case ticket != "":
			now := n.truth.Load()
			time.Sleep(rand.N(200 * time.Microsecond)) // the work, while which others write
			if now < n.floor.Load() {
				late.Add(1)
			}
			return c.Put(t.Context(), tag, key, ticket, strconv.AppendInt(nil, now, 10), time.Minute)
		}
		return nil
	}
	var writers, readers sync.WaitGroup
	for tag, n := range numbers {
		writers.Go(func() {
			for i := range int64(writes) {
				c := []api.Cache{one, other}[i%2]
				n.truth.Add(1)
				if err := c.Drop(t.Context(), tag); err != nil {
					t.Error(err)
				}
				n.floor.Add(1)
				if err := read(c, tag, "k"); err != nil {
					t.Error(err)
				}
			}
		})
		for _, c := range []api.Cache{one, other} {
			readers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					if err := read(c, tag, []string{"k", "l"}[i%2]); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	writers.Wait()
	cancel()
	readers.Wait()
	if hits.Load() == 0 || late.Load() == 0 {
		t.Errorf("%d hits and %d late values: this run shows nothing", hits.Load(), late.Load())
	}
}

// What the process keeps is bounded by its bytes.
func TestMemoryCacheIsBounded(t *testing.T) {
	t.Parallel()
	const size, one, n = 1 << 20, 10 << 10, 1000
	c := api.NewMemoryCache(size)
	t.Cleanup(func() { _ = c.Close() })
	for i := range n {
		fill(t, c, "tag"+strconv.Itoa(i%7), strconv.Itoa(i), strings.Repeat("x", one), time.Minute)
	}
	kept := func() (bytes int) {
		for i := range n {
			value, _, err := c.Get(t.Context(), "tag"+strconv.Itoa(i%7), strconv.Itoa(i))
			if err != nil {
				t.Fatal(err)
			}
			bytes += len(value)
		}
		return bytes
	}
	for deadline := time.Now().Add(10 * time.Second); kept() > size; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are kept, more than %d", kept(), size)
		}
	}
	if kept() < size/4 {
		t.Errorf("%d bytes are kept of %d", kept(), size)
	}
}

// In Redis everything goes by itself, and no key is long: that is all of a bound that can be set from here.
func TestRedisCacheIsBounded(t *testing.T) {
	t.Parallel()
	server := testredis.Start(t)
	c := redisCache(t, server)
	for i := range 50 {
		long := strings.Repeat("q", 1000*i)
		fill(t, c, "tag"+long, "key"+long, "value", time.Minute)
	}
	raw := rawRedis(t, server)
	keys := must(raw.Keys(t.Context(), "*").Result())(t)
	if len(keys) != 100 {
		t.Errorf("%d keys", len(keys))
	}
	for _, key := range keys {
		if left := must(raw.TTL(t.Context(), key).Result())(t); len(key) > 64 || left <= 0 || left > time.Hour {
			t.Errorf("key %q stays for %s", key, left)
		}
	}
}

func rawRedis(t *testing.T, server *testredis.Server) *redis.Client {
	t.Helper()
	c := redis.NewClient(must(redis.ParseURL(server.URL()))(t))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedisAddress(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "localhost:6379", "http://localhost", "redis://localhost/x"} {
		if _, err := api.NewRedisCache(url); err == nil || !strings.Contains(err.Error(), "redis://host:6379/0") {
			t.Errorf("%q: %v", url, err)
		}
	}
	server := testredis.Start(t)
	c := redisCache(t, server)
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	server.Stop()
	if err := c.Ping(t.Context()); err == nil {
		t.Error("a Redis that is away answers")
	}
	if _, _, err := c.Get(t.Context(), "a", "k"); err == nil {
		t.Error("a Redis that is away has no value")
	}
	if err := c.Drop(t.Context(), "a"); err == nil {
		t.Error("a Redis that is away drops")
	}
	server.Resume(t)
	fill(t, c, "a", "k", "v", time.Minute) // it is found again
	holds(t, c, "a", "k", "v")
}
