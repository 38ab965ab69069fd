package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"steno/job"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func yes() bool { return true }

func TestClaim(t *testing.T) {
	const ttl = 30 * time.Second
	held := func(contested int) *lease {
		return &lease{ID: "old", Worker: "a", TTL: ttl, Beat: 7, Contested: contested}
	}
	for name, c := range map[string]struct {
		rec  record
		now  time.Duration // since the last renewal, by the claimant's clock
		want claimed
	}{
		"waiting":                       {record{State: job.Queued}, 0, claimRun},
		"done":                          {record{State: job.Done}, 0, claimEnded},
		"failed":                        {record{State: job.Failed}, 0, claimEnded},
		"owner dead":                    {record{State: job.Running, Attempt: 1, Lease: held(0)}, ttl, claimRun},
		"owner seems alive":             {record{State: job.Running, Attempt: 1, Lease: held(0)}, ttl - 1, claimBusy},
		"owner has moved since":         {record{State: job.Running, Attempt: 1, Lease: held(6)}, time.Second, claimBusy},
		"owner has not moved since":     {record{State: job.Running, Attempt: 1, Lease: held(7)}, time.Second, claimRun},
		"clock an hour behind, first":   {record{State: job.Running, Attempt: 1, Lease: held(0)}, -time.Hour, claimBusy},
		"clock an hour behind, second":  {record{State: job.Running, Attempt: 1, Lease: held(7)}, -time.Hour, claimRun},
		"to be cancelled, owner dead":   {record{State: job.Running, Attempt: 1, Lease: held(0), CancelAsked: true}, ttl, claimCancelled},
		"second death in a row":         {record{State: job.Running, Attempt: 2, Lost: 1, Deaths: 1, Lease: held(0)}, ttl, claimPaused},
		"suspect":                       {record{State: job.Queued, Attempt: 2, Lost: 2, Deaths: 2}, 0, claimRun},
		"suspect beside another":        {record{State: job.Queued, Attempt: 2, Lost: 2, Deaths: 2}, 0, claimPaused},
		"last death in a row":           {record{State: job.Running, Attempt: 3, Lost: 2, Deaths: 2, Lease: held(0)}, ttl, claimExhausted},
		"it waits after its last death": {record{State: job.Queued, Attempt: 3, Lost: 3, Deaths: 3}, 0, claimExhausted},
		"last, but got further": {record{
			State: job.Running, Attempt: 3, Lost: 2, Deaths: 2, Furthest: 30, Progress: job.Progress{Done: 60}, Lease: held(0),
		}, ttl, claimRun},
		"last, got as far as before": {record{
			State: job.Running, Attempt: 3, Lost: 2, Deaths: 2, Furthest: 60, Progress: job.Progress{Done: 60}, Lease: held(0),
		}, ttl, claimExhausted},
		"last, owner alive":       {record{State: job.Running, Attempt: 3, Lost: 2, Deaths: 2, Lease: held(0)}, 0, claimBusy},
		"our own claim of before": {record{State: job.Running, Attempt: 1, Lease: &lease{ID: "new"}}, 0, claimRun},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.rec
			before := r.Attempt
			if got := r.claim(lease{ID: "new", Worker: "b", TTL: ttl}, 3, func() bool { return name != "suspect beside another" }, t0.Add(c.now), t0); got != c.want {
				t.Fatalf("claim = %d, want %d", got, c.want)
			}
			switch c.want {
			case claimRun:
				if r.Lease.ID != "new" || r.State != job.Running {
					t.Errorf("the lease is %+v, the job %s", r.Lease, r.State)
				}
				if c.rec.Lease != nil && c.rec.Lease.ID == "old" && (len(r.History) != 1 || r.History[0].Outcome != OutcomeLost) {
					t.Errorf("history %+v", r.History)
				}
			case claimPaused:
				if wait := r.RetryAt.Sub(t0.Add(c.now)); r.State != job.Queued || r.Lease != nil || wait < time.Second || wait > 3*time.Second {
					t.Errorf("it waits for %s: %+v", wait, r)
				}
			case claimExhausted:
				if r.State != job.Failed || r.Error.Code != "WORKER_DIED" || r.Attempt != before {
					t.Errorf("record %+v", r)
				}
			}
		})
	}
}

