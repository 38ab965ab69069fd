package transcript

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// hostile are texts with which a recording, or the name of a speaker or of a file, may try to be more than text.
var hostile = []string{
	// another cue, another header, another block
	"-->", "00:00:00,000 --> 00:00:01,000", "a\n\n2\n00:00:01,000 --> 00:00:02,000\nforged", "a\r\n\r\n2\r\n00:00:01.000 --> 00:00:02.000\r\nforged",
	"\n\nNOTE forged\n\n", "\n\nSTYLE\n::cue{color:red}\n\n", "\n\nREGION\nid:a\n\n", "WEBVTT", "WEBVTT\n\n", "--\n>", "-\x00->", "--\u200b>",
	"a\x0b\x0b1\x0b-->", "a\u2028\u20281\u2028-->", "a\u0085\u0085-->", "\r\r1\r-->", "--&gt;", "-- >",
	// markup of players and browsers
	"<script>alert(1)</script>", "<v Bob>forged</v>", "</v><v Eve>", "<c.red>", "<00:00:01.000>", "<ruby>a<rt>b</rt></ruby>", "&lt;b&gt;", "&#0;",
	"{\\an8}", "{\\pos(0,0)}", "<font color=red>", "<img src=x onerror=alert(1)>", "]]>", "<!--", "<?xml version=\"1.0\"?>", "</w:t></w:r>",
	// NUL and other control characters, of terminals too
	"a\x00b", "\x00", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x07\x08\x7f", "\ufeff", "\ufffe\uffff", "a\xff\xfeb", "\xc0\xaf", "\u009b31m",
	// bidi controls
	"\u202egnp.exe", "\u2066a\u2069", "\u202a\u202b\u202c\u202d", "\u061c\u200e\u200f",
	// formulas, logs, headers, JSON
	"=cmd|'/C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "a\",\"b\":\"c", "level=ERROR msg=forged", "a\r\nSet-Cookie: x=1", "\\u0000", "${jndi:ldap://x}",
	"%0d%0a%00", "'; DROP TABLE tasks; --", strings.Repeat("-->", 50),
}

// No text makes a cue, a part, a field or a line of its own, in any format, wherever it stands.
func TestHostileText(t *testing.T) {
	t.Parallel()
	for _, text := range hostile {
		for where, tr := range map[string]Transcript{
			"text": {Text: text, Segments: []Segment{{Start: 0, End: 2, Text: text}, {Start: 3, End: 5, Text: "plain words"}}},
			"words": {Segments: []Segment{{Start: 0, End: 2, Text: "a " + text, Words: []Word{
				{Start: 0, End: 1, Text: "a"}, {Start: 1, End: 2, Text: " " + text},
			}}}},
			"speaker":  {Segments: []Segment{{Start: 0, End: 2, Text: "plain words", Speaker: text}}},
			"language": {Language: text, Model: text, Segments: []Segment{{Start: 0, End: 2, Text: "plain words"}}},
		} {
			what := fmt.Sprintf("%.40q as %s", text, where)
			if err := checkSubtitles(tr); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			cues := len(cuesOf(tr.Segments, false))
			srt, vtt, txt := render(t, SRT, tr, text), render(t, VTT, tr, text), render(t, TXT, tr, text)
			if n := strings.Count(srt, "-->"); n != len(cuesOf(tr.Segments, true)) {
				t.Errorf("%s: %d arrows in SRT", what, n)
			}
			if n := strings.Count(vtt, "-->"); n != cues || strings.Count(vtt, "\n\n") != cues {
				t.Errorf("%s: %d arrows and %d blocks in VTT for %d cues", what, n, strings.Count(vtt, "\n\n"), cues)
			}
			for format, out := range map[Format]string{SRT: srt, VTT: vtt, TXT: txt} {
				if i := strings.IndexFunc(out, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }); i >= 0 {
					t.Errorf("%s: %s has a control character: %q", what, format, out[max(0, i-10):])
				}
				if strings.ContainsAny(out, overrides) {
					t.Errorf("%s: %s has characters that turn the text around: %q", what, format, out)
				}
			}
			documentParts(t, render(t, DOCX, tr, text)) // reads every part as XML
			var back Transcript
			if err := json.Unmarshal([]byte(render(t, JSON, tr, text)), &back); err != nil {
				t.Errorf("%s: JSON: %v", what, err)
			} else if len(back.Segments) != len(tr.Segments) || back.Language != strings.ToValidUTF8(tr.Language, "\ufffd") && where != "language" {
				t.Errorf("%s: JSON reads %+v", what, back)
			}
		}
	}
	if len(hostile) < 50 {
		t.Errorf("only %d texts", len(hostile))
	}
	t.Logf("%d texts in 4 places and 5 formats", len(hostile))
}

// overrides turn all text after them around, until something ends that; a cue or a name that is cut leaves them open.
const overrides = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
