package bench

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Verdict says what a change is.
type Verdict string

// The verdicts of a comparison.
const (
	Same       Verdict = "same"       // it lies within the threshold, or nobody can tell
	Better     Verdict = "better"     // surely less than before
	Regression Verdict = "REGRESSION" // surely more than before, by more than the threshold
	TooFew     Verdict = "too few"    // too few undisturbed runs for an interval of 95 %
)

// Change is how a metric of one contender differs between two versions.
type Change struct {
	Scenario  string  `json:"scenario"`
	Model     string  `json:"model"`
	Input     string  `json:"input"`
	Contender string  `json:"contender"`
	Metric    string  `json:"metric"`
	Old       float64 `json:"old"` // median
	New       float64 `json:"new"`
	// Ratio is new over old, with its interval.
	Ratio   Estimate `json:"ratio"`
	Verdict Verdict  `json:"verdict"`
}

// Comparison is what two versions differ in.
type Comparison struct {
	// Paired is set where both ran in the same rounds. Reports of two runs compare worse: what the machine did differently in the
	// meantime looks like a change, and nobody can tell.
	Paired    bool     `json:"paired"`
	Threshold float64  `json:"threshold"` // a share
	Changes   []Change `json:"changes"`
	Notes     []string `json:"notes,omitempty"`
}

// Regressed reports whether any metric became surely worse.
func (c Comparison) Regressed() bool {
	return slices.ContainsFunc(c.Changes, func(c Change) bool { return c.Verdict == Regression })
}

// metrics are what versions are compared by. More is worse in each.
var metrics = []struct {
	name string
	of   func(Run) float64
}{
	{"wall, s", func(r Run) float64 { return r.Wall }},
	{"CPU, s", func(r Run) float64 { return r.CPU }},
	{"own memory, MiB", func(r Run) float64 { return float64(r.Own) / (1 << 20) }},
}

// The names of the two versions in a paired run.
const (
	OldName = "old"
	NewName = "new"
)

// versions are contenders that differ in nothing but the binary.
func versions(before, after string) func(Kit, string) []Contender {
	return func(k Kit, model string) []Contender {
		k.Steno = before
		a := k.steno(OldName, model, "q8_0")
		k.Steno = after
		return []Contender{a, k.steno(NewName, model, "q8_0")}
	}
}

// Versions are the scenarios that compare two binaries, at absolute paths, in paired rounds.
func Versions(before, after string) []Scenario {
	asks := "Is the new binary slower than the old one, or does it take more?"
	return []Scenario{
		{"short", asks, Short, true, versions(before, after)},
		{"long", asks, Long, true, versions(before, after)},
	}
}

// ComparePaired compares the two versions of a suite of Versions. The interval is that of the median of the ratios of pairs, by
// EstimateOf: what slows both runs of a round cancels out, and it is the interval of the sign test on the logarithms of the
// ratios, which asks for no distribution. A metric has regressed where the whole interval lies above 1 + threshold: an effect
// size with its interval, as Kalibera and Jones ask for (Rigorous Benchmarking in Reasonable Time, ISMM 2013), and not merely a
// difference that is no accident.
func ComparePaired(r SuiteReport, threshold float64) (Comparison, error) {
	c := Comparison{Paired: true, Threshold: threshold}
	for _, cs := range r.Cases {
		if len(cs.Entries) != 2 || cs.Entries[0].Name != OldName || cs.Entries[1].Name != NewName {
			return c, errors.New("compare versions: the report is not of two versions")
		}
		before, after := &cs.Entries[0], &cs.Entries[1]
		if why := before.missing() + after.missing(); before.WarmUp == nil || after.WarmUp == nil {
			return c, fmt.Errorf("compare versions: %s, %s, %s: %s", cs.Scenario, cs.Model, cs.Input, why)
		}
		for _, m := range metrics {
			var a, b, ratios []float64
			for _, r := range after.Runs {
				if o := before.round(r.Round); o != nil && !r.Disturbed && !o.Disturbed {
					a, b, ratios = append(a, m.of(*o)), append(b, m.of(r)), append(ratios, m.of(r)/m.of(*o))
				}
			}
			c.add(cs, NewName, m.name, EstimateOf(a), EstimateOf(b), EstimateOf(ratios))
		}
		c.addErrors(cs, NewName, before, after)
	}
	return c, nil
}