// TestRecordRules plays workers that claim, renew, die and settle, users that cancel, and the clock, in any order.
func TestRecordRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const deaths, ttl = 3, 30 * time.Second
		now, renewed := t0, t0
		r := newRecord(job.Job{ID: job.NewID()}, DefaultPool, now)
		var holders []string // every lease there ever was
		begun := 0
		ended := map[job.State]bool{}
		pick := func(t *rapid.T) string {
			if len(holders) == 0 {
				return "nobody"
			}
			return rapid.SampledFrom(holders).Draw(t, "holder")
		}
		t.Repeat(map[string]func(*rapid.T){
			"time passes": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "s")) * time.Second) },
			"claim": func(t *rapid.T) {
				id := fmt.Sprint("lease", len(holders))
				if r.claim(lease{ID: id, TTL: ttl}, deaths, yes, now, renewed) == claimRun {
					holders = append(holders, id)
					begun++
				}
				renewed = now
			},
			"renew": func(t *rapid.T) {
				l := pick(t)
				mine := r.Lease != nil && r.Lease.ID == l
				p := job.Progress{Done: float64(rapid.IntRange(0, 3).Draw(t, "done"))}
				if err := r.renew(l, p); errors.Is(err, ErrLeaseLost) == mine {
					t.Fatalf("renewal of %s: %v; it holds the lease: %t", l, err, mine)
				}
				if mine {
					renewed = now
				}
			},
			"settle": func(t *rapid.T) {
				l := pick(t)
				mine := r.Lease != nil && r.Lease.ID == l || r.Closed == l
				v := verdict{outcome: rapid.SampledFrom([]Outcome{
					OutcomeDone, OutcomeFailed, OutcomeCancelled, OutcomeRetried, OutcomeRequeued, OutcomeHandedOn,
				}).Draw(t, "outcome"), result: "result of " + l}
				if v.outcome == OutcomeFailed {
					v.err = job.Errorf(job.Input, "X", "x")
				}
				if _, err := r.settle(l, v, job.Progress{}, now); (err == nil) != mine {
					t.Fatalf("settlement by %s: %v; it may: %t", l, err, mine)
				}
			},
			"cancel": func(*rapid.T) { _ = r.requestCancel(now) },
			"": func(t *rapid.T) {
				if r.State.Terminal() {
					ended[r.State] = true
				}
				switch {
				case len(ended) > 1 || len(ended) == 1 && !r.State.Terminal():
					t.Fatalf("a terminal state changed: %v, now %s", ended, r.State)
				case (r.Lease != nil) != (r.State == job.Running):
					t.Fatalf("the job is %s with lease %v", r.State, r.Lease)
				case r.Lost < r.Deaths || r.Attempt < r.Lost || r.Deaths > deaths || r.Claims < r.Attempt:
					t.Fatalf("%d claims, %d attempts, %d lost, %d of them in a row", r.Claims, r.Attempt, r.Lost, r.Deaths)
				case r.Lost > (deaths+1)*5: // for there are four places to get to, and then it has failed
					t.Fatalf("it met %d deaths", r.Lost)
				case r.State == job.Done && r.Result != "result of "+r.Closed:
					t.Fatalf("the result is %q, but %s ended the job", r.Result, r.Closed)
				case r.State == job.Failed && r.Error == nil:
					t.Fatal("failed without an error")
				case r.State != job.Done && r.Result != "":
					t.Fatalf("%s with a result", r.State)
				case r.Claims != begun:
					t.Fatalf("%d claims counted, %d made", r.Claims, begun)
				}
			},
		})
	})
}

func TestRecordStaysSmall(t *testing.T) {
	r := newRecord(job.Job{ID: job.NewID()}, DefaultPool, t0)
	for i := range 100 {
		l := fmt.Sprint(i)
		r.claim(lease{ID: l, Worker: strings.Repeat("w", 64)}, 1000, yes, t0, t0)
		big := job.Errorf(job.Internal, "BIG", "%s: %w", strings.Repeat("é", 1<<15), errors.New(strings.Repeat("ü", 1<<15)))
		if _, err := r.settle(l, verdict{outcome: OutcomeRetried, err: big}, job.Progress{}, t0); err != nil {
			t.Fatal(err)
		}
	}
	data, err := r.encode()
	if err != nil || len(data) > 64<<10 {
		t.Errorf("a record of %d bytes, %v", len(data), err)
	}
	if back, err := decodeRecord(data); err != nil || back.Attempt != r.Attempt {
		t.Errorf("it decodes to %d attempts, %v; want %d", back.Attempt, err, r.Attempt)
	}
}

