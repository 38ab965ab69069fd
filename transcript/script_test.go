package transcript

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{"Hello.", "World"}, "Hello. World"},
		{[]string{"Hello.", "", "World"}, "Hello. World"},
		{[]string{"你好。", "世界"}, "你好。世界"},
		{[]string{"你好", "OK", "好"}, "你好 OK 好"},
		{[]string{"สวัสดี", "ครับ"}, "สวัสดีครับ"},
		{[]string{"안녕하세요.", "네."}, "안녕하세요. 네."},
		{[]string{"これは", "ペン", "です。"}, "これはペンです。"},
	} {
		var segs []Segment
		for _, s := range c.in {
			segs = append(segs, Segment{Text: s})
		}
		if got := Text(segs); got != c.want {
			t.Errorf("%q joined to %q, want %q", c.in, got, c.want)
		}
	}
}

func TestWidth(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "Hello": 5, "naïve": 5, "nai\u0308ve": 5, "日本語。": 8, "한국": 4, "ｶﾅ": 2, "（Ａ）": 6, "ที่": 1, "🎵": 2,
		"שָׁלוֹם": 4, "ー": 2,
	} {
		if got := width(text); got != want {
			t.Errorf("%q is %d wide, want %d", text, got, want)
		}
	}
}

func TestPieces(t *testing.T) {
	long := strings.Repeat("x", 100)
	for word, want := range map[string][]string{
		"":             nil,
		"Hello,":       {"Hello,"},
		"行きます。":        {"行", "き", "ま", "す。"},
		"「はい」と":        {"「は", "い」", "と"},
		"ちょっと":         {"ちょっ", "と"},
		"コーヒー":         {"コー", "ヒー"},
		"iPhoneを":      {"iPhone", "を"},
		"ที่เก่า":      {"ที่", "เก่", "า"},
		"e\u0301e":     {"e\u0301e"},
		long:           {long[:42], long[:42], long[:16]},
		"x" + "\u0301": {"x\u0301"},
	} {
		if got := pieces(word); !reflect.DeepEqual(got, want) {
			t.Errorf("%q breaks to %q, want %q", word, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		" a\r\n\tb ": "a b", "a\x00\x1b\x7f\u0085b": "a b", "\ufeffa\ufffe\uffff": "a", "a\u2028b": "a b",
		"Bonjour\u00a0!": "Bonjour\u00a0!",
		"a\xffb":         "ab", "\x00": "", "👩\u200d🚀": "👩\u200d🚀",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q is cleaned to %q, want %q", in, got, want)
		}
	}
}

func TestEndsSentence(t *testing.T) {
	for text, want := range map[string]bool{
		"Yes.": true, "Yes!”": true, `He said "no."`: true, "はい。」": true, "(Really?)": true,
		"क्या है।": true, "هل؟": true,
		"Yes": false, "Yes,": false, "": false, ".a": false, "”": false,
	} {
		if got := endsSentence(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// Whatever the text, its pieces are the text, each a line at most, and none begins with a mark that belongs to the one before.
func TestPiecesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := strings.ReplaceAll(clean(rapid.String().Draw(t, "word")), " ", "")
		got := pieces(word)
		if strings.Join(got, "") != word {
			t.Fatalf("%q became %q", word, got)
		}
		for i, p := range got {
			r, _ := utf8.DecodeRuneInString(p)
			if width(p) > lineWidth || p == "" || (i > 0 && runeWidth(r) == 0) {
				t.Fatalf("piece %q of %q", p, word)
			}
		}
	})
}
