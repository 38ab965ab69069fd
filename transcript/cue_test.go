package transcript

import (
	"fmt"
	"html"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// block is a cue as a reader sees it.
type block struct {
	start, end float64
	speaker    string
	lines      []string
}

var (
	srtTimes = regexp.MustCompile(`^(\d{2,}):(\d\d):(\d\d),(\d{3}) --> (\d{2,}):(\d\d):(\d\d),(\d{3})$`)
	vttTimes = regexp.MustCompile(`^(\d{2,}):(\d\d):(\d\d)\.(\d{3}) --> (\d{2,}):(\d\d):(\d\d)\.(\d{3})$`)
	voice    = regexp.MustCompile(`^<v ([^<>\n]+)>`)
)

// readSubtitles is a strict reader of what both writers write.
func readSubtitles(f Format, text string) ([]block, error) {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
		return nil, fmt.Errorf("there are control characters, or no UTF-8, in %q", text)
	}
	if f == VTT {
		var ok bool
		if text, ok = strings.CutPrefix(text, "WEBVTT\n"); !ok {
			return nil, fmt.Errorf("no header in %q", text)
		}
	}
	var out []block
	for part := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		if part == "" {
			continue
		}
		lines := strings.Split(part, "\n")
		times := vttTimes
		if f == SRT {
			if times = srtTimes; lines[0] != fmt.Sprint(len(out)+1) {
				return nil, fmt.Errorf("cue %d is numbered %q", len(out)+1, lines[0])
			}
			lines = lines[1:]
		}
		b, err := readBlock(f, times, lines)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func readBlock(f Format, times *regexp.Regexp, lines []string) (block, error) {
	if len(lines) < 2 || !times.MatchString(lines[0]) {
		return block{}, fmt.Errorf("not a cue: %q", lines)
	}
	var n [8]float64
	for i, digits := range times.FindStringSubmatch(lines[0])[1:] {
		value, err := strconv.Atoi(digits)
		if err != nil {
			return block{}, err
		}
		n[i] = float64(value)
	}
	b := block{start: n[0]*3600 + n[1]*60 + n[2] + n[3]/1000, end: n[4]*3600 + n[5]*60 + n[6] + n[7]/1000, lines: lines[1:]}
	if strings.Contains(strings.Join(b.lines, "\n"), "-->") {
		return b, fmt.Errorf("an arrow in the text of %q", lines)
	}
	if f == SRT {
		return b, nil
	}
	if m := voice.FindStringSubmatch(b.lines[0]); m != nil {
		b.speaker, b.lines[0] = html.UnescapeString(m[1]), b.lines[0][len(m[0]):]
	}
	for i, l := range b.lines {
		if strings.ContainsAny(l, "<>") {
			return b, fmt.Errorf("a tag in %q", l)
		}
		b.lines[i] = html.UnescapeString(l)
	}
	return b, nil
}

// checkLimits holds cues to what a viewer can read.
func checkLimits(blocks []block) error {
	last := 0.0
	for i, b := range blocks {
		if b.start < last || b.end <= b.start {
			return fmt.Errorf("cue %d at %v–%v after %v", i, b.start, b.end, last)
		}
		last = b.end
		if b.end-b.start > maxCue+0.0015 {
			return fmt.Errorf("cue %d stays %v s", i, b.end-b.start)
		}
		if len(b.lines) > maxLines {
			return fmt.Errorf("cue %d has %d lines", i, len(b.lines))
		}
		for _, l := range b.lines {
			if w := width(l); w > lineWidth || l != clean(l) || l == "" {
				return fmt.Errorf("cue %d has a line of %d columns: %q", i, w, l)
			}
		}
		room := math.Inf(1)
		if i+1 < len(blocks) {
			room = blocks[i+1].start - b.end
		}
		speed := float64(width(strings.Join(b.lines, ""))) / (b.end - b.start)
		if room > cueGap+0.0015 && b.end-b.start < maxCue-0.0015 && (b.end-b.start < minCue-0.0015 || speed > readSpeed+0.5) {
			return fmt.Errorf("cue %d ends at %v, %.1f columns a second, though there is room for %v s", i, b.end, speed, room)
		}
	}
	return nil
}

func squeeze(s string) string { return strings.ReplaceAll(clean(s), " ", "") }

// checkSubtitles writes tr in both formats and reads it back.
func checkSubtitles(tr Transcript) error {
	for _, f := range []Format{SRT, VTT} {
		var b strings.Builder
		if err := Write(&b, f, tr, Options{}); err != nil {
			return err
		}
		blocks, err := readSubtitles(f, b.String())
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		if err := checkLimits(blocks); err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		if f == SRT {
			continue // no rule of the format tells a label or an arrow from text
		}
		var got, want strings.Builder
		for _, b := range blocks {
			got.WriteString(squeeze(strings.Join(b.lines, "") + b.speaker))
		}
		for _, c := range cuesOf(tr.Segments, false) {
			want.WriteString(squeeze(strings.Join(c.lines, "") + c.speaker))
		}
		if got.String() != want.String() {
			return fmt.Errorf("%s reads %q, want %q", f, got.String(), want.String())
		}
		if err := checkText(tr, cuesOf(tr.Segments, false)); err != nil {
			return err
		}
	}
	return nil
}

// checkText wants every character of the segments in the cues, once and in order.
func checkText(tr Transcript, cues []cue) error {
	var got, want strings.Builder
	for _, c := range cues {
		got.WriteString(squeeze(strings.Join(c.lines, " ")))
	}
	for _, s := range tr.Segments {
		want.WriteString(squeeze(s.Text))
	}
	if got.String() != want.String() {
		return fmt.Errorf("cues say %q, want %q", got.String(), want.String())
	}
	return nil
}

func drawTranscript(t *rapid.T) Transcript {
	word := rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z']{1,12}[.,!?;:"-]{0,2}`),
		rapid.StringMatching(`[ぁ-ん一-丁、。]{1,40}`),
		rapid.StringMatching(`[ก-๎]{1,30}`),
		rapid.SampledFrom([]string{
			"-->", "<b>", "&amp;", "</v>", "\x00", "\n\n1\n", "שלום", "👩\u200d🚀", strings.Repeat("long", 40), "\u00a0", "\u0301",
		}),
	)
	var tr Transcript
	at := 0.0
	for range rapid.IntRange(0, 12).Draw(t, "segments") {
		at += rapid.SampledFrom([]float64{0, 0, 0.05, 0.4, 3, 4000}).Draw(t, "gap")
		s := Segment{Start: at, Speaker: rapid.SampledFrom([]string{"", "", "Ann", "Bob & <Co>\n"}).Draw(t, "speaker")}
		for range rapid.IntRange(0, 30).Draw(t, "words") {
			w := Word{Start: at, Text: word.Draw(t, "word")}
			at += rapid.SampledFrom([]float64{0, 0.01, 0.3, 0.6, 20}).Draw(t, "length")
			w.End = at
			s.Words = append(s.Words, w)
			s.Text += " " + w.Text
		}
		s.End = at
		if rapid.Bool().Draw(t, "untimed") {
			s.Words = nil
		}
		tr.Segments = append(tr.Segments, s)
	}
	return tr
}

func TestSubtitlesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := checkSubtitles(drawTranscript(t)); err != nil {
			t.Fatal(err)
		}
	})
}

// Cues that have a second or more each, as speech has, come neither early nor late.
func TestCuesKeepTheirTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tr Transcript
		at := 0.0
		for range rapid.IntRange(1, 20).Draw(t, "segments") {
			at += rapid.Float64Range(0, 5).Draw(t, "gap")
			words := rapid.IntRange(6, 30).Draw(t, "words")
			s := Segment{Start: at, Text: strings.TrimSpace(strings.Repeat("words ", words)) + "."}
			at += float64(words) * 0.4
			s.End = at
			tr.Segments = append(tr.Segments, s)
		}
		starts := map[float64]bool{}
		for _, c := range cuesOf(tr.Segments, false) {
			starts[round(c.start)] = true
		}
		for _, s := range tr.Segments {
			if !starts[round(s.Start)] {
				t.Fatalf("no cue starts at %v, where a sentence does: %v", s.Start, starts)
			}
		}
	})
}

func TestCues(t *testing.T) {
	type want struct {
		start, end float64
		text       string
	}
	said := func(start, end float64, text string) Segment { return Segment{Start: start, End: end, Text: text} }
	by := func(speaker string, s Segment) Segment { s.Speaker = speaker; return s }
	timed := func(s Segment, words []Word) Segment { s.Words = words; return s }
	words := func(ws ...any) (out []Word) {
		for i := 0; i < len(ws); i += 3 {
			out = append(out, Word{Start: ws[i].(float64), End: ws[i+1].(float64), Text: ws[i+2].(string)})
		}
		return out
	}
	for name, c := range map[string]struct {
		segs []Segment
		want []want
	}{
		"as it is": {[]Segment{said(1, 4, "One short sentence.")}, []want{{1, 4, "One short sentence."}}},
		"stays to be read": {
			[]Segment{said(1, 1.2, "This sentence is said very, very fast.")},
			[]want{{1, 3.2353, "This sentence is said very, very fast."}},
		},
		"a second at least": {[]Segment{said(1, 1.2, "No.")}, []want{{1, 2, "No."}}},
		"seven at most":     {[]Segment{said(1, 31, "Thank you.")}, []want{{1, 8, "Thank you."}}},
		"short ones join":   {[]Segment{said(1, 1.3, "No."), said(1.4, 1.8, "Yes.")}, []want{{1, 2, "No. Yes."}}},
		"not over a pause":  {[]Segment{said(1, 2, "No,"), said(4, 5, "yes.")}, []want{{1, 2, "No,"}, {4, 5, "yes."}}},
		"words tell a pause": {
			[]Segment{timed(said(1, 9, "No, yes."), words(1.0, 2.0, "No,", 8.0, 9.0, "yes."))},
			[]want{{1, 2, "No,"}, {8, 9, "yes."}},
		},
		"other words": {[]Segment{timed(said(1, 3, "No, yes."), words(8.0, 9.0, "other"))}, []want{{1, 3, "No, yes."}}},
		"early for want of room": {
			[]Segment{by("A", said(5, 5.1, "Go!")), by("B", said(5.1, 8, "Where to?"))},
			[]want{{4.7, 5.06, "Go!"}, {5.1, 8, "Where to?"}},
		},
		"late for want of room": {
			[]Segment{by("A", said(0, 0, "Go!")), by("B", said(0, 3, "Where to?"))},
			[]want{{0, 0.2, "Go!"}, {0.2, 3, "Where to?"}},
		},
		"at sentences": {
			[]Segment{said(0, 8, "The first sentence has forty-one letters. The second one is of a similar length, no more.")},
			[]want{{0, 3.85, "The first sentence has forty-one letters."}, {3.89, 8, "The second one is of a\nsimilar length, no more."}},
		},
		"Japanese": {
			[]Segment{said(0, 6, "今日は天気がいいですから、散歩に行きましょうと言いました。")},
			[]want{{0, 6, "今日は天気がいいですから、\n散歩に行きましょうと言いました。"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := cuesOf(c.segs, false)
			if len(got) != len(c.want) {
				t.Fatalf("%+v", got)
			}
			for i, w := range c.want {
				g := got[i]
				if math.Abs(g.start-w.start) > 0.006 || math.Abs(g.end-w.end) > 0.006 || strings.Join(g.lines, "\n") != w.text {
					t.Errorf("cue %d is %.2f–%.2f %q, want %v", i, g.start, g.end, g.lines, w)
				}
			}
		})
	}
}

func TestLabels(t *testing.T) {
	segs := []Segment{
		{Start: 0, End: 2, Text: "Who is it?", Speaker: "Ann"}, {Start: 4, End: 6, Text: "Me.", Speaker: "Ann"},
		{Start: 6, End: 8, Text: "Oh.", Speaker: "Bob\n"}, {Start: 8, End: 9, Text: "Noise."},
		{Start: 9, End: 10, Text: "Hm.", Speaker: "Bob"},
	}
	var got []string
	for _, c := range cuesOf(segs, true) {
		got = append(got, strings.Join(c.lines, "/"))
	}
	if want := "[Ann] Who is it?|Me.|[Bob] Oh.|Noise.|[Bob] Hm."; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %s", got, want)
	}
}

