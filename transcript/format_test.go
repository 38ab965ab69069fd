package transcript

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() Transcript {
	t := Transcript{
		Language: "en", LanguageProb: 0.98, Duration: 3728.4, Model: "base-q8_0", Device: "cpu", Task: "transcribe", Chunks: 2,
		Segments: []Segment{
			{ID: 0, Start: 0.5, End: 4, Text: "Good morning, and welcome to the second part."},
			{ID: 1, Start: 4.2, End: 15, Speaker: "A & B", Text: "Today we will look at how a rather long sentence, " +
				"with several clauses in it, is broken over more than one subtitle, so that nobody has to read three lines at once."},
			{ID: 2, Start: 20, End: 20.2, Text: "Yes <b> --> no."},
			{ID: 3, Start: 20.3, End: 20.5, Text: "Why?"},
			{ID: 4, Start: 3717, End: 3725, Text: "今日は天気がいいですね。散歩に行きましょう、公園まで歩いて十分です。"},
			{ID: 5, Start: 3728, End: 3728.4, Text: "שלום עולם", Words: []Word{
				{3728, 3728.2, "שלום", 1}, {3728.2, 3728.4, "עולם", 1},
			}},
		},
	}
	t.Text = Text(t.Segments)
	return t
}

func render(t *testing.T, f Format, tr Transcript, title string) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, f, tr, Options{Title: title}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for _, f := range []Format{TXT, SRT, VTT, JSON, DOCX} {
		got := render(t, f, sample(), "talk & more.mp3")
		path := filepath.Join("testdata", "sample."+f.Extension())
		if f == DOCX { // the zip's bytes depend on the compressor's version
			path += ".xml"
			got = strings.ReplaceAll(documentParts(t, got)["word/document.xml"], "</w:p>", "</w:p>\n")
		}
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs from %s (go test -update writes it):\n%s", f, path, got)
		}
	}
}

func TestJSONReadsBack(t *testing.T) {
	var got Transcript
	want := sample()
	want.Plan = []Choice{{Name: "chunk", Value: "30 s", Reason: "a < b & c"}}
	text := render(t, JSON, want, "")
	if err := json.Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: got %+v", err, got)
	}
	if !strings.Contains(text, "a < b & c") {
		t.Error("plain characters are escaped")
	}
	empty := render(t, JSON, Transcript{}, "")
	if !strings.Contains(empty, `"segments": []`) || !strings.Contains(empty, `"plan": []`) {
		t.Errorf("empty lists are null: %s", empty)
	}
}

// Silence gives a file that readers take, in each format.
func TestNothingSaid(t *testing.T) {
	for f, want := range map[Format]string{TXT: "", SRT: "", VTT: "WEBVTT\n"} {
		for _, segs := range [][]Segment{nil, {{Text: " \x00 "}}} {
			if got := render(t, f, Transcript{Segments: segs}, "x"); got != want {
				t.Errorf("%s of nothing is %q", f, got)
			}
		}
	}
	if parts := documentParts(t, render(t, DOCX, Transcript{}, "")); strings.Contains(parts["word/document.xml"], "Title") {
		t.Error("a document without a title has one")
	}
}

func TestParagraphs(t *testing.T) {
	sentence := strings.Repeat("word ", 60) + "end."
	endless := strings.TrimSuffix(sentence, ".")
	for name, c := range map[string]struct {
		segs []Segment
		want []int // segments in each paragraph
	}{
		"none":           {nil, nil},
		"together":       {[]Segment{{End: 1, Text: "a"}, {Start: 2.9, End: 3, Text: "b"}}, []int{2}},
		"pause":          {[]Segment{{End: 1, Text: "a"}, {Start: 3, End: 4, Text: "b"}}, []int{1, 1}},
		"speakers":       {[]Segment{{Text: "a", Speaker: "A"}, {Text: "b", Speaker: "A"}, {Text: "c", Speaker: "B"}}, []int{2, 1}},
		"long":           {[]Segment{{Text: sentence}, {Text: sentence}, {Text: sentence}, {Text: sentence}}, []int{2, 2}},
		"long, no stops": {slices.Repeat([]Segment{{Text: endless}}, 5), []int{4, 1}},
	} {
		var got []int
		for _, p := range paragraphs(c.segs) {
			got = append(got, len(p))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: paragraphs of %v segments, want %v", name, got, c.want)
		}
	}
}

// documentParts unzips a document and holds each part to be well-formed XML.
func documentParts(t *testing.T, file string) map[string]string {
	t.Helper()
	z, err := zip.NewReader(strings.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		parts[f.Name] = string(data)
		for dec := xml.NewDecoder(bytes.NewReader(data)); ; {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
		}
	}
	return parts
}

