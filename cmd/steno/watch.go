package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"steno/job"
	"steno/queue"
)

// watchTail is how many of the jobs that ended last are shown.
const watchTail = 5

func (a *app) watchCmd() *cobra.Command {
	var asJSON bool
	var every time.Duration
	cmd := &cobra.Command{
		Use: "watch", Short: "Watch the queue: what runs, how fast, and what waits",
		Long: "Watch the queue until Ctrl-C: each job that runs with its stage, speed and the time that it will still take,\n" +
			"what waits, what ended last, and the nodes. Where the output is no terminal a state is printed with each change.",
		Example: "  steno watch\n  steno watch --nats nats://queue.example:4222 --every 5s\n  steno watch --json | jq .depth",
		Args:    args(cobra.NoArgs),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, _ []string) error {
			if every < 100*time.Millisecond {
				return usagef("--every %s is too often: choose 100ms or more", every)
			}
			w := &watch{a: a, screen: newScreen(a.std.out), json: asJSON, paces: map[job.ID]*pace{}}
			defer func() { w.screen.rows = 0 }() // the last state stays
			for {
				if err := w.look(ctx, q); err != nil && ctx.Err() == nil { // else Ctrl-C has ended the look
					return err
				}
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(every):
				}
			}
		}),
	}
	cmd.Flags().DurationVar(&every, "every", time.Second, "how often to look")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, an object per state")
	return cmd
}

type watch struct {
	a      *app
	screen *screen
	json   bool
	paces  map[job.ID]*pace
	last   string
}

// queueState is all that one look sees.
type queueState struct {
	Depth   queue.Depth    `json:"depth"`
	Running []queue.Status `json:"running"`
	Waiting []queue.Status `json:"waiting"`
	Ended   []queue.Status `json:"ended"` // last
	Nodes   []queue.Node   `json:"nodes"`
}

func (w *watch) look(ctx context.Context, q *queue.Queue) error {
	var s queueState
	var err error
	if s.Depth, err = q.Depth(ctx); err != nil {
		return err
	}
	all, err := q.List(ctx, queue.Filter{})
	if err != nil {
		return err
	}
	s.sort(all)
	if s.Nodes, err = q.Nodes(ctx); err != nil && job.AsError(err).Code != "NO_NODES" {
		return err
	}
	lines := w.lines(s, time.Now())
	switch {
	case w.json:
		return json.NewEncoder(w.a.std.out).Encode(s)
	case w.screen.shows():
		w.screen.draw(lines)
	default:
		if text := strings.Join(lines, "\n"); text != w.last {
			w.last = text
			fmt.Fprintf(w.a.std.out, "%s\n\n", text)
		}
	}
	return nil
}

// sort puts jobs where they belong: those that run and wait oldest first, those that ended newest first.
func (s *queueState) sort(all []queue.Status) {
	s.Running, s.Waiting, s.Ended = []queue.Status{}, []queue.Status{}, []queue.Status{}
	for _, j := range all {
		switch j.State {
		case job.Running:
			s.Running = append(s.Running, j)
		case job.Queued:
			s.Waiting = append(s.Waiting, j)
		default:
			s.Ended = append(s.Ended, j)
		}
	}
	slices.SortFunc(s.Running, func(a, b queue.Status) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Job.ID, b.Job.ID))
	})
	slices.SortFunc(s.Waiting, func(a, b queue.Status) int { return cmp.Compare(a.Job.ID, b.Job.ID) })
	slices.SortFunc(s.Ended, func(a, b queue.Status) int { return b.Finished.Compare(a.Finished) })
	s.Ended = s.Ended[:min(len(s.Ended), watchTail)]
}

// lines are the state for people.
func (w *watch) lines(s queueState, now time.Time) []string {
	lines := []string{fmt.Sprintf("%d running, %d waiting, %d dead letters, %s",
		len(s.Running), len(s.Waiting), s.Depth.Dead, fleetLine(s.Nodes))}
	paces := map[job.ID]*pace{}
	for _, j := range s.Running {
		p := cmp.Or(w.paces[j.Job.ID], &pace{})
		paces[j.Job.ID] = p
		speed, left := p.add(now, j.Progress)
		lines = append(lines, progressLine(j.Progress, speed, left, j.Job.FileName+"  "+j.Worker))
	}
	w.paces = paces
	for _, j := range s.Waiting {
		why := ""
		if j.Error != nil {
			why = "  tried again: " + j.Error.Message
		}
		lines = append(lines, fmt.Sprintf("waiting %s  %s%s", clock(now.Sub(j.Queued)), j.Job.FileName, why))
	}
	for _, j := range s.Ended {
		why := ""
		if j.Error != nil {
			why = "  " + j.Error.Message
		}
		lines = append(lines, fmt.Sprintf("%s  %s%s", j.State, j.Job.FileName, why))
	}
	return lines
}

// fleetLine counts the nodes and what they can do.
func fleetLine(nodes []queue.Node) string {
	slots, busy := 0, 0
	for _, n := range nodes {
		slots += n.Slots
		busy += n.Running
	}
	if len(nodes) == 1 {
		return fmt.Sprintf("1 node with %d of %d slots busy", busy, slots)
	}
	return fmt.Sprintf("%d nodes with %d of %d slots busy", len(nodes), busy, slots)
}
