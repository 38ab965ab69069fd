package transcript

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// spoken is a segment whose words take half a second each, from a start on.
func spoken(start float64, text string) Segment {
	s := Segment{Start: start, Text: text}
	for i, w := range strings.Fields(text) {
		at := start + float64(i)/2
		s.Words = append(s.Words, Word{Start: at, End: at + 0.5, Text: w})
	}
	s.End = s.Words[len(s.Words)-1].End
	return s
}

func TestSpeak(t *testing.T) {
	whole := spoken(0, "How are you? I am fine.")
	untimed := Segment{Start: 0, End: 3, Text: "How are you? I am fine."}
	edited := spoken(0, "How are you? I am fine.")
	edited.Text = "How do you do? I am fine."
	joined := Segment{Start: 0, End: 2, Text: "你好。我很好。", Words: []Word{
		{Start: 0, End: 0.5, Text: "你好。"}, {Start: 0.5, End: 1, Text: "我"}, {Start: 1, End: 2, Text: "很好。"},
	}}
	for name, c := range map[string]struct {
		segs  []Segment
		turns []Turn
		want  []string
	}{
		"no turns":                 {[]Segment{whole}, nil, []string{": How are you? I am fine. 0.0-3.0"}},
		"one speaker":              {[]Segment{whole}, []Turn{{0, 3, 0}}, []string{"Speaker 1: How are you? I am fine. 0.0-3.0"}},
		"a change at the sentence": {[]Segment{whole}, []Turn{{0, 1.5, 0}, {1.5, 3, 1}}, []string{"Speaker 1: How are you? 0.0-1.5", "Speaker 2: I am fine. 1.5-3.0"}},
		"a turn that is heard 0.3 s late": {[]Segment{whole}, []Turn{{0, 1.8, 0}, {1.8, 3, 1}},
			[]string{"Speaker 1: How are you? 0.0-1.5", "Speaker 2: I am fine. 1.5-3.0"}},
		"a turn that is heard early":        {[]Segment{whole}, []Turn{{0, 1.1, 0}, {1.1, 3, 1}}, []string{"Speaker 1: How are you? 0.0-1.5", "Speaker 2: I am fine. 1.5-3.0"}},
		"a breath of another within a word": {[]Segment{whole}, []Turn{{0, 3, 0}, {2.1, 2.4, 1}}, []string{"Speaker 1: How are you? I am fine. 0.0-3.0"}},
		"a change within a sentence": {[]Segment{spoken(0, "Where do we go to eat?")}, []Turn{{0, 2, 0}, {2, 3, 1}},
			[]string{"Speaker 1: Where do we go 0.0-2.0", "Speaker 2: to eat? 2.0-3.0"}},
		"a word of another at the sentence": {[]Segment{whole}, []Turn{{0, 1.5, 0}, {1, 3, 1}},
			[]string{"Speaker 1: How are you? 0.0-1.5", "Speaker 2: I am fine. 1.5-3.0"}},
		"names follow what is said": {[]Segment{whole}, []Turn{{0, 0.01, 0}, {0, 1.5, 2}, {1.5, 3, 1}},
			[]string{"Speaker 1: How are you? 0.0-1.5", "Speaker 2: I am fine. 1.5-3.0"}},
		"outside of all turns":   {[]Segment{whole}, []Turn{{-5, -4, 0}, {3.5, 4, 1}}, []string{"Speaker 1: How are you? I am fine. 0.0-3.0"}},
		"without times of words": {[]Segment{untimed}, []Turn{{0, 1.2, 0}, {1.2, 3, 1}}, []string{"Speaker 1: How are you? I am fine. 0.0-3.0"}},
		"words of another text":  {[]Segment{edited}, []Turn{{0, 1.2, 0}, {1.2, 3, 1}}, []string{"Speaker 1: How do you do? I am fine. 0.0-3.0"}},
		"a script without spaces": {[]Segment{joined}, []Turn{{0, 0.5, 0}, {0.5, 2, 1}},
			[]string{"Speaker 1: 你好。 0.0-0.5", "Speaker 2: 我很好。 0.5-2.0"}},
		"a segment each": {[]Segment{spoken(0, "Yes."), spoken(1, "No."), spoken(2, "Yes.")}, []Turn{{0, 0.5, 1}, {1, 1.5, 0}, {2, 2.5, 1}},
			[]string{"Speaker 1: Yes. 0.0-0.5", "Speaker 2: No. 1.0-1.5", "Speaker 1: Yes. 2.0-2.5"}},
	} {
		var got []string
		for i, s := range Speak(c.segs, c.turns) {
			got = append(got, fmt.Sprintf("%s: %s %.1f-%.1f", s.Speaker, s.Text, s.Start, s.End))
			if s.ID != i {
				t.Errorf("%s: segment %d has the id %d", name, i, s.ID)
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, c.want)
		}
	}
}

// Whatever the turns, no word is lost, doubled or moved, and every piece has a speaker.
func TestSpeakKeepsAllWords(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		var segs []Segment
		at := 0.0
		for range rng.IntN(6) {
			s := spoken(at, strings.TrimSpace(strings.Repeat("so it is, and then. ", 1+rng.IntN(3))))
			at = s.End + rng.Float64()
			segs = append(segs, s)
		}
		var turns []Turn
		for range 1 + rng.IntN(12) {
			start := rng.Float64() * (at + 1)
			turns = append(turns, Turn{start, start + 3*rng.Float64(), rng.IntN(4)})
		}
		var was, is []Word
		for _, s := range segs {
			was = append(was, s.Words...)
		}
		out := Speak(segs, turns)
		for _, s := range out {
			is = append(is, s.Words...)
			if s.Speaker == "" || s.End < s.Start || letters(s.Words...) != letters(Word{Text: s.Text}) {
				t.Fatalf("piece %+v", s)
			}
		}
		if !reflect.DeepEqual(was, is) || letters(Word{Text: Text(segs)}) != letters(Word{Text: Text(out)}) {
			t.Fatalf("%d words became %d: %q, %q", len(was), len(is), Text(segs), Text(out))
		}
	}
}
