package transcript

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() Transcript {
	t := Transcript{
		Language: "en", LanguageProb: 0.98, Duration: 3725.4, Model: "base-q8_0", Device: "cpu", Task: "transcribe", Chunks: 2,
		Segments: []Segment{
			{ID: 0, Start: 0.5, End: 4, Text: "Good morning, and welcome to the second part."},
			{ID: 1, Start: 4.2, End: 15, Text: "Today we will look at how a rather long sentence, with several clauses in it, is broken " +
				"over more than one subtitle, so that nobody has to read three lines at once.", Speaker: "A & B"},
			{ID: 2, Start: 20, End: 20.2, Text: "Yes <b> --> no."},
			{ID: 3, Start: 3700, End: 3725, Text: "今日は天気がいいですね。散歩に行きましょう、公園まで歩いて十分です。"},
			{ID: 4, Start: 3725, End: 3725.4, Text: "שלום עולם", Words: []Word{{3725, 3725.2, "שלום", 1}, {3725.2, 3725.4, "עולם", 1}}},
		},
	}
	t.Text = Text(t.Segments)
	return t
}

func TestGolden(t *testing.T) {
	for _, f := range []Format{TXT, SRT, VTT, JSON} {
		var b bytes.Buffer
		if err := Write(&b, f, sample(), Options{Title: "talk.mp3"}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "sample."+f.Extension())
		if *update {
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s differs from %s:\n%s", f, path, b.Bytes())
		}
	}
}

var srtCue = regexp.MustCompile(`(?s)^\d+\n(\S+) --> (\S+)\n(.*)$`)

// checkSubtitles reads SRT back and holds it to the limits.
func checkSubtitles(t *testing.T, srt string) {
	t.Helper()
	last := ""
	for block := range strings.SplitSeq(strings.TrimSpace(srt), "\n\n") {
		if block == "" {
			continue
		}
		m := srtCue.FindStringSubmatch(block)
		if m == nil {
			t.Fatalf("not a cue: %q", block)
		}
		if m[1] < last || m[2] <= m[1] {
			t.Errorf("cue %s–%s after %s: want order and no overlap", m[1], m[2], last)
		}
		last = m[2]
		lines := strings.Split(m[3], "\n")
		if len(lines) > maxLines {
			t.Errorf("%d lines: %q", len(lines), m[3])
		}
		for _, l := range lines {
			l = regexp.MustCompile(`^\[.*?\] `).ReplaceAllString(l, "")
			if width(l) > lineWidth {
				t.Errorf("line of %d: %q", width(l), l)
			}
		}
	}
}

func TestSubtitlesKeepTheirLimits(t *testing.T) {
	var b bytes.Buffer
	if err := writeSRT(&b, sample()); err != nil {
		t.Fatal(err)
	}
	checkSubtitles(t, b.String())
	all := strings.Join(strings.Fields(regexp.MustCompile(`(?m)^(\d+|\S+ --> \S+)$`).ReplaceAllString(b.String(), "")), "")
	for _, word := range []string{"clauses", "nobody", "公園まで歩いて十分です。", "עולם"} {
		if !strings.Contains(all, word) {
			t.Errorf("%q is missing from the subtitles", word)
		}
	}
}

func TestDOCXIsWellFormed(t *testing.T) {
	s := sample()
	s.Segments[0].Text += "\x00\x0b\uffff"
	var b, again bytes.Buffer
	if err := errors.Join(Write(&b, DOCX, s, Options{Title: "a < b.mp3"}), Write(&again, DOCX, s, Options{Title: "a < b.mp3"})); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("the same transcript gave two different files")
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		for dec := xml.NewDecoder(r); ; {
			tok, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
			if c, ok := tok.(xml.CharData); ok && f.Name == "word/document.xml" {
				text += string(c)
			}
		}
	}
	for _, want := range []string{"a < b.mp3", "1:02:05", "Good morning", "A & B: ", "今日は", "שלום"} {
		if !strings.Contains(text, want) {
			t.Errorf("the document lacks %q", want)
		}
	}
}

func TestParseFormats(t *testing.T) {
	got, err := ParseFormats("srt, TXT,srt,text")
	if err != nil || len(got) != 2 || got[0] != SRT || got[1] != TXT {
		t.Errorf("formats %v, %v", got, err)
	}
	for _, bad := range []string{"", "srt,", "mp3"} {
		if _, err := ParseFormats(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if all, err := ParseFormats("all"); err != nil || len(all) != len(Formats()) {
		t.Errorf("all is %v, %v", all, err)
	}
}

func FuzzWriters(f *testing.F) {
	f.Add("Hello, world --> this is <i>it</i> & more.", "Bob", 1.0, 2.0)
	f.Add("今日は天気がいいですね。\x00\xff", "", 0.0, 0.0)
	f.Add(strings.Repeat("verylongword", 30), "]\n[", 359999.0, 400000.0)
	f.Fuzz(func(t *testing.T, text, speaker string, start, length float64) {
		if !(start >= 0 && start < 1e6 && length >= 0 && length < 1e5) {
			return
		}
		tr := Transcript{Segments: []Segment{{Start: start, End: start + length, Text: text}, {Start: start + length, End: start + length + 1, Text: text, Speaker: speaker}}}
		for _, format := range Formats() {
			var b bytes.Buffer
			if err := Write(&b, format, tr, Options{Title: text}); err != nil {
				t.Fatal(err)
			}
			switch format {
			case JSON:
				if !json.Valid(b.Bytes()) {
					t.Error("JSON is not valid")
				}
			case SRT, VTT:
				if !utf8.Valid(b.Bytes()) || bytes.ContainsRune(b.Bytes(), 0) {
					t.Errorf("%s holds what is no text", format)
				}
				if n := strings.Count(b.String(), " --> "); n != len(cues(tr.Segments)) {
					t.Errorf("%s has %d arrows for %d cues", format, n, len(cues(tr.Segments)))
				}
			}
		}
	})
}