func TestStamp(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "00:00:00,000", 1.0005: "00:00:01,001", 59.9996: "00:01:00,000", 3725.4: "01:02:05,400",
		359999.999: "99:59:59,999", 400000: "111:06:40,000",
	} {
		if got := stamp(seconds, ","); got != want {
			t.Errorf("%v s is %s, want %s", seconds, got, want)
		}
	}
}

func FuzzWriters(f *testing.F) {
	f.Add("Hello, world --> this is <i>it</i> & more.", "Bob", 1.0, 2.0)
	f.Add("今日は天気がいいですね。\x00\xff", "", 0.0, 0.0)
	f.Add(strings.Repeat("verylongword", 30), "]\n[", 359999.0, 400000.0)
	f.Add("1\n00:00:01,000 --> 00:00:02,000\ntext\n\n", "<v>", 0.5, 0.1)
	f.Add("\u0e17\u0e35\u0e48\u200d\ufe0f\U0001f468", "\u2028", 3.0, 90.0)
	f.Fuzz(func(t *testing.T, text, speaker string, start, length float64) {
		if !(start >= 0 && start < 1e6 && length >= 0 && length < 1e5) || len(text) > 1<<12 {
			return // times as Merge gives them
		}
		middle := start + length
		var words []Word
		for i, word := range strings.Fields(text) {
			words = append(words, Word{Start: middle + float64(i)/4, End: middle + float64(i+1)/4, Text: word})
		}
		end := middle + float64(len(words))/4
		tr := Transcript{Text: text, Language: speaker, Model: text, Segments: []Segment{
			{Start: start, End: middle, Text: text}, {Start: middle, End: end, Text: text, Speaker: speaker, Words: words},
		}}
		if err := checkSubtitles(tr); err != nil {
			t.Fatal(err)
		}
		documentParts(t, render(t, DOCX, tr, text))
		plain := render(t, TXT, tr, "")
		if strings.ContainsFunc(plain, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
			t.Errorf("control characters in %q", plain)
		}
		checkJSON(t, tr)
		tr.Segments[1].Speaker = "" // then all that they say is the text
		want := squeeze(text) + squeeze(text)
		if got := squeeze(render(t, TXT, tr, "")); got != want {
			t.Errorf("the text says %q, want %q", got, want)
		}
		if got := squeeze(documentText(t, render(t, DOCX, tr, ""))); got != want {
			t.Errorf("the document says %q, want %q", got, want)
		}
	})
}

