package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"steno/job"
	"steno/pipeline"
	"steno/transcript"
)

// jobFlags are the parameters of a job, shared by transcribe and submit.
type jobFlags struct {
	language, prompt, loudness, silence string
	chunk                               float64
	speakers                            int
	words, diarize, translate, partial  bool
}

func (f *jobFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.language, "language", "l", "auto", "language spoken, as an ISO 639-1 `code`; auto detects it")
	cmd.Flags().StringVar(&f.prompt, "prompt", "", "`text` that precedes the speech, to spell names")
	cmd.Flags().BoolVar(&f.words, "words", false, "time every word")
	cmd.Flags().BoolVar(&f.diarize, "diarize", false, "tell speakers apart")
	cmd.Flags().IntVar(&f.speakers, "speakers", 0, "how `many` speakers there are; implies --diarize (default: to be found)")
	cmd.Flags().BoolVar(&f.translate, "translate", false, "write English, whatever is spoken")
	cmd.Flags().BoolVar(&f.partial, "allow-truncated", false, "transcribe what is there of a file that ends too early")
	cmd.Flags().Float64Var(&f.chunk, "chunk", 0, "chunk length in `seconds` (default: the plan's choice)")
	cmd.Flags().StringVar(&f.loudness, "loudness", "", "linear, classic or off (default: the plan's choice)")
	cmd.Flags().StringVar(&f.silence, "silence", "", "remove or keep (default: the plan's choice)")
}

func (f *jobFlags) params(model string) job.Params {
	p := job.Params{
		Model: model, Language: f.language, Prompt: f.prompt, Words: f.words, Diarize: f.diarize, Speakers: f.speakers,
		AllowTruncated: f.partial, ChunkSeconds: f.chunk, Loudness: f.loudness, Silence: f.silence,
	}
	if f.translate {
		p.Task = job.Translate
	}
	return p.WithDefaults()
}

// outputFlags say in which formats and where to.
type outputFlags struct {
	formats string
	dir     string
	json    bool
	live    bool
}

func (f *outputFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.formats, "format", "f", "txt", "`formats`, with commas between: txt, srt, vtt, json, docx")
	cmd.Flags().StringVarP(&f.dir, "output", "o", "", "write to this `folder`, one file per input and format")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object per input on standard output")
}

// registerLive is for commands that see the segments before the end.
func (f *outputFlags) registerLive(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.live, "live", false, "print each segment with its times as soon as it is final")
}

// parse checks the flags against each other.
func (f *outputFlags) parse() ([]transcript.Format, error) {
	formats, err := transcript.ParseFormats(f.formats)
	if err != nil {
		return nil, usageError{err}
	}
	if f.dir == "" && len(formats) > 1 {
		return nil, usagef("several formats need a folder: add -o DIR")
	}
	if f.dir == "" && formats[0] == transcript.DOCX {
		return nil, usagef("a docx file is no text for a terminal: add -o DIR")
	}
	if f.live && f.dir == "" && !f.json && formats[0] != transcript.TXT {
		return nil, usagef("--live prints lines of its own: add -o DIR for %s files", formats[0])
	}
	if f.dir != "" {
		if err := os.MkdirAll(f.dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the output folder: %w", err)
		}
	}
	return formats, nil
}

func (a *app) transcribeCmd() *cobra.Command {
	var jf jobFlags
	var of outputFlags
	cmd := &cobra.Command{
		Use:   "transcribe FILE…",
		Short: "Transcribe local files now, without a queue",
		Long: "Transcribe local files now, without a queue. FILE may be a folder, a pattern, or - for standard input.\n" +
			"Without -o the text goes to standard output. A bad file does not stop the others; the exit code is 1 then.",
		Example: "  steno transcribe interview.mp3\n  steno transcribe talks/ lecture.m4a -f srt,txt -o out\n" +
			"  steno transcribe - -l de < anruf.wav\n  steno transcribe meeting.mp4 --words --json\n" +
			"  steno transcribe lecture.m4a --live -f srt -o out",
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			formats, err := of.parse()
			if err != nil {
				return err
			}
			t := &transcriber{a: a, formats: formats, out: of, params: jf.params(a.cfg.Model)}
			if err := t.params.Validate(); err != nil {
				return err
			}
			return t.run(cmd.Context(), paths)
		},
	}
	cmd.Flags().SortFlags = false
	modelFlag(cmd, a)
	jf.register(cmd)
	of.register(cmd)
	of.registerLive(cmd)
	return cmd
}

// modelFlag gives the setting "model" its short flag.
func modelFlag(cmd *cobra.Command, a *app) {
	cmd.Flags().StringP("model", "m", "", "model `name`, see steno models list (default \"base\")")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		if m, _ := cmd.Flags().GetString("model"); m != "" {
			a.cfg.Model = m
		}
		return run(cmd, argv)
	}
}

// transcriber is one call of the command.
type transcriber struct {
	a       *app
	formats []transcript.Format
	out     outputFlags
	params  job.Params
	bar     *progress
}

// input is one recording of the command line.
type input struct {
	path, name string
}

