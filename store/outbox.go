package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"steno/job"
)

// Lane keeps commands apart that go to different places, so that a webhook nobody answers does not hold the queue up.
type Lane string

// The lanes of the outbox.
const (
	LaneQueue   Lane = "queue"
	LaneWebhook Lane = "webhook"
)

// Kind is what a command asks for. All must be carried out so that a second time does no harm, for it may come.
type Kind string

// The kinds of commands. All but Webhook are in LaneQueue.
const (
	Publish Kind = "publish" // put Job on the queue
	Cancel  Kind = "cancel"  // cancel the job of Task
	Delete  Kind = "delete"  // delete what the queue keeps of Task: record, result, dead letter
	Purge   Kind = "purge"   // delete Object from the object store
	Webhook Kind = "webhook" // tell URL how Task has ended
)

func (k Kind) lane() Lane {
	if k == Webhook {
		return LaneWebhook
	}
	return LaneQueue
}

// Command is a row of the outbox. Task or Object says what it is about.
type Command struct {
	ID      int64
	Kind    Kind
	Task    job.ID
	Object  string
	Job     job.Job   // of Publish
	URL     string    // of Webhook
	State   job.State // of Webhook
	Tries   int       // claims so far, this one included
	Created time.Time
}

// payload is what a command carries besides what it is about.
type payload struct {
	Job   *job.Job  `json:"job,omitempty"`
	URL   string    `json:"url,omitempty"`
	State job.State `json:"state,omitempty"`
}

// enqueue adds a command to the outbox, in the transaction that made it necessary.
func (s *Store) enqueue(ctx context.Context, c session, cmd Command) error {
	p := payload{URL: cmd.URL, State: cmd.State}
	if cmd.Kind == Publish {
		p.Job = &cmd.Job
	}
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode command: %w", err)
	}
	_, err = c.exec(ctx, addCommand, cmd.Kind.lane(), cmd.Kind, cmp.Or(string(cmd.Task), cmd.Object), string(data), micros(s.now()))
	return err
}

// announce leaves the command for the webhook of a task that has just ended.
func (s *Store) announce(ctx context.Context, c session, t Task) error {
	if t.Webhook == "" {
		return nil
	}
	return s.enqueue(ctx, c, Command{Kind: Webhook, Task: t.ID, URL: t.Webhook, State: t.Status})
}

// Claim takes up to n commands of a lane that are due, oldest first, for the length of the lease: within it nobody else gets
// them. Each ends by Complete or Retry; one that does neither, because its holder died, is due again after the lease. Of several
// commands about one task or object only the oldest is due, so their order holds.
func (s *Store) Claim(ctx context.Context, lane Lane, n int, lease time.Duration) ([]Command, error) {
	var list []Command
	err := s.tx(ctx, func(c session) (err error) {
		now := s.now()
		list, err = all(ctx, c, scanCommand, claimCommands, lane, micros(now), n, micros(now.Add(lease)))
		return err
	})
	if err != nil {
		return nil, forUser(ctx, "claim commands", err)
	}
	slices.SortFunc(list, func(a, b Command) int { return cmp.Compare(a.ID, b.ID) }) // RETURNING knows no order
	return list, nil
}

func scanCommand(row scanner) (Command, error) {
	var c Command
	var subject, data string
	var created int64
	if err := row.Scan(&c.ID, &c.Kind, &subject, &data, &c.Tries, &created); err != nil {
		return c, err
	}
	var p payload
	if err := json.Unmarshal([]byte(data), &p); err != nil {
		return c, fmt.Errorf("decode command %d: %w", c.ID, err)
	}
	if c.Kind == Purge {
		c.Object = subject
	} else {
		c.Task = job.ID(subject)
	}
	if p.Job != nil {
		c.Job = *p.Job
	}
	c.URL, c.State, c.Created = p.URL, p.State, fromMicros(created)
	return c, nil
}

// Complete removes a command that was carried out, or that is given up. It does not matter whether its lease still holds:
// what is done is done.
func (s *Store) Complete(ctx context.Context, id int64) error {
	err := s.tx(ctx, func(c session) error {
		_, err := c.exec(ctx, deleteCommand, id)
		return err
	})
	return forUser(ctx, "complete a command", err)
}

// Retry gives a claimed command back and says why. It is due again after Backoff.
func (s *Store) Retry(ctx context.Context, cmd Command, cause error) error {
	return s.RetryAfter(ctx, cmd, Backoff(cmd.Tries), cause)
}

// maxLastError is the number of bytes that are kept of why a command failed.
const maxLastError = 1 << 10

// Backoff is the pause after a command has failed the given number of times: 1 s, doubled each time, at most a minute.
func Backoff(tries int) time.Duration {
	if tries > 6 {
		return time.Minute
	}
	return min(time.Minute, time.Second<<max(0, tries-1))
}

// Backlog says how many commands a lane holds, and how long the oldest has been waiting: 0 where it is empty.
func (s *Store) Backlog(ctx context.Context, lane Lane) (n int, age time.Duration, err error) {
	var oldest int64
	if err := s.reader().row(ctx, countCommands, lane).Scan(&n, &oldest); err != nil {
		return 0, 0, forUser(ctx, "count commands", err)
	}
	if n > 0 {
		age = s.now().Sub(fromMicros(oldest))
	}
	return n, age, nil
}
