package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ReadSuiteReport reads what WriteJSON wrote.
func ReadSuiteReport(r io.Reader) (SuiteReport, error) {
	var report SuiteReport
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		return SuiteReport{}, fmt.Errorf("read suite report: %w", err)
	}
	return report, nil
}

// WriteJSON writes the whole report, with every run.
func (r SuiteReport) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("write suite report: %w", err)
	}
	return nil
}

// WriteMarkdown writes the machine and a table for each scenario.
func (r SuiteReport) WriteMarkdown(w io.Writer) error {
	p := printer{w: w}
	p.line("# Benchmark %s\n", r.ID)
	for _, fact := range r.facts() {
		p.line("- %s: %s", fact[0], fact[1])
	}
	for _, s := range r.sections() {
		p.line("\n## %s\n\n%s\n", s.Name, s.Asks)
		for i, t := range s.Tables {
			if i > 0 {
				p.line("")
			}
			if t.Title != "" {
				p.line("%s\n", t.Title)
			}
			p.head(t.Columns...)
			for _, row := range t.Rows {
				p.line("| %s |", strings.Join(row, " | "))
			}
		}
		if len(s.Absent) > 0 {
			p.line("")
		}
		for _, a := range s.Absent {
			p.line("- %s", a)
		}
	}
	p.line("\n%s", notes)
	return p.err
}

// notes say how to read the tables.
const notes = "Medians over the runs that others did not disturb, with the interval that holds the true median with 95 % " +
	"confidence, or min and max of fewer than six runs. Ratios are of the two runs of a round. Peak memory is that of the whole " +
	"process tree; its own is what is no part of a file, such as a program or mapped weights. The first result is the first " +
	"line on standard output, of those that write one before the end. Errors are those of texts after Whisper's normaliser."

// facts describe the run and the machine, in order.
func (r SuiteReport) facts() [][2]string {
	m := r.Machine
	facts := [][2]string{
		{"started", fmt.Sprintf("%s, took %s", r.Started.Format("2006-01-02 15:04:05 MST"), seconds(r.Ended.Sub(r.Started).Seconds()))},
		{"rounds", fmt.Sprintf("%d after a warm-up, seed %d, language %s; a run is disturbed where others used more than %s of "+
			"the machine", r.Rounds, r.Seed, r.Language, share(r.Quiet))},
		{"machine", fmt.Sprintf("%s, %d cores, %.1f GiB, %s, Linux %s", m.CPU, m.Cores, float64(m.Memory)/(1<<30), m.OS, m.Kernel)},
		{"CPU flags", strings.Join(m.Flags, " ")},
	}
	for _, name := range slices.Sorted(maps.Keys(m.Programs)) {
		facts = append(facts, [2]string{name, m.Programs[name]})
	}
	for _, w := range m.Weights {
		facts = append(facts, [2]string{"weights", fmt.Sprintf("%s, %d bytes, SHA-256 %s", w.Name, w.Bytes, w.SHA256)})
	}
	return facts
}

// section is what a report says of one scenario.
type section struct {
	Name, Asks string
	Tables     []table
	Absent     []string // what is missing, with the reason
	Cases      []Case
}

type table struct {
	Title   string
	Columns []string
	Rows    [][]string
}

// sections are the scenarios in the order in which they ran.
func (r SuiteReport) sections() []section {
	var all []section
	for _, c := range r.Cases {
		if len(all) == 0 || all[len(all)-1].Name != c.Scenario {
			all = append(all, section{Name: c.Scenario, Asks: c.Asks})
		}
		s := &all[len(all)-1]
		s.Cases = append(s.Cases, c)
	}
	for i := range all {
		all[i].fill()
	}
	return all
}

