package queue

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A server that has lost its leader for seconds ends neither a connection nor a worker that begins; what will not pass does.
func TestPatiently(t *testing.T) {
	t.Parallel()
	unavailable := &jetstream.APIError{Code: 503, ErrorCode: codeUnavailable, Description: "JetStream system temporarily unavailable"}
	lasting := errors.New("no such luck")
	for name, c := range map[string]struct {
		retry   bool
		answers []error
		want    error
		asked   int
	}{
		"at once":               {true, []error{nil}, nil, 1},
		"after a while":         {true, []error{unavailable, context.DeadlineExceeded, unavailable, nil}, nil, 4},
		"what will not pass":    {true, []error{unavailable, lasting}, lasting, 2},
		"without being patient": {false, []error{unavailable}, unavailable, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := &Queue{cfg: Config{Retry: c.retry}.WithDefaults()}
			asked := 0
			err := q.patiently(t.Context(), "it is not there", func(context.Context) error {
				asked++
				return c.answers[asked-1]
			})
			if !errors.Is(err, c.want) || asked != c.asked {
				t.Errorf("%s: %v after %d times, want %v after %d", name, err, asked, c.want, c.asked)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		q := &Queue{cfg: Config{Retry: true}.WithDefaults()}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		err := q.patiently(ctx, "it is not there", func(context.Context) error { return unavailable })
		if !errors.Is(err, unavailable) || ctx.Err() == nil {
			t.Errorf("until it is stopped: %v", err)
		}
	})
}
