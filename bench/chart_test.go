package bench_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestCharts draws one picture per case for time, CPU and memory, each well-formed, with every contender and its median.
func TestCharts(t *testing.T) {
	t.Parallel()
	r := sample([]float64{1, 1.01, 0.99, 1, 1.02, 0.98}, []float64{0.5, 0.5, 0.51, 0.49, 0.5, 0.5})
	r.SumUp()
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	charts := strings.SplitAfter(page.String(), "</svg>")
	charts = charts[:len(charts)-1]
	if len(charts) != 3 {
		t.Fatalf("%d charts, want 3", len(charts))
	}
	for i, want := range []string{"0.50", "1.00", "300"} {
		_, chart, _ := strings.Cut(charts[i], "<svg")
		texts := textsOf(t, "<svg"+chart)
		for _, text := range []string{"old", "new", want} {
			if !strings.Contains(texts, "|"+text+"|") {
				t.Errorf("chart %d does not show %q: %s", i, text, texts)
			}
		}
	}
}

// textsOf reads a picture to its end and returns its texts with | around each.
func textsOf(t *testing.T, svg string) string {
	t.Helper()
	texts := "|"
	for dec := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			texts += strings.TrimSpace(string(text)) + "|"
		}
	}
}