func (s *section) fill() {
	main := table{Columns: []string{
		"model", "input", "contender", "runs", "wall, s", "times real time", "÷ first", "CPU, s", "CPU ÷ first", "peak memory, MiB",
		"of it own", "first result, s", "WER", "CER",
	}}
	warm := table{Title: "Once the model is loaded:", Columns: []string{"model", "input", "contender", "s per file"}}
	stages := table{Title: "Seconds by stage; stages overlap:", Columns: []string{"model", "input", "contender", "stages"}}
	energy := table{Title: "Energy of the CPU packages:", Columns: []string{"model", "input", "contender", "J"}}
	disturbed := table{Title: "Runs that others disturbed, which count nowhere above:", Columns: []string{
		"model", "input", "contender", "round", "wall, s", "CPU, s", "used by others", "load",
	}}
	for _, c := range s.Cases {
		for i := range c.Entries {
			e := &c.Entries[i]
			row := []string{c.Model, fmt.Sprintf("%s (%s)", c.Input, seconds(c.Audio)), e.Name}
			if why := e.missing(); why != "" {
				s.Absent = append(s.Absent, strings.Join(row, ", ")+": "+why)
			}
			if e.WarmUp == nil {
				continue
			}
			main.Rows = append(main.Rows, append(row, e.cells(c.Audio, i == 0)...))
			if e.Quiet.Warm.N > 0 {
				warm.Rows = append(warm.Rows, append(slices.Clone(row), e.Quiet.Warm.String()))
			}
			if len(e.Quiet.Stages) > 0 {
				stages.Rows = append(stages.Rows, append(slices.Clone(row), stageCell(e.Quiet.Stages)))
			}
			if e.Quiet.Energy.N > 0 {
				energy.Rows = append(energy.Rows, append(slices.Clone(row), e.Quiet.Energy.String()))
			}
			for _, r := range e.Runs {
				if r.Disturbed {
					disturbed.Rows = append(disturbed.Rows, append(slices.Clone(row), strconv.Itoa(r.Round), number(r.Wall), number(r.CPU),
						share(r.Others), number(r.Load)))
				}
			}
		}
	}
	for _, t := range []table{main, warm, stages, energy, disturbed} {
		if len(t.Rows) > 0 {
			s.Tables = append(s.Tables, t)
		}
	}
}

// missing is why e has no full row; empty where it has.
func (e *Entry) missing() string {
	switch {
	case e.Absent != "":
		return "absent: " + e.Absent
	case e.Failure != "":
		lines := strings.Split(strings.TrimSpace(e.Failure), "\n") // of a traceback only the last says what is wrong
		return "failed: " + lines[len(lines)-1]
	case e.changed() > 0:
		return fmt.Sprintf("%d of %d runs wrote another text than the warm-up, whose errors are counted", e.changed(), len(e.Runs))
	}
	return ""
}

func (e *Entry) cells(audio float64, first bool) []string {
	q := e.Quiet
	runs := strconv.Itoa(q.Wall.N)
	if q.Wall.N < len(e.Runs) {
		runs = fmt.Sprintf("%d of %d", q.Wall.N, len(e.Runs))
	}
	ratio, cpuRatio := q.Ratio.String(), q.CPURatio.String()
	if first {
		ratio, cpuRatio = "1", "1"
	}
	speed := q.Wall.inverse(audio * float64(max(1, e.Copies)))
	words, chars := e.score()
	return []string{
		runs, q.Wall.String(), speed.String(), ratio, q.CPU.String(), cpuRatio, mebibytes(q.RSS), mebibytes(q.Own), q.First.String(),
		percentage(words), percentage(chars),
	}
}

func mebibytes(e Estimate) string {
	if e.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f", e.Median/(1<<20))
}

// stageCell lists stages, the longest first.
func stageCell(stages map[string]Estimate) string {
	names := slices.SortedFunc(maps.Keys(stages), func(a, b string) int {
		switch {
		case stages[a].Median > stages[b].Median:
			return -1
		case stages[a].Median < stages[b].Median:
			return 1
		}
		return strings.Compare(a, b)
	})
	var cells []string
	for _, name := range names {
		cells = append(cells, name+" "+number(stages[name].Median))
	}
	return strings.Join(cells, ", ")
}

func share(of float64) string { return fmt.Sprintf("%.0f %%", 100*of) }

// seconds writes a length of time as people say it.
func seconds(s float64) string {
	if s >= 120 {
		return fmt.Sprintf("%d min %d s", int(s+0.5)/60, int(s+0.5)%60)
	}
	return fmt.Sprintf("%.1f s", s)
}
