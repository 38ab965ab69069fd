package fault

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestCanary: whoever opens the file or calls the address is noted, and nothing is while nobody does.
func TestCanary(t *testing.T) {
	t.Parallel()
	c, err := newCanary([]byte("sound"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if what := c.touched(); what != "" {
		t.Errorf("untouched, it says %q", what)
	}
	if _, err := os.ReadFile(c.path); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(c.url, "http://"), "/canary.mp3"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		what := c.touched()
		if strings.Contains(what, "opened at") && strings.Contains(what, "called 1 times") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("opened and called, it says %q", what)
		}
	}
}
