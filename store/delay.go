package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// RetryAfter is Retry with a pause of the caller's choice, for lanes whose commands wait longer than Backoff says.
func (s *Store) RetryAfter(ctx context.Context, cmd Command, pause time.Duration, cause error) error {
	text := strings.ToValidUTF8(strings.ReplaceAll(fmt.Sprint(cause), "\x00", ""), "")
	text = strings.ToValidUTF8(text[:min(len(text), maxLastError)], "")
	err := s.tx(ctx, func(c session) error {
		_, err := c.exec(ctx, retryCommand, cmd.ID, cmd.Tries, micros(s.now().Add(pause)), text)
		return err
	})
	return forUser(ctx, "give a command back", err)
}
