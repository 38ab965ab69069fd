package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"steno/job"
	"steno/queue"
	"steno/transcript"
)

// connect reaches the queue as a client: the NATS server of the settings, or this user's `steno up`.
func (a *app) connect(ctx context.Context) (*queue.Queue, error) {
	qc := queue.Config{URL: a.cfg.NATS, CredsFile: a.cfg.NATSCreds, Attach: true}
	if a.cfg.NATS == "" {
		var err error
		if qc, err = queue.Local(a.cfg.Data); err != nil {
			return nil, err
		}
	}
	qc.Log = a.log
	return queue.Connect(ctx, qc)
}

// queueRun makes a command's body that works on the queue.
func (a *app) queueRun(f func(ctx context.Context, q *queue.Queue, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		q, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer q.Close()
		return f(cmd.Context(), q, args)
	}
}

func (a *app) submitCmd() *cobra.Command {
	var jf jobFlags
	var of outputFlags
	var wait bool
	var priority int
	cmd := &cobra.Command{
		Use: "submit FILE…", Short: "Put jobs on the queue",
		Long: "Put jobs on the queue and print their ids. With --wait, show live progress, print each transcript and where the\n" +
			"time went.",
		Example: "  steno submit lecture.m4a\n  steno submit --wait interview.mp3 -f srt\n" +
			"  steno submit talks/ --wait -f txt,srt -o out", Args: args(cobra.MinimumNArgs(1)),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, paths []string) error {
			formats, err := of.parse()
			if err != nil {
				return err
			}
			scratch, err := os.MkdirTemp("", "steno-")
			if err != nil {
				return fmt.Errorf("make a folder for standard input: %w", err)
			}
			defer os.RemoveAll(scratch)
			t := &transcriber{a: a, formats: formats, out: of, params: jf.params(a.cfg.Model)}
			if err := t.params.Validate(); err != nil {
				return err
			}
			in, err := t.inputs(paths, func() (string, error) { return spool(a.std.in, filepath.Join(scratch, "stdin")) })
			if err != nil {
				return err
			}
			s := &submitter{transcriber: t, q: q, priority: priority}
			return s.all(ctx, in, wait)
		}),
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the results and print them")
	cmd.Flags().IntVar(&priority, "priority", 0, "higher is sooner")
	modelFlag(cmd, a)
	jf.register(cmd)
	of.register(cmd)
	return cmd
}

type submitter struct {
	*transcriber
	q        *queue.Queue
	priority int
}

func (s *submitter) all(ctx context.Context, in []input, wait bool) error {
	s.bar = newProgress(s.a.std.err, len(in))
	defer s.bar.stop()
	failed := false
	report := func(f input, err error) {
		failed = true
		s.bar.say(fmt.Sprintf("steno: %s: %s", f.name, message(ctx, err)))
	}
	ids := make([]job.ID, len(in))
	for i, f := range in {
		id, err := s.submit(ctx, f, i >= job.BulkFrom)
		if err != nil {
			report(f, err)
			continue
		}
		ids[i] = id
		if !wait {
			if err := s.announce(f, id); err != nil {
				return err
			}
		}
	}
	if !wait {
		if failed {
			return errReported
		}
		return nil
	}
	// All are watched at once, so that progress is shown for whichever runs; results come in the order of the command line.
	errs := make([]error, len(in))
	var all sync.WaitGroup
	for i, f := range in {
		if ids[i] != "" {
			all.Go(func() { errs[i] = s.watch(ctx, f, ids[i]) })
		}
	}
	all.Wait()
	for i, f := range in {
		if ids[i] == "" {
			continue
		}
		err := errs[i]
		if err == nil {
			err = s.result(ctx, f, ids[i], len(in) > 1)
		}
		if err != nil {
			report(f, err)
		}
	}
	if failed {
		return errReported
	}
	return nil
}

func (s *submitter) submit(ctx context.Context, f input, bulk bool) (job.ID, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no file %s: check the path", f.path)
	}
	if err != nil {
		return "", fmt.Errorf("read the recording: %w", err)
	}
	defer file.Close()
	if st, err := file.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file: name an audio or video file", f.path)
	}
	src, err := s.q.PutAudio(ctx, file)
	if err != nil {
		return "", err
	}
	id := job.NewID()
	return id, s.q.Submit(ctx, job.Job{ID: id, FileName: f.name, Source: src, Params: s.params, Priority: s.priority, Bulk: bulk})
}

func (s *submitter) announce(f input, id job.ID) error {
	if s.out.json {
		return json.NewEncoder(s.a.std.out).Encode(map[string]string{"file": f.name, "job": string(id)})
	}
	_, err := fmt.Fprintf(s.a.std.out, "%s  %s\n", id, f.name)
	return err
}

// watch follows a job to its end.
func (s *submitter) watch(ctx context.Context, f input, id job.ID) error {
	defer s.bar.done(f.name)
	news, err := s.q.Watch(ctx, id)
	if err != nil {
		return err
	}
	for st := range news {
		s.bar.update(f.name, st.Progress)
	}
	return ctx.Err()
}