// inputs expands folders and patterns and spools standard input. What cannot be found stays, to fail with its own error.
func (t *transcriber) inputs(paths []string, spool func() (string, error)) ([]input, error) {
	var all []input
	for _, p := range paths {
		switch st, err := os.Stat(p); {
		case p == "-":
			path, err := spool()
			if err != nil {
				return nil, err
			}
			all = append(all, input{path, "stdin"})
		case err == nil && st.IsDir():
			entries, err := os.ReadDir(p)
			if err != nil {
				return nil, fmt.Errorf("read folder %s: %w", p, err)
			}
			for _, e := range entries {
				if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
					all = append(all, input{filepath.Join(p, e.Name()), e.Name()})
				}
			}
		case err != nil && strings.ContainsAny(p, "*?["):
			found, err := filepath.Glob(p)
			if err != nil {
				return nil, usagef("pattern %q: %w", p, err)
			}
			if len(found) == 0 {
				return nil, usagef("no file matches %q", p)
			}
			for _, f := range sorted(found) {
				all = append(all, input{f, filepath.Base(f)})
			}
		default:
			all = append(all, input{p, filepath.Base(p)})
		}
	}
	if len(all) == 0 {
		return nil, usagef("there are no files to transcribe")
	}
	return all, nil
}

func (t *transcriber) run(ctx context.Context, paths []string) (err error) {
	m, err := t.a.machine("", false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close(context.WithoutCancel(ctx))) }()
	scratch, err := os.MkdirTemp("", "steno-")
	if err != nil {
		return fmt.Errorf("make a folder for standard input: %w", err)
	}
	defer os.RemoveAll(scratch)
	in, err := t.inputs(paths, func() (string, error) { return spool(t.a.std.in, filepath.Join(scratch, "stdin")) })
	if err != nil {
		return err
	}
	t.bar = newProgress(t.a.std.err, len(in))
	defer t.bar.stop()
	return t.all(ctx, m, in)
}

// ended is how the work on one input ended.
type ended struct {
	t   transcript.Transcript
	err error
}

// all runs the inputs, several at a time, and writes their results in the order of the command line.
func (t *transcriber) all(ctx context.Context, m *machine, in []input) error {
	results, feeds := make([]chan ended, len(in)), make([]*feed, len(in))
	for i := range results {
		results[i], feeds[i] = make(chan ended, 1), newFeed()
	}
	var g errgroup.Group
	// Jobs share the decode slots, so this bounds what lies around decoded, not the load on the machine.
	g.SetLimit(t.a.cfg.Jobs)
	var start sync.WaitGroup
	start.Go(func() {
		for i, f := range in {
			g.Go(func() error {
				tr, err := t.one(ctx, m, f, feeds[i])
				results[i] <- ended{tr, err}
				return nil
			})
		}
	})
	failed := 0
	for i, f := range in {
		if err := t.finish(f, feeds[i], results[i], len(in) > 1); err != nil {
			failed++
			t.bar.say(fmt.Sprintf("steno: %s: %s", f.name, message(ctx, err)))
		}
	}
	start.Wait()
	_ = g.Wait()
	if failed > 0 {
		return errReported
	}
	return nil
}

// finish waits for one input and writes what it says. titled is set where standard output gets several.
func (t *transcriber) finish(f input, feed *feed, result <-chan ended, titled bool) error {
	titled = titled && t.out.dir == "" && !t.out.json && t.formats[0] == transcript.TXT
	if !t.out.live {
		o := <-result
		if o.err != nil {
			return o.err
		}
		return t.write(f, o.t, titled)
	}
	if titled {
		t.title(f)
	}
	o, err := t.follow(f, feed, result)
	if err := errors.Join(o.err, err); err != nil {
		return err
	}
	if t.out.dir == "" && !t.out.json {
		return nil // every line is there
	}
	return t.write(f, o.t, false)
}

func (t *transcriber) title(f input) {
	t.bar.clear()
	fmt.Fprintf(t.a.std.out, "== %s\n", f.name)
}

func (t *transcriber) one(ctx context.Context, m *machine, f input, feed *feed) (transcript.Transcript, error) {
	if err := ctx.Err(); err != nil {
		return transcript.Transcript{}, err
	}
	path, err := filepath.Abs(f.path)
	if err != nil {
		return transcript.Transcript{}, fmt.Errorf("find %s: %w", f.path, err)
	}
	id := job.NewID()
	defer t.bar.done(f.name)
	in := pipeline.Input{
		Job: job.Job{ID: id, FileName: f.name, Params: t.params}, Path: path,
		OnProgress: func(p job.Progress) { t.bar.update(f.name, p) },
	}
	if t.out.live {
		in.OnSegments = feed.add
	}
	return m.runner.Run(ctx, in)
}

// write puts one transcript where the flags say, below its name if titled.
func (t *transcriber) write(f input, tr transcript.Transcript, titled bool) error {
	opts := transcript.Options{Title: f.name}
	if t.out.json && t.out.dir == "" {
		return json.NewEncoder(t.a.std.out).Encode(struct {
			File string `json:"file"`
			transcript.Transcript
		}{f.name, tr})
	}
	if t.out.dir == "" {
		var b bytes.Buffer
		if err := transcript.Write(&b, t.formats[0], tr, opts); err != nil {
			return err
		}
		t.bar.clear()
		if titled {
			t.title(f)
		}
		_, err := t.a.std.out.Write(b.Bytes())
		return err
	}
	for _, format := range t.formats {
		base := strings.TrimSuffix(f.name, filepath.Ext(f.name))
		path := filepath.Join(t.out.dir, base+"."+format.Extension())
		if err := writeFile(path, func(w io.Writer) error { return transcript.Write(w, format, tr, opts) }); err != nil {
			return err
		}
		if t.out.json {
			if err := json.NewEncoder(t.a.std.out).Encode(map[string]string{"file": f.name, "output": path}); err != nil {
				return err
			}
		} else {
			t.bar.say(path)
		}
	}
	return nil
}

// writeFile writes a file as a whole or not at all.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".steno-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// spool copies standard input to a file: decoders want to seek.
func spool(r io.Reader, path string) (string, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("spool standard input: %w", err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("spool standard input: %w", err)
	}
	return path, nil
}