// An hour of talk without a stop, word by word.
func BenchmarkSubtitles(b *testing.B) {
	for name, text := range map[string]string{
		"English": strings.Repeat("some words are said, ", 15), "Japanese": strings.Repeat("今日は天気がいいですね", 15),
	} {
		var segs []Segment
		for i := range 120 {
			segs = append(segs, Segment{Start: float64(i) * 30, End: float64(i+1) * 30, Text: text})
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cuesOf(segs, false)
			}
		})
	}
}

// While one speaker speaks into the other's sentence both cues stand, each as long as its speech.
func TestCuesOverlap(t *testing.T) {
	var b strings.Builder
	if err := Write(&b, SRT, Transcript{Segments: []Segment{
		{Start: 0, End: 5, Text: "I have always said that this would never work.", Speaker: "Ann"},
		{ID: 1, Start: 2, End: 3.5, Text: "No, you have not.", Speaker: "Ben"},
		{ID: 2, Start: 5.2, End: 7, Text: "Yes, I have, and more than once.", Speaker: "Ann"},
		{ID: 3, Start: 7.1, End: 8, Text: "Well.", Speaker: "Ben"},
	}}, Options{}); err != nil {
		t.Fatal(err)
	}
	blocks, err := readSubtitles(SRT, b.String())
	if err != nil {
		t.Fatal(err)
	}
	var got [][2]float64
	for _, c := range blocks {
		got = append(got, [2]float64{c.start, c.end})
	}
	if want := [][2]float64{{0, 5}, {2, 3.5}, {5.2, 7.06}, {7.1, 8.1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("cues at %v, want %v\n%s", got, want, b.String())
	}
}