func TestJudge(t *testing.T) {
	cfg := WorkerConfig{}.WithDefaults()
	input := job.Errorf(job.Input, "NO_AUDIO_STREAM", "no audio")
	resource := job.Errorf(job.Resource, "NO_DISK", "full")
	transient := job.Errorf(job.Transient, "AWAY", "away")
	for name, c := range map[string]struct {
		err, cause error
		stopping   bool
		rec        record
		want       Outcome
		code       string
	}{
		"success":                            {nil, nil, false, record{Attempt: 1}, OutcomeDone, ""},
		"success while stopping":             {nil, ErrDraining, true, record{Attempt: 1}, OutcomeDone, ""},
		"bad input":                          {input, nil, false, record{Attempt: 1}, OutcomeFailed, "NO_AUDIO_STREAM"},
		"bad input while stopping":           {input, ErrDraining, true, record{Attempt: 1}, OutcomeFailed, "NO_AUDIO_STREAM"},
		"wrapped":                            {fmt.Errorf("probe: %w", input), nil, false, record{Attempt: 1}, OutcomeFailed, "NO_AUDIO_STREAM"},
		"engine dead":                        {job.Errorf(job.Engine, "E", "e"), nil, false, record{Attempt: 1}, OutcomeFailed, "E"},
		"engine dead while stopping":         {job.Errorf(job.Engine, "E", "e"), nil, true, record{Attempt: 1}, OutcomeHandedOn, ""},
		"cancelled":                          {context.Canceled, ErrCancelled, false, record{Attempt: 1}, OutcomeCancelled, ""},
		"cancelled while stopping":           {context.Canceled, ErrCancelled, true, record{Attempt: 1}, OutcomeCancelled, ""},
		"lease lost":                         {context.Canceled, ErrLeaseLost, false, record{Attempt: 1}, OutcomeLost, ""},
		"drained":                            {context.Canceled, ErrDraining, true, record{Attempt: 3}, OutcomeHandedOn, ""},
		"stalled":                            {context.Canceled, ErrStalled, false, record{Attempt: 1}, OutcomeRetried, "STALLED"},
		"stalled, last attempt":              {context.Canceled, ErrStalled, false, record{Attempt: 3}, OutcomeFailed, "STALLED"},
		"a timeout of its own":               {context.DeadlineExceeded, nil, false, record{Attempt: 1}, OutcomeRetried, "TIMEOUT"},
		"transient":                          {transient, nil, false, record{Attempt: 2}, OutcomeRetried, "AWAY"},
		"transient, last attempt":            {transient, nil, false, record{Attempt: 3}, OutcomeFailed, "AWAY"},
		"transient, two workers died before": {transient, nil, false, record{Attempt: 4, Lost: 2}, OutcomeRetried, "AWAY"},
		"unknown":                            {errors.New("?"), nil, false, record{Attempt: 1}, OutcomeRetried, "INTERNAL"},
		"no disk":                            {resource, nil, false, record{Attempt: 3, Requeues: 19}, OutcomeRequeued, "NO_DISK"},
		"no disk for the 21st time":          {resource, nil, false, record{Attempt: 1, Requeues: 20}, OutcomeFailed, "NO_DISK"},
		"transient that wraps a timeout":     {job.Errorf(job.Transient, "AWAY", "a: %w", context.DeadlineExceeded), nil, false, record{Attempt: 1}, OutcomeRetried, "AWAY"},
	} {
		t.Run(name, func(t *testing.T) {
			v := cfg.judge(c.err, c.cause, c.stopping, c.rec)
			code := ""
			if v.err != nil {
				code = v.err.Code
			}
			if v.outcome != c.want || code != c.code {
				t.Errorf("%s %s, want %s %s", v.outcome, code, c.want, c.code)
			}
			if wait := v.outcome == OutcomeRetried || v.outcome == OutcomeRequeued; wait != (v.delay > 0) {
				t.Errorf("a delay of %s for %s", v.delay, v.outcome)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	cfg := WorkerConfig{}.WithDefaults()
	for n, seconds := range []int{5, 10, 20, 40, 60, 60} {
		want := time.Duration(seconds) * time.Second
		if got := cfg.backoff(n); got < want || got > want+want/4+1 {
			t.Errorf("pause %d is %s, want %s and up to a quarter more", n, got, want)
		}
	}
	if got := cfg.backoff(1000); got > 75*time.Second+1 {
		t.Errorf("pause 1000 is %s", got)
	}
}

// FuzzParseMessage: a job that is taken from a message is the one of its subject, and is the same after a way through the record.
func FuzzParseMessage(f *testing.F) {
	id := job.NewID()
	subject := jobSubject(DefaultPool, job.Job{ID: id})
	full, err := json.Marshal(job.Job{
		ID: id, User: "ada", FileName: "a.wav", Source: job.Source{Object: "x", SHA256: "x", Size: 1}, External: true, Priority: -1,
		Params: job.Params{Language: "de", Words: true, ChunkSeconds: 30}, Webhook: "https://x", Created: time.Unix(1e9, 1).UTC(),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(subject, full)
	f.Add(subject, []byte(`{"id":"`+string(id)+`"}`))
	f.Add(subject, []byte(`{"id":"`+strings.ToLower(string(id))+`"}`))
	f.Add(subject, []byte(`{"id":"`+string(id)+`","created":"9999-12-31T23:59:59.999999999-23:59","file_name":"\ud800"}`))
	f.Add(subject, []byte(`{`))
	f.Add("", []byte(`null`))
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		j, err := parseMessage(subject, data)
		if err != nil {
			return
		}
		if _, err := job.ParseID(string(j.ID)); err != nil || !strings.HasSuffix(subject, "."+string(j.ID)) {
			t.Errorf("took job %q on %q", j.ID, subject)
		}
		r := newRecord(j, DefaultPool, time.Unix(1e9, 0).UTC())
		written, err := r.encode()
		if err != nil {
			t.Fatalf("took what cannot be recorded: %v", err)
		}
		kept, err := decodeRecord(written)
		if err != nil || !reflect.DeepEqual(kept, r) {
			t.Errorf("%+v is kept as %+v, %v", r, kept, err)
		}
		sent, err := json.Marshal(kept.Job)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseMessage(kept.subject(), sent); err != nil || !reflect.DeepEqual(again, j) {
			t.Errorf("%+v is sent as %s, and read as %+v, %v", j, sent, again, err)
		}
	})
}

// FuzzRecord: what is read as a record can be written, and is read as the same again.
func FuzzRecord(f *testing.F) {
	now := time.Unix(1e9, 0).UTC()
	r := newRecord(job.Job{ID: job.NewID(), Params: job.Params{ChunkSeconds: 30}}, DefaultPool, now)
	seed := func() {
		data, err := r.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	seed()
	r.claim(lease{ID: "l", Worker: "w", TTL: time.Second, Ack: "$JS.ACK"}, 3, yes, now, now)
	seed()
	v := verdict{outcome: OutcomeRetried, err: job.Errorf(job.Internal, "X", "it fails: %w", io.EOF), delay: time.Second}
	if _, err := r.settle("l", v, job.Progress{Stage: job.StageMerge, Done: 1.5, Total: 3}, now); err != nil {
		f.Fatal(err)
	}
	seed()
	f.Add([]byte(`{"state":"done","lease":{"ttl":-1},"history":[{},{"error":{}}],"retry_at":"0001-01-01T00:00:00Z","attempt":-5}`))
	f.Add([]byte(`{"lease":null,"history":[],"error":{"class":"\ud800"},"started":"2026-02-29T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			return
		}
		written, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeRecord(written)
		if err != nil {
			t.Fatalf("%v: %s", err, written)
		}
		if twice, err := again.encode(); err != nil || !bytes.Equal(twice, written) {
			t.Fatalf("%s is written again as %s, %v", written, twice, err)
		}
	})
}