func (s *submitter) result(ctx context.Context, f input, id job.ID, titled bool) error {
	t, err := s.q.Result(ctx, id)
	if err != nil {
		return err
	}
	if err := s.write(f, t, titled); err != nil {
		return err
	}
	if !s.out.json {
		fmt.Fprint(s.a.std.err, timings(t))
	}
	return nil
}

// timings says where a job's time went, for people.
func timings(t transcript.Transcript) string {
	g := t.Timings
	start := "warm model"
	if t.ColdStart {
		start = "cold model"
	}
	text := fmt.Sprintf("\n%.1f s of audio in %.2f s (%.1f times real time), %s %s, %d chunks", t.Duration, g.Total,
		t.Duration/max(g.Total, 1e-9), start, t.Model, t.Chunks)
	if t.ChunksReused > 0 {
		text += fmt.Sprintf(" (%d kept from an earlier attempt)", t.ChunksReused)
	}
	text += "\n"
	for _, s := range []struct {
		name    string
		seconds float64
	}{
		{"queue", g.QueueWait}, {"probe", g.Probe}, {"prepare", g.Prepare}, {"load", g.ModelLoad}, {"split", g.Split},
		{"transcribe", g.Transcribe}, {"diarize", g.Diarize}, {"merge", g.Merge},
	} {
		if s.name == "diarize" && s.seconds == 0 {
			continue
		}
		text += fmt.Sprintf("  %-10s %7.3f s\n", s.name, s.seconds)
	}
	for _, w := range t.Warnings {
		text += "  warning: " + w + "\n"
	}
	return text
}

func (a *app) statusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status [JOB]", Short: "Show the queue, or one job",
		Example: "  steno status\n  steno status 01JD3V9ZK6T2M8Q4R5S6T7V8W9 --json",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, ids []string) error {
			if len(ids) == 1 {
				st, err := q.Status(ctx, job.ID(ids[0]))
				if err != nil {
					return err
				}
				return a.showJobs([]queue.Status{st}, asJSON, st)
			}
			depth, err := q.Depth(ctx)
			if err != nil {
				return err
			}
			all, err := q.List(ctx, queue.Filter{Limit: 50})
			if err != nil {
				return err
			}
			if !asJSON {
				fmt.Fprintf(a.std.out, "%d waiting, %d running, %d dead letters\n", depth.Pending, depth.InFlight, depth.Dead)
			}
			return a.showJobs(all, asJSON, map[string]any{"depth": depth, "jobs": all})
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) showJobs(all []queue.Status, asJSON bool, value any) error {
	if asJSON {
		return json.NewEncoder(a.std.out).Encode(value)
	}
	if len(all) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tSTATE\tPROGRESS\tSTAGE\tAGE\tFILE\tERROR")
	for _, s := range all {
		why := ""
		if s.Error != nil {
			why = s.Error.Message
		}
		fmt.Fprintf(w, "%s\t%s\t%.0f %%\t%s\t%s\t%s\t%s\n", s.Job.ID, s.State, 100*s.Progress.Fraction(), s.Progress.Stage,
			time.Since(s.Created).Round(time.Second), s.Job.FileName, why)
	}
	return w.Flush()
}

func (a *app) cancelCmd() *cobra.Command {
	return &cobra.Command{
		Use: "cancel JOB…", Short: "Cancel waiting or running jobs", Example: "  steno cancel 01JD3V9ZK6T2M8Q4R5S6T7V8W9",
		Args: args(cobra.MinimumNArgs(1)),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, ids []string) error {
			for _, id := range ids {
				if err := q.Cancel(ctx, job.ID(id)); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func (a *app) deadCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dead", Short: "List, show and retry jobs that failed for good",
		Example: "  steno dead list\n  steno dead show JOB\n  steno dead retry JOB", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var asJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List dead letters, newest first", Example: "  steno dead list", Args: args(cobra.NoArgs),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, _ []string) error {
			all, err := q.DeadLetters(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.std.out).Encode(all)
			}
			w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
			for _, d := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.ID, d.Failed.Format(time.RFC3339), d.Job.FileName, d.Error.Message)
			}
			return w.Flush()
		}),
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	show := &cobra.Command{
		Use: "show JOB", Short: "Show all that is known of a dead letter, as JSON",
		Example: "  steno dead show JOB", Args: args(cobra.ExactArgs(1)),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, ids []string) error {
			d, err := q.DeadLetter(ctx, ids[0])
			if err != nil {
				return err
			}
			e := json.NewEncoder(a.std.out)
			e.SetIndent("", "  ")
			return e.Encode(d)
		}),
	}
	retry := &cobra.Command{
		Use: "retry JOB…", Short: "Queue failed jobs again, with the same parameters",
		Long: "Queue failed jobs again, with the same parameters and all attempts. Tasks of the HTTP API follow their jobs: a\n" +
			"gateway that runs, or the next one that starts, opens them again.",
		Example: "  steno dead retry JOB",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: a.queueRun(func(ctx context.Context, q *queue.Queue, ids []string) error {
			for _, id := range ids {
				if err := q.RetryDead(ctx, job.ID(id)); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.AddCommand(list, show, retry)
	return cmd
}