// CompareReports compares what two reports have in common, contender by contender, by the interval of the Mann-Whitney test, as
// benchstat does by its p.
func CompareReports(before, after SuiteReport, threshold float64) (Comparison, error) {
	c := Comparison{Threshold: threshold}
	if a, b := before.Machine, after.Machine; a.CPU != b.CPU || a.Cores != b.Cores || a.Kernel != b.Kernel {
		c.Notes = append(c.Notes, fmt.Sprintf("the machines differ: %s, %d cores, %s; %s, %d cores, %s",
			a.CPU, a.Cores, a.Kernel, b.CPU, b.Cores, b.Kernel))
	}
	for _, cs := range after.Cases {
		i := slices.IndexFunc(before.Cases, func(o Case) bool {
			return o.Scenario == cs.Scenario && o.Model == cs.Model && slices.EqualFunc(o.Files, cs.Files, sameRecording)
		})
		if i < 0 {
			c.Notes = append(c.Notes, fmt.Sprintf("only the new report has %s, %s, %s", cs.Scenario, cs.Model, cs.Input))
			continue
		}
		for j := range cs.Entries {
			e := &cs.Entries[j]
			k := slices.IndexFunc(before.Cases[i].Entries, func(o Entry) bool { return o.Name == e.Name })
			if k < 0 || e.WarmUp == nil || before.Cases[i].Entries[k].WarmUp == nil {
				continue
			}
			o := &before.Cases[i].Entries[k]
			for _, m := range metrics {
				a, b := o.quiet(m.of), e.quiet(m.of)
				c.add(cs, e.Name, m.name, EstimateOf(a), EstimateOf(b), shift(a, b))
			}
			c.addErrors(cs, e.Name, o, e)
		}
	}
	if len(c.Changes) == 0 {
		return c, errors.New("compare reports: they have no contender in common on the same input")
	}
	return c, nil
}

func sameRecording(a, b Media) bool { return a.SHA256 == b.SHA256 }

// quiet are the values of a metric in the runs that others did not disturb.
func (e *Entry) quiet(of func(Run) float64) []float64 {
	var all []float64
	for _, r := range e.Runs {
		if !r.Disturbed {
			all = append(all, of(r))
		}
	}
	return all
}

func (c *Comparison) add(cs Case, contender, metric string, a, b, ratio Estimate) {
	ch := Change{
		Scenario: cs.Scenario, Model: cs.Model, Input: cs.Input, Contender: contender, Metric: metric,
		Old: a.Median, New: b.Median, Ratio: ratio, Verdict: Same,
	}
	switch {
	case ratio.Confidence < wanted:
		ch.Verdict = TooFew
	case ratio.Low > 1+c.Threshold:
		ch.Verdict = Regression
	case ratio.High < 1:
		ch.Verdict = Better
	}
	c.Changes = append(c.Changes, ch)
}

// worseWords is by how much the word error rate may rise: of equal builds with other roundings it moves by less
// (docs/ACCEPTANCE.md).
const worseWords = 0.005

// addErrors compares word error rates, where the words are known. Repeating a run repeats its text, so there is no interval.
func (c *Comparison) addErrors(cs Case, contender string, before, after *Entry) {
	a, _ := before.score()
	b, _ := after.score()
	if a == nil || b == nil {
		return
	}
	ch := Change{
		Scenario: cs.Scenario, Model: cs.Model, Input: cs.Input, Contender: contender, Metric: "WER, %",
		Old: 100 * a.Rate(), New: 100 * b.Rate(), Verdict: Same,
	}
	// One word of a short file is more than half a point.
	switch more := b.Total() - a.Total(); {
	case more > 1 && b.Rate()-a.Rate() > worseWords:
		ch.Verdict = Regression
	case more < 0:
		ch.Verdict = Better
	}
	c.Changes = append(c.Changes, ch)
}

// WriteMarkdown writes a table of all changes.
func (c Comparison) WriteMarkdown(w io.Writer) error {
	p := printer{w: w}
	p.head("scenario", "model", "input", "contender", "metric", "old", "new", "new ÷ old", "pairs", "verdict")
	for _, ch := range c.Changes {
		p.line("| %s | %s | %s | %s | %s | %s | %s | %s | %d | %s |", ch.Scenario, ch.Model, ch.Input, ch.Contender, ch.Metric,
			number(ch.Old), number(ch.New), ch.Ratio, ch.Ratio.N, ch.Verdict)
	}
	p.line("\nA regression is where the whole interval of the ratio (at least 95 %%) lies above %.2f, or the words' error rate "+
		"rises by more than half a point and one word.", 1+c.Threshold)
	if !c.Paired {
		p.line("\nThe reports are of different runs: the machine may have changed in between. For a verdict that allows for it, " +
			"run both binaries in one: `steno bench compare --old BIN --new BIN`.")
	}
	for _, n := range c.Notes {
		p.line("- %s", n)
	}
	return p.err
}
