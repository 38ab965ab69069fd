package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed page.html
var pageText string

// WriteHTML writes one page with the tables of WriteMarkdown and charts, drawn here as SVG: it needs no script and no network.
func (r SuiteReport) WriteHTML(w io.Writer) error {
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("write report page: %w", err)
	}
	data := struct {
		ID       string
		Facts    [][2]string
		Sections []pageSection
		Notes    string
	}{r.ID, r.facts(), nil, notes}
	for _, s := range r.sections() {
		p := pageSection{section: s}
		for _, c := range s.Cases {
			for _, plot := range c.plots() {
				svg, err := plot.svg()
				if err != nil {
					return fmt.Errorf("draw %s: %w", plot.Title, err)
				}
				p.Charts = append(p.Charts, pageChart{plot.Title, svg})
			}
		}
		data.Sections = append(data.Sections, p)
	}
	if err := page.Execute(w, data); err != nil {
		return fmt.Errorf("write report page: %w", err)
	}
	return nil
}

type pageSection struct {
	section
	Charts []pageChart
}

type pageChart struct {
	Title string
	SVG   template.HTML // of our own making
}

// plot is a chart of bars, one per contender from the top, each with its interval.
type plot struct {
	Title string
	Unit  string
	Bars  []bar
}

type bar struct {
	Name  string
	Value Estimate
}

// plots are the charts of a case: of the runs that others did not disturb, and where there are none, of the others, which the
// title says.
func (c Case) plots() []plot {
	title := fmt.Sprintf("%s, %s (%s)", c.Model, c.Input, seconds(c.Audio))
	pick := func(e Entry) Summary { return e.Quiet }
	if !c.anyQuiet() {
		title += ", DISTURBED by others"
		pick = func(e Entry) Summary { return e.Disturbed }
	}
	wall := plot{Title: title + ": wall time", Unit: "s"}
	cpu := plot{Title: title + ": CPU time", Unit: "s"}
	memory := plot{Title: title + ": peak memory", Unit: "MiB"}
	for _, e := range c.Entries {
		if s := pick(e); s.Wall.N > 0 {
			wall.Bars = append(wall.Bars, bar{e.Name, s.Wall})
			cpu.Bars = append(cpu.Bars, bar{e.Name, s.CPU})
			memory.Bars = append(memory.Bars, bar{e.Name, s.RSS.scale(1.0 / (1 << 20))})
		}
	}
	if len(wall.Bars) == 0 {
		return nil
	}
	return []plot{wall, cpu, memory}
}

func (c Case) anyQuiet() bool {
	for _, e := range c.Entries {
		if e.Quiet.Wall.N > 0 {
			return true
		}
	}
	return false
}