// Every part that another names is there, and of a declared type: otherwise a word processor offers to repair the file.
func TestDOCXIsWhole(t *testing.T) {
	parts := documentParts(t, render(t, DOCX, sample(), "x"))
	var types struct {
		Override []struct {
			PartName string `xml:",attr"`
		}
	}
	for name, base := range map[string]string{"_rels/.rels": "", "word/_rels/document.xml.rels": "word/"} {
		var rels struct {
			Relationship []struct {
				Target string `xml:",attr"`
			}
		}
		if err := xml.Unmarshal([]byte(parts[name]), &rels); err != nil || len(rels.Relationship) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		for _, r := range rels.Relationship {
			if parts[base+r.Target] == "" && parts[r.Target] == "" {
				t.Errorf("%s names %s, which is not there", name, r.Target)
			}
		}
	}
	if err := xml.Unmarshal([]byte(parts["[Content_Types].xml"]), &types); err != nil {
		t.Fatal(err)
	}
	for _, o := range types.Override {
		if parts[strings.TrimPrefix(o.PartName, "/")] == "" {
			t.Errorf("%s has a type and is not there", o.PartName)
		}
	}
}

func TestDOCXHoldsAllText(t *testing.T) {
	s := sample()
	s.Segments[0].Text += " a\x00\x0b\uffff\nb"
	file := render(t, DOCX, s, "a < b.mp3")
	if file != render(t, DOCX, s, "a < b.mp3") {
		t.Error("the same transcript gave two different files")
	}
	var doc struct {
		Paragraphs []struct {
			Bidi *struct{} `xml:"pPr>bidi"`
			Runs []struct {
				RTL  *struct{} `xml:"rPr>rtl"`
				Text string    `xml:"t"`
			} `xml:"r"`
		} `xml:"body>p"`
		Cells []string `xml:"body>tbl>tr>tc>p>r>t"`
	}
	if err := xml.Unmarshal([]byte(documentParts(t, file)["word/document.xml"]), &doc); err != nil {
		t.Fatal(err)
	}
	cells := []string{"File", "a < b.mp3", "Duration", "1:02:08", "Language", "en (98 %)", "Model", "base-q8_0"}
	if !reflect.DeepEqual(doc.Cells, cells) {
		t.Errorf("the table holds %q", doc.Cells)
	}
	var got []string
	for _, p := range doc.Paragraphs {
		text := ""
		for _, r := range p.Runs {
			text += r.Text
			if (r.RTL != nil) != rightToLeft(r.Text) {
				t.Errorf("run %q has its direction wrong", r.Text)
			}
		}
		if (p.Bidi != nil) != strings.Contains(text, "שלום") {
			t.Errorf("paragraph %q has its direction wrong", text)
		}
		got = append(got, text)
	}
	want := []string{
		"a < b.mp3", "", "0:00:00  Good morning, and welcome to the second part. a b",
		"0:00:04  A & B: " + s.Segments[1].Text, "0:00:20  Yes <b> --> no. Why?",
		"1:01:57  " + s.Segments[4].Text, "1:02:08  שלום עולם",
	}
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("paragraph %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestParseFormats(t *testing.T) {
	got, err := ParseFormats("srt, TXT,srt,text")
	if err != nil || !reflect.DeepEqual(got, []Format{SRT, TXT}) {
		t.Errorf("formats %v, %v", got, err)
	}
	for _, bad := range []string{"", "srt,", "mp3", "srt;vtt"} {
		if _, err := ParseFormats(bad); err == nil || !strings.Contains(err.Error(), "docx") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if all, err := ParseFormats("all"); err != nil || !reflect.DeepEqual(all, Formats()) {
		t.Errorf("all is %v, %v", all, err)
	}
}

func TestContentTypes(t *testing.T) {
	for f, want := range map[Format]string{
		TXT: "text/plain; charset=utf-8", SRT: "application/x-subrip; charset=utf-8", VTT: "text/vtt; charset=utf-8",
		JSON: "application/json",
		DOCX: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	} {
		if got := f.ContentType(); got != want {
			t.Errorf("%s is %q", f, got)
		}
	}
}

// failing takes a few bytes and then fails, as a full disk does.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	for _, f := range Formats() {
		err := Write(&failing{10}, f, sample(), Options{})
		if !errors.Is(err, errFull) || !strings.HasPrefix(err.Error(), "write "+string(f)) {
			t.Errorf("%s to a full disk: %v", f, err)
		}
	}
	if err := Write(io.Discard, "mp3", sample(), Options{}); err == nil {
		t.Error("an unknown format was written")
	}
	if err := Write(io.Discard, JSON, Transcript{Duration: math.NaN()}, Options{}); err == nil {
		t.Error("JSON took what is no number")
	}
}
