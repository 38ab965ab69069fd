package transcript

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func edited() Transcript {
	t := Transcript{Segments: []Segment{
		{ID: 0, Start: 1, End: 3, Text: "My name is Jon.", Speaker: "S1", Words: []Word{
			{1, 1.2, "My", 0.9}, {1.2, 1.6, "name", 0.8}, {1.6, 1.8, "is", 0.7}, {2, 3, "Jon.", 0.4},
		}},
		{ID: 1, Start: 4, End: 5, Text: "Hello.", Speaker: "S2"},
		{ID: 2, Start: 6, End: 7, Text: "Bye.", Speaker: "S1"},
	}}
	t.Text = Text(t.Segments)
	return t
}

func ptr[T any](v T) *T { return &v }

func TestEdit(t *testing.T) {
	was := edited()
	got, err := was.Edited(Edit{
		Segments: []SegmentEdit{
			{ID: 0, Text: ptr("  My name is John\nSmith. ")}, {ID: 1, Text: ptr("")}, {ID: 2, Speaker: ptr("Guest")},
		},
		Speakers: map[string]string{"S1": "S2", "S2": "S1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []Segment{
		{ID: 0, Start: 1, End: 3, Text: "My name is John Smith.", Speaker: "S2", Edited: true, Words: []Word{
			{1, 1.2, "My", 0.9}, {1.2, 1.6, "name", 0.8}, {1.6, 1.8, "is", 0.7}, {2, 2.4, "John", 1}, {2.4, 3, "Smith.", 1},
		}},
		{ID: 2, Start: 6, End: 7, Text: "Bye.", Speaker: "Guest"},
	}
	if !reflect.DeepEqual(got.Segments, want) {
		t.Errorf("got  %+v\nwant %+v", got.Segments, want)
	}
	if got.Text != "My name is John Smith. Bye." {
		t.Errorf("text %q", got.Text)
	}
	if !reflect.DeepEqual(was, edited()) {
		t.Error("the original was changed")
	}
}

func TestEditKeepsTimesOfWordsThatStay(t *testing.T) {
	words := []Word{{1, 2, "we", 0.5}, {2, 3, "met", 0.5}, {3, 4, "him", 0.5}, {5, 6, "there", 0.5}}
	for _, c := range []struct {
		text string
		want []Word
	}{
		{"We met him, there!", []Word{{1, 2, "We", 0.5}, {2, 3, "met", 0.5}, {3, 4, "him,", 0.5}, {5, 6, "there!", 0.5}}},
		{"we saw him there", []Word{{1, 2, "we", 0.5}, {2, 3, "saw", 1}, {3, 4, "him", 0.5}, {5, 6, "there", 0.5}}},
		{"met there", []Word{{2, 3, "met", 0.5}, {5, 6, "there", 0.5}}},
		{"we met him right there", []Word{{1, 2, "we", 0.5}, {2, 3, "met", 0.5}, {3, 4, "him", 0.5}, {4, 5, "right", 1}, {5, 6, "there", 0.5}}},
		{"so we met him there", []Word{{1, 1, "so", 1}, {1, 2, "we", 0.5}, {2, 3, "met", 0.5}, {3, 4, "him", 0.5}, {5, 6, "there", 0.5}}},
		{"—", []Word{{1, 6, "—", 1}}},
	} {
		if got := retimed(words, c.text); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\ngot  %v\nwant %v", c.text, got, c.want)
		}
	}
}

func TestEditRefuses(t *testing.T) {
	for name, e := range map[string]Edit{
		"an unknown segment": {Segments: []SegmentEdit{{ID: 7, Text: ptr("x")}}},
		"one twice":          {Segments: []SegmentEdit{{ID: 1, Text: ptr("x")}, {ID: 1, Text: ptr("y")}}},
		"a long text":        {Segments: []SegmentEdit{{ID: 1, Text: ptr(strings.Repeat("ы", MaxSegmentText+1))}}},
		"a long name":        {Speakers: map[string]string{"S1": strings.Repeat("ы", MaxSpeakerName+1)}},
		"a long new speaker": {Segments: []SegmentEdit{{ID: 1, Speaker: ptr(strings.Repeat("n", MaxSpeakerName+1))}}},
	} {
		_, err := edited().Edited(e)
		var refused *EditError
		if !errors.As(err, &refused) || refused.Reason == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is written over timed words, the new ones are in order, within their segment, and say the text.
func TestRetimedWordsAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vocabulary := rapid.SampledFrom([]string{"a", "b", "c", "Ab,", "我", "我们", "日本。", "—", "ё"})
		var words []Word
		at := 0.0
		for _, text := range rapid.SliceOfN(vocabulary, 1, 12).Draw(t, "old") {
			at += float64(rapid.IntRange(0, 3).Draw(t, "pause")) / 10
			end := at + float64(rapid.IntRange(0, 5).Draw(t, "length"))/10
			words = append(words, Word{round(at), round(end), text, 0.5})
			at = end
		}
		text := clean(strings.Join(rapid.SliceOfN(vocabulary, 1, 12).Draw(t, "new"), " "))
		got := retimed(words, text)
		last := words[0].Start
		var said strings.Builder
		for _, w := range got {
			if w.Start < last || w.End < w.Start || w.End > words[len(words)-1].End {
				t.Fatalf("%v is out of order after %v: %v", w, last, got)
			}
			last = w.End
			said.WriteString(w.Text)
		}
		if said.String() != strings.ReplaceAll(text, " ", "") {
			t.Fatalf("%q became %q", text, said.String())
		}
	})
}
