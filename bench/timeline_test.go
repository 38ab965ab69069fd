package bench_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"steno/bench"
	"steno/transcript"
)

// laid is the truth of the tables below: three clips, with silences of 2, 10 and 1 s before them.
var laid = []bench.Placement{
	{Start: 2, End: 5, Text: "He was not an ill disposed man."},
	{Start: 15, End: 20, Text: "Ask not what your country can do for you, ask what you can do."},
	{Start: 21, End: 24, Text: "The fox jumps over the dog."},
}

func segment(start, end float64, text string) transcript.Segment {
	return transcript.Segment{Start: start, End: end, Text: text}
}

func TestCheckTimeline(t *testing.T) {
	he, ask, fox := segment(2, 5, laid[0].Text), segment(15, 20, laid[1].Text), segment(21, 24, laid[2].Text)
	with := func(s transcript.Segment, words ...transcript.Word) transcript.Segment {
		s.Words = words
		return s
	}
	for _, tt := range []struct {
		name     string
		segments []transcript.Segment
		want     []bench.ViolationKind
	}{
		{"exact", []transcript.Segment{he, ask, fox}, nil},
		{"within the tolerance", []transcript.Segment{segment(2.25, 5.2, he.Text), segment(14.75, 19, ask.Text), fox}, nil},
		{"several segments in a clip", []transcript.Segment{he, segment(15.1, 17, "Ask not what your country can do for you,"),
			segment(17.5, 20.1, "ask what you can do."), fox}, nil},
		{"misheard words", []transcript.Segment{segment(2, 5, "She was not an ill exposed man."), ask, fox}, nil},
		{"lost in the middle", []transcript.Segment{segment(2, 5, "He was not an disposed man."), ask, fox}, nil},
		{"inserted in the middle", []transcript.Segment{segment(2, 5, "He was not such an ill disposed man."), ask, fox}, nil},
		{"a sentence across a short silence", []transcript.Segment{he, segment(15, 24, ask.Text+" "+fox.Text)}, nil},

		{"starts early", []transcript.Segment{segment(1.6, 5, he.Text), ask, fox}, kinds(bench.Overruns, bench.WrongStart)},
		{"starts late", []transcript.Segment{segment(2.4, 5, he.Text), ask, fox}, kinds(bench.WrongStart)},
		{"second segment in another clip's time", []transcript.Segment{he, segment(15, 17, "Ask not what your country can do for you,"),
			segment(21, 21.5, "ask what you can do."), fox}, kinds(bench.WrongStart)},
		{"ends late", []transcript.Segment{segment(2, 9, he.Text), ask, fox}, kinds(bench.Overruns)},
		{"ends after the last clip", []transcript.Segment{he, ask, segment(21, 25, fox.Text)}, kinds(bench.Overruns)},
		{"across a long silence", []transcript.Segment{segment(2, 20, he.Text+" "+ask.Text), fox}, kinds(bench.Overruns)},
		{"said in a silence", []transcript.Segment{he, segment(8, 9, "Thank you."), ask, fox},
			kinds(bench.InSilence, bench.Invented)},
		{"word in a silence", []transcript.Segment{with(he, transcript.Word{Start: 2, End: 2.2, Text: "He"},
			transcript.Word{Start: 7, End: 7.3, Text: "was"}), ask, fox}, kinds(bench.InSilence)},
		{"words out of order", []transcript.Segment{with(he, transcript.Word{Start: 3, End: 3.2, Text: "He"},
			transcript.Word{Start: 2, End: 2.3, Text: "was"}), ask, fox}, kinds(bench.Disordered)},
		{"segments out of order", []transcript.Segment{segment(2.2, 5, "He was not"), segment(2, 5, "an ill disposed man."), ask, fox},
			kinds(bench.Disordered)},
		{"ends before it begins", []transcript.Segment{he, segment(15, 14.9, ask.Text), fox}, kinds(bench.Disordered, bench.InSilence)},

		{"first word lost", []transcript.Segment{he,
			segment(15.2, 20, "Not what your country can do for you, ask what you can do."), fox},
			kinds(bench.Lost)},
		{"last word lost", []transcript.Segment{he,
			segment(15, 19.5, "Ask not what your country can do for you, ask what you can."), fox},
			kinds(bench.Lost)},
		{"clip lost", []transcript.Segment{he, fox}, kinds(bench.Lost)},
		{"everything lost", nil, kinds(bench.Lost, bench.Lost, bench.Lost)},
		{"last word doubled", []transcript.Segment{he, segment(15, 20, ask.Text+" do."), fox}, kinds(bench.Doubled)},
		{"last words doubled", []transcript.Segment{he, segment(15, 20, ask.Text+" You can do."), fox}, kinds(bench.Doubled)},
		{"first words doubled", []transcript.Segment{segment(2, 5, "He was he was not an ill disposed man."), ask, fox},
			kinds(bench.Doubled)},
		{"doubled in the middle", []transcript.Segment{segment(2, 5, "He was not an an ill disposed man."), ask, fox}, nil},
		{"invented at the end", []transcript.Segment{he, ask, segment(21, 24, fox.Text+" Thanks for watching.")}, kinds(bench.Invented)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := bench.CheckTimeline(transcript.Transcript{Language: "en", Segments: tt.segments}, laid)
			var got []bench.ViolationKind
			for _, v := range found {
				got = append(got, v.Kind)
			}
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(tt.want)); !slices.Equal(got, want) {
				t.Errorf("found %v, want %v", found, want)
			}
		})
	}
}

func kinds(k ...bench.ViolationKind) []bench.ViolationKind { return k }

func TestViolationNamesItsPlace(t *testing.T) {
	found := bench.CheckTimeline(transcript.Transcript{Language: "en", Segments: []transcript.Segment{
		segment(2.5, 5, laid[0].Text), segment(15, 20, laid[1].Text),
	}}, laid)
	if len(found) != 2 {
		t.Fatalf("found %v, want two violations", found)
	}
	if v := found[0]; v.Segment != 0 || v.Clip != 0 || v.At != 2.5 ||
		v.String() != `wrong-start at 2.50 s: segment "He was not an ill disposed man." should start at 2.00 s (+0.50 s)` {
		t.Errorf("first violation: %+v", v)
	}
	if v := found[1]; v.Segment != -1 || v.Clip != 2 || v.At != 21 || v.Kind != bench.Lost {
		t.Errorf("second violation: %+v", v)
	}
}

func TestCheckTimelineOfTheTruthFindsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var placements []bench.Placement
		var segments []transcript.Segment
		at := 0.0
		for i := range rapid.IntRange(0, 8).Draw(t, "clips") {
			at += rapid.Float64Range(0.5, 90).Draw(t, "silence")
			length := rapid.Float64Range(1, 20).Draw(t, "length")
			text := rapid.StringMatching(`([a-d]{2} ){1,6}`).Draw(t, "text")
			placements = append(placements, bench.Placement{Start: at, End: at + length, Text: text})
			off := rapid.Float64Range(-bench.Tolerance+0.001, bench.Tolerance-0.001).Draw(t, "off")
			segments = append(segments, transcript.Segment{ID: i, Start: at + off, End: at + length, Text: text})
			at += length
		}
		if found := bench.CheckTimeline(transcript.Transcript{Language: "en", Segments: segments}, placements); len(found) > 0 {
			t.Fatal(fmt.Sprint(found))
		}
	})
}
