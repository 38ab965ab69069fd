package transcript

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

// dice draws from a fuzzer's bytes; when they are used up it throws zeros.
type dice struct{ data []byte }

func (d *dice) byte() int {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return int(b)
}

// time is mostly some seconds, to the hundredth, and now and then no sensible number.
func (d *dice) time() float64 {
	switch b := d.byte(); b {
	case 255:
		return math.NaN()
	case 254:
		return math.Inf(1)
	case 253:
		return math.Inf(-1)
	case 252:
		return -1e300
	default:
		return float64(b)/4 - 2 + float64(d.byte())/1000
	}
}

// text is the nth text, which no other has, or a blank one.
func (d *dice) text(kind string, n *int) string {
	blank := []string{"", " ", "\t\n"}
	if b := d.byte(); b%8 < len(blank) {
		return blank[b%8]
	}
	*n++
	return fmt.Sprintf(" %s%d\n", kind, *n)
}

func (d *dice) parts() []Part {
	var parts []Part
	at, texts, words := 0.0, 0, 0
	for i := range d.byte() % 7 {
		p := Part{Index: i, Start: at + float64(d.byte())/50}
		p.End = p.Start + float64(d.byte())/8
		at = p.End
		for range d.byte() % 6 {
			s := Segment{Start: d.time(), End: d.time(), Text: d.text("s", &texts)}
			for range d.byte() % 4 {
				s.Words = append(s.Words, Word{Start: d.time(), End: d.time(), Text: d.text("w", &words)})
			}
			p.Segments = append(p.Segments, s)
		}
		parts = append(parts, p)
	}
	return parts
}

func (d *dice) pauses() []Pause {
	var pauses []Pause
	at := 0.0
	for range d.byte() % 16 {
		p := Pause{Start: at + float64(d.byte()+1)/40}
		p.End = p.Start + float64(d.byte()+1)/20
		at = p.End
		pauses = append(pauses, p)
	}
	return pauses
}

// said are the texts of segments and words that are not blank, in order.
func said(segs []Segment) []string {
	var out []string
	add := func(text string) bool {
		if text = strings.TrimSpace(text); text != "" {
			out = append(out, text)
		}
		return text != ""
	}
	for _, s := range segs {
		if !add(s.Text) {
			continue // a segment that says nothing is left out with its words
		}
		for _, w := range s.Words {
			add(w.Text)
		}
	}
	return out
}

// checkOrder wants segments in order, each within its words and its part.
func checkOrder(got []Segment, lo, hi float64) error {
	last := round(lo)
	for _, s := range got {
		if !(s.Start >= last && s.End >= s.Start && s.End <= round(hi)) {
			return fmt.Errorf("%q at %v–%v after %v, chunk %v–%v", s.Text, s.Start, s.End, last, lo, hi)
		}
		last = s.End
		spoken := s.Start
		for _, w := range s.Words {
			if !(w.Start >= spoken && w.End >= w.Start && w.End <= s.End) {
				return fmt.Errorf("word %q at %v–%v after %v, segment %v–%v", w.Text, w.Start, w.End, spoken, s.Start, s.End)
			}
			spoken = w.End
		}
	}
	return nil
}

