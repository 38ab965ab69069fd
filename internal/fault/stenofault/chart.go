package main

import (
	"bytes"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"steno/internal/fault"
)

// Colours of the gateway's and the worker's lines, and of the median's and the 95th percentile's.
var first, second = color.RGBA{0x4a, 0x7b, 0xa6, 0xff}, color.RGBA{0xc0, 0x6c, 0x2e, 0xff}

// panel is one diagram over the minutes of a soak.
type panel struct {
	title       string
	names       [2]string
	left, right func(fault.Sample) float64
}

var panels = []panel{
	{"resident memory, MiB", [2]string{"gateway", "worker"},
		func(s fault.Sample) float64 { return s.Gateway.RSS }, func(s fault.Sample) float64 { return s.Worker.RSS }},
	{"goroutines", [2]string{"gateway", "worker"},
		func(s fault.Sample) float64 { return s.Gateway.Goroutines }, func(s fault.Sample) float64 { return s.Worker.Goroutines }},
	{"descriptors", [2]string{"gateway", "worker"},
		func(s fault.Sample) float64 { return s.Gateway.Descriptors }, func(s fault.Sample) float64 { return s.Worker.Descriptors }},
	{"seconds from acceptance to transcript", [2]string{"median", "p95"},
		func(s fault.Sample) float64 { return s.Median.Seconds() }, func(s fault.Sample) float64 { return s.P95.Seconds() }},
}

// draw draws a soak as SVG: what the processes held that were never killed, and how long jobs took.
func draw(r fault.SoakReport) ([]byte, error) {
	canvas := vgsvg.New(24*vg.Centimeter, vg.Length(len(panels))*6*vg.Centimeter)
	whole := vgdraw.New(canvas)
	for i, p := range panels {
		chart := plot.New()
		chart.Title.Text, chart.X.Label.Text, chart.Y.Min = p.title, "minutes", 0
		for j, value := range []func(fault.Sample) float64{p.left, p.right} {
			var points plotter.XYs
			for _, s := range r.Samples {
				points = append(points, plotter.XY{X: s.At.Minutes(), Y: value(s)})
			}
			line, err := plotter.NewLine(points)
			if err != nil {
				return nil, err
			}
			line.Color = []color.Color{first, second}[j]
			chart.Add(line)
			chart.Legend.Add(p.names[j], line)
		}
		chart.Legend.Top = true
		height := whole.Max.Y / vg.Length(len(panels))
		top := whole.Max.Y - vg.Length(i)*height
		part := whole
		part.Min.Y, part.Max.Y = top-height, top
		chart.Draw(part)
	}
	var out bytes.Buffer
	_, err := canvas.WriteTo(&out)
	return out.Bytes(), err
}
