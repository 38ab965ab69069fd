package bench

import (
	"bytes"
	"html/template"
	"image/color"

	gonum "gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// svg draws the bars as a picture that stands in a page by itself.
func (p plot) svg() (template.HTML, error) {
	const row = 9 * vg.Millimeter
	values, spans, names := make(plotter.Values, len(p.Bars)), intervals{}, make([]string, len(p.Bars))
	most := 0.0
	for i, b := range p.Bars {
		at := len(p.Bars) - 1 - i // gonum counts from the bottom
		values[at], names[at] = b.Value.Median, b.Name
		spans = append(spans, interval{b.Value, float64(at)})
		most = max(most, b.Value.High)
	}
	bars, err := plotter.NewBarChart(values, row/2)
	if err != nil {
		return "", err
	}
	bars.Horizontal, bars.Color, bars.LineStyle.Width = true, color.RGBA{0x4a, 0x7b, 0xa6, 0xff}, 0
	errors, err := plotter.NewXErrorBars(spans)
	if err != nil {
		return "", err
	}
	labels, err := plotter.NewLabels(spans.labels())
	if err != nil {
		return "", err
	}
	labels.Offset = vg.Point{X: vg.Millimeter, Y: -vg.Millimeter}
	chart := gonum.New()
	chart.Add(bars, errors, labels)
	chart.NominalY(names...)
	chart.X.Min, chart.X.Max, chart.X.Label.Text = 0, 1.15*most, p.Unit
	chart.Y.Min, chart.Y.Max = -0.5, float64(len(p.Bars))-0.5
	for _, style := range []*draw.TextStyle{&chart.X.Label.TextStyle, &chart.X.Tick.Label, &chart.Y.Tick.Label} {
		style.Font.Variant = "Sans" // as wide as Arial, which stands in for it
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font.Variant = "Sans"
	}
	canvas := vgsvg.New(16*vg.Centimeter, 18*vg.Millimeter+vg.Length(len(p.Bars))*row)
	chart.Draw(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", err
	}
	_, svg, _ := bytes.Cut(out.Bytes(), []byte("?>")) // within a page there is no XML declaration
	svg = bytes.ReplaceAll(svg, []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,sans-serif"))
	return template.HTML(svg), nil
}

// intervals are medians with their intervals as gonum wants them: places, and how far each reaches to both sides.
type intervals []interval

type interval struct {
	Estimate
	at float64
}

func (s intervals) Len() int                { return len(s) }
func (s intervals) XY(i int) (x, y float64) { return s[i].Median, s[i].at }
func (s intervals) XError(i int) (l, h float64) {
	return s[i].Median - s[i].Low, s[i].High - s[i].Median
}

// labels write each median at the end of its interval.
func (s intervals) labels() plotter.XYLabels {
	var l plotter.XYLabels
	for _, v := range s {
		l.XYs, l.Labels = append(l.XYs, plotter.XY{X: v.High, Y: v.at}), append(l.Labels, number(v.Median))
	}
	return l
}
