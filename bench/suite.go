package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"steno/job"
)

// SuiteOptions says what RunSuite does.
type SuiteOptions struct {
	Kit       Kit
	Scenarios []Scenario
	Models    []string
	Rounds    int    // runs of each contender beside the warm-up; at least 1
	Seed      uint64 // of the order in each round
	Language  string // of all recordings, ISO 639-1
	Short     Media
	Long      []Media
	Many      []Media
	// Quiet is the share of the machine that others may use during a run that counts, in 0..1.
	Quiet float64
	// Done, where set, is called after each run.
	Done func(c Case, contender string, r Run)
}

// SuiteReport is what came of a suite: enough to make every table and chart of it again.
type SuiteReport struct {
	ID       string    `json:"id"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended"`
	Seed     uint64    `json:"seed"`
	Rounds   int       `json:"rounds"`
	Language string    `json:"language"`
	Quiet    float64   `json:"quiet"`
	Machine  Machine   `json:"machine"`
	Cases    []Case    `json:"cases"`
}

// Case is one scenario with one model on one input.
type Case struct {
	Scenario string  `json:"scenario"`
	Asks     string  `json:"asks"`
	Model    string  `json:"model"`
	Input    string  `json:"input"`
	Audio    float64 `json:"audio_s"` // seconds of all files, each once
	Files    []Media `json:"files"`
	Entries  []Entry `json:"entries"`
}

// Entry is a contender with its runs.
type Entry struct {
	Contender
	// Command is the command line of a run, its files left out.
	Command []string `json:"command"`
	Failure string   `json:"failure,omitempty"` // why it was given up; it has the runs until then
	WarmUp  *Run     `json:"warm_up,omitempty"`
	Runs    []Run    `json:"runs"`
	// Quiet sums up the runs that nobody disturbed, Disturbed the others.
	Quiet     Summary `json:"quiet"`
	Disturbed Summary `json:"disturbed"`
}

// Run is one run of a contender.
type Run struct {
	Round int `json:"round"` // from 1; 0 is the warm-up
	Cost
	Disturbed bool `json:"disturbed"`
	// Stages are seconds by stage, summed over the files, where the contender tells.
	Stages map[string]float64 `json:"stages,omitempty"`
	// Words and Chars count errors in words and in characters over the files whose words are known; nil where none are.
	Words *Errors `json:"words"`
	Chars *Errors `json:"chars"`
	// Texts are what was written for each file; nil where it is the same as in the warm-up.
	Texts []string `json:"texts,omitempty"`
}

// RunSuite measures every scenario with every model: one warm-up of each contender, then rounds in which all run once, in random
// order. A contender that is absent or fails stays in the report with the reason. At the end of ctx the report holds what was
// done until then, and the error says so.
func RunSuite(ctx context.Context, opts SuiteOptions) (SuiteReport, error) {
	r := SuiteReport{
		ID: string(job.NewID()), Started: time.Now().UTC(), Seed: opts.Seed, Rounds: opts.Rounds, Language: opts.Language,
		Quiet: opts.Quiet,
	}
	scratch, err := os.MkdirTemp("", "steno-bench-")
	if err != nil {
		return r, fmt.Errorf("make a folder for the suite: %w", err)
	}
	defer os.RemoveAll(scratch)
	s := &suite{SuiteOptions: opts, scratch: scratch, encoded: map[string]string{}}
	for _, c := range s.cases() {
		err = s.run(ctx, &c)
		r.Cases = append(r.Cases, c)
		if err != nil {
			break
		}
	}
	r.SumUp()
	r.Ended = time.Now().UTC()
	if err == nil && len(r.Cases) == 0 {
		err = errors.New("run suite: there is no input for these scenarios")
	}
	machine, errDescribe := describe(context.WithoutCancel(ctx), opts.Kit, r.Cases)
	r.Machine = machine
	return r, errors.Join(err, errDescribe)
}

// suite is one call of RunSuite.
type suite struct {
	SuiteOptions
	scratch string
	encoded map[string]string // files that were converted, by format and path
	runs    int
}

// cases are all scenarios with all models on all inputs that there are.
func (s *suite) cases() []Case {
	var all []Case
	for _, sc := range s.Scenarios {
		for _, model := range s.Models {
			var inputs [][]Media
			switch sc.Input {
			case Short:
				inputs = [][]Media{{s.Short}}
			case Many:
				inputs = [][]Media{s.Many}
			case Long:
				for _, m := range s.Long {
					inputs = append(inputs, []Media{m})
				}
			}
			for _, files := range inputs {
				if len(files) > 0 {
					all = append(all, newCase(sc, s.Kit, model, files))
				}
			}
		}
	}
	return all
}

func newCase(sc Scenario, k Kit, model string, files []Media) Case {
	c := Case{Scenario: sc.Name, Asks: sc.Asks, Model: model, Input: files[0].Name, Files: files}
	if len(files) > 1 {
		c.Input = strconv.Itoa(len(files)) + " files"
	}
	for _, f := range files {
		c.Audio += f.Duration
	}
	for _, contender := range sc.contenders(k, model) {
		c.Entries = append(c.Entries, Entry{Contender: contender})
	}
	return c
}