// FuzzMerge: chunks that arrive in any order give what one call gives for all of them, which is what each of them gives alone, one
// after the other. Nothing is lost, doubled or out of order, whatever times a model makes up.
func FuzzMerge(f *testing.F) {
	f.Add([]byte{}, []byte{})
	// One chunk, with two segments that overlap, the first with two words that do.
	f.Add([]byte{1, 0, 240, 2, 8, 0, 60, 0, 7, 2, 8, 0, 20, 0, 7, 16, 0, 50, 0, 7, 30, 0, 80, 0, 7, 0}, []byte{})
	// Two chunks that come the wrong way round, each with a segment in a pause.
	f.Add([]byte{2, 0, 80, 1, 12, 0, 13, 0, 7, 0, 0, 80, 1, 8, 0, 60, 0, 7, 1, 12, 0, 16, 0, 7}, []byte{2, 39, 79, 119, 59, 1})
	f.Add([]byte{3, 0, 80, 1, 255, 254, 7, 1, 253, 252, 7, 0, 80, 0, 0, 0, 1, 9, 9, 3, 3, 5}, []byte{1, 0, 255, 2, 1})
	f.Add([]byte("\x04\x00\x00\x05abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), []byte("\x0fpauses, more of them than chunks"))
	f.Fuzz(func(t *testing.T, spoken, silence []byte) {
		parts := (&dice{spoken}).parts()
		d := dice{silence}
		pauses := d.pauses()
		before := fmt.Sprint(parts)
		whole, err := Merge(parts, pauses)
		if err != nil {
			t.Fatal(err)
		}
		var alone []Segment
		var want []string
		for _, p := range parts {
			want = append(want, said(p.Segments)...)
			p.Index = 0
			one, err := Merge([]Part{p}, pauses)
			if err == nil {
				err = checkOrder(one, p.Start, p.End)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range one {
				s.ID = len(alone)
				alone = append(alone, s)
			}
		}
		if !reflect.DeepEqual(whole, alone) {
			t.Fatalf("the whole is\n%+v, its chunks are\n%+v", whole, alone)
		}
		if got := said(whole); !reflect.DeepEqual(got, want) {
			t.Fatalf("it says %q, want %q", got, want)
		}
		m := NewMerger(pauses)
		var came []Segment
		arrived := append([]Part{}, parts...)
		for i := range arrived {
			j := i + d.byte()%(len(arrived)-i)
			arrived[i], arrived[j] = arrived[j], arrived[i]
			if _, err := m.Segments(len(parts)); err == nil {
				t.Fatalf("%d chunks of %d passed for all", i, len(parts))
			}
			got, err := m.Add(arrived[i])
			if err != nil {
				t.Fatal(err)
			}
			came = append(came, got...)
			if _, err := m.Add(arrived[d.byte()%(i+1)]); err == nil {
				t.Fatal("a chunk was taken twice")
			}
		}
		all, err := m.Segments(len(parts))
		if err != nil || !reflect.DeepEqual(all, whole) || !reflect.DeepEqual(came, whole) {
			t.Fatalf("%v: it came as\n%+v, ended as\n%+v, want\n%+v", err, came, all, whole)
		}
		if after := fmt.Sprint(parts); after != before {
			t.Fatalf("the chunks were changed from %s to %s", before, after)
		}
	})
}

// asJSON is text as JSON can hold it.
func asJSON(text string) string { return string([]rune(text)) }

// checkJSON reads a transcript back.
func checkJSON(t *testing.T, tr Transcript) {
	t.Helper()
	var got Transcript
	if err := json.Unmarshal([]byte(render(t, JSON, tr, "")), &got); err != nil {
		t.Fatal(err)
	}
	want := tr
	want.Text, want.Language, want.Model, want.Plan = asJSON(tr.Text), asJSON(tr.Language), asJSON(tr.Model), []Choice{}
	want.Segments = nil
	for _, s := range tr.Segments {
		s.Text, s.Speaker = asJSON(s.Text), asJSON(s.Speaker)
		var words []Word
		for _, w := range s.Words {
			w.Text = asJSON(w.Text)
			words = append(words, w)
		}
		s.Words = words
		want.Segments = append(want.Segments, s)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("JSON reads %+v, want %+v", got, want)
	}
}

// documentText is what the paragraphs of a document say, without times and table. The transcript has no speakers.
func documentText(t *testing.T, file string) string {
	t.Helper()
	var doc struct {
		Runs []struct {
			Style *struct{} `xml:"rPr>rStyle"`
			Text  string    `xml:"t"`
		} `xml:"body>p>r"`
	}
	if err := xml.Unmarshal([]byte(documentParts(t, file)["word/document.xml"]), &doc); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range doc.Runs {
		if r.Style == nil {
			b.WriteString(r.Text)
		}
	}
	return b.String()
}
