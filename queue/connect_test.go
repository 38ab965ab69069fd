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

// A question that got lost with the server that it went to is asked again, well before the caller's time is over.
func TestLostQuestionIsAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		start, asked := time.Now(), 0
		err := patiently(ctx, func(ctx context.Context) error {
			if asked++; asked == 1 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		if err != nil || asked != 2 || time.Since(start) > 10*time.Second {
			t.Errorf("%v after %d times in %v", err, asked, time.Since(start))
		}
		start = time.Now()
		silent := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		if err := patiently(ctx, silent); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 30*time.Second {
			t.Errorf("a server that says nothing: %v after %v", err, time.Since(start))
		}
	})
}