// run goes over the rounds of one case. Its error is that of ctx, or of the machine.
func (s *suite) run(ctx context.Context, c *Case) error {
	random := rand.New(rand.NewPCG(s.Seed, uint64(len(c.Entries))))
	order := make([]int, len(c.Entries))
	for i := range order {
		order[i] = i
	}
	for round := range s.Rounds + 1 {
		if round > 0 { // the warm-up goes in the order of the table
			random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		for _, i := range order {
			e := &c.Entries[i]
			if e.Absent != "" || e.Failure != "" {
				continue
			}
			r, err := s.once(ctx, c.Files, e)
			if ctx.Err() != nil {
				return fmt.Errorf("run suite: %w", context.Cause(ctx))
			}
			if err != nil {
				e.Failure = err.Error()
				continue
			}
			r.Round = round
			s.keep(e, r)
			if s.Done != nil {
				s.Done(*c, e.Name, r)
			}
		}
	}
	return nil
}

func (s *suite) keep(e *Entry, r Run) {
	if r.Round == 0 {
		e.WarmUp = &r
		return
	}
	if slices.Equal(r.Texts, e.WarmUp.Texts) {
		r.Texts = nil
	}
	e.Runs = append(e.Runs, r)
}

// once runs a contender on the files and counts its errors.
func (s *suite) once(ctx context.Context, files []Media, e *Entry) (Run, error) {
	s.runs++
	t := task{language: s.Language, scratch: filepath.Join(s.scratch, strconv.Itoa(s.runs))}
	for _, m := range files {
		path, err := s.encode(ctx, m.Path, e.Format)
		if err != nil {
			return Run{}, err
		}
		t.files = append(t.files, path)
	}
	files, t.files = slices.Repeat(files, max(1, e.Copies)), slices.Repeat(t.files, max(1, e.Copies))
	if err := os.Mkdir(t.scratch, 0o700); err != nil {
		return Run{}, fmt.Errorf("make a folder for a run: %w", err)
	}
	defer os.RemoveAll(t.scratch)
	command := e.command(t)
	if e.Command == nil {
		e.Command = e.line(t, command)
	}
	cost, stdout, err := Measure(ctx, command)
	if err != nil {
		return Run{}, err
	}
	outputs, err := e.read(stdout, t)
	if err != nil {
		return Run{}, err
	}
	if len(outputs) != len(t.files) {
		return Run{}, fmt.Errorf("%s wrote %d texts for %d files", e.Name, len(outputs), len(t.files))
	}
	r := Run{Cost: cost, Disturbed: cost.Others > s.Quiet}
	if !e.Streams {
		r.First = 0
	}
	r.take(outputs)
	if e.WarmUp != nil && slices.Equal(r.Texts, e.WarmUp.Texts) {
		r.Words, r.Chars = e.WarmUp.Words, e.WarmUp.Chars
	} else {
		r.score(s.Language, files)
	}
	return r, nil
}

// take adds up what the outputs say.
func (r *Run) take(outputs []Output) {
	for _, o := range outputs {
		r.Texts = append(r.Texts, o.Text)
		for stage, seconds := range o.Stages {
			if r.Stages == nil {
				r.Stages = map[string]float64{}
			}
			r.Stages[stage] += seconds
		}
	}
}

// score counts the errors of the texts.
func (r *Run) score(language string, files []Media) {
	for i, text := range r.Texts {
		if files[i].Reference == nil {
			continue
		}
		ref, hyp := Normalize(language, *files[i].Reference), Normalize(language, text)
		words, chars := r.Words.orNone().Add(WER(ref, hyp)), r.Chars.orNone().Add(CER(ref, hyp))
		r.Words, r.Chars = &words, &chars
	}
}

// line is the command line for the report, without the files and what of it is different each time.
func (e *Entry) line(t task, c Command) []string {
	line := []string{filepath.Base(c.Path)}
	for _, arg := range c.Args {
		switch {
		case slices.Contains(t.files, arg):
			continue
		case len(arg) > 200: // a program of ours that is handed over as text
			arg = "…"
		case filepath.IsAbs(arg):
			arg = filepath.Base(arg)
		}
		line = append(line, arg)
	}
	return line
}

// encode is the path of the file in the format; converting is not measured.
func (s *suite) encode(ctx context.Context, path, format string) (string, error) {
	key := format + " " + path
	if format == "" || s.encoded[key] != "" {
		return cmp.Or(s.encoded[key], path), nil
	}
	i := slices.IndexFunc(encodings, func(e encoding) bool { return e.name == format })
	out := filepath.Join(s.scratch, fmt.Sprintf("%d.%s", len(s.encoded), encodings[i].ext))
	args := append([]string{"-nostdin", "-v", "error", "-i", "file:" + path, "-vn"}, encodings[i].args...)
	if err := runTool(ctx, "ffmpeg", append(args, "file:"+out)...); err != nil {
		return "", fmt.Errorf("convert %s to %s: %w", filepath.Base(path), format, err)
	}
	s.encoded[key] = out
	return out, nil
}
