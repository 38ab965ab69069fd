package transcript

import (
	"math"
	"reflect"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func TestMergeInSourceTime(t *testing.T) {
	parts := []Part{
		{Index: 1, Start: 40, End: 60, Segments: []Segment{{Start: 0, End: 5, Text: " c "}, {Start: 5, End: 5, Text: "  "}}},
		{Index: 0, Start: 10, End: 30, Segments: []Segment{
			{Start: 0, End: 4, Text: "a", Words: []Word{{Start: 0.5, End: 4, Text: " a"}, {Start: 4, End: 4, Text: " "}}},
			{Start: 4, End: 99, Text: "b"},
		}},
	}
	before := []Part{parts[0], parts[1]}
	got, err := Merge(parts, []Pause{{9, 10.2}, {13.8, 14.5}, {29, 40.3}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Segment{
		{ID: 0, Start: 10.2, End: 13.8, Text: "a", Words: []Word{{Start: 10.5, End: 13.8, Text: "a"}}},
		{ID: 1, Start: 14.5, End: 29, Text: "b"},
		{ID: 2, Start: 40.3, End: 45, Text: "c"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if Text(got) != "a b c" {
		t.Errorf("text %q", Text(got))
	}
	if !reflect.DeepEqual(parts, before) || parts[1].Segments[0].Words[0].Text != " a" {
		t.Error("the parts were changed")
	}
}

func TestMergerTellsWhatIsFinal(t *testing.T) {
	m := NewMerger(nil)
	for _, c := range []struct {
		index int
		want  string // texts that are final with it
	}{{1, ""}, {3, ""}, {0, "0 1"}, {2, "2 3"}, {4, "4"}} {
		got, err := m.Add(Part{
			Index: c.index, Start: float64(c.index), End: float64(c.index + 1), Segments: []Segment{{End: 1, Text: strconv.Itoa(c.index)}},
		})
		if err != nil || Text(got) != c.want {
			t.Errorf("after part %d: %q, %v, want %q", c.index, Text(got), err, c.want)
		}
	}
	if _, err := m.Add(Part{Index: 2}); err == nil {
		t.Error("a part that is known was taken again")
	}
	if _, err := m.Segments(6); err == nil {
		t.Error("5 parts of 6 passed for all")
	}
	if all, err := m.Segments(5); err != nil || Text(all) != "0 1 2 3 4" || all[4].ID != 4 {
		t.Errorf("all: %+v, %v", all, err)
	}
}

// One chunk from 100 to 120 s, with pauses at 105–106 and from 115 on.
func TestMergePlacesTimes(t *testing.T) {
	pauses := []Pause{{105, 106}, {115, 125}}
	type pair = [2]float64
	for name, c := range map[string]struct{ in, want []pair }{
		"in speech":                    {[]pair{{1, 2}}, []pair{{101, 102}}},
		"start in a pause":             {[]pair{{5.3, 8}}, []pair{{106, 108}}},
		"end in a pause":               {[]pair{{1, 5.6}}, []pair{{101, 105}}},
		"start just before a pause":    {[]pair{{4.95, 8}}, []pair{{106, 108}}},
		"end just after a pause":       {[]pair{{1, 6.05}}, []pair{{101, 105}}},
		"short word before a pause":    {[]pair{{4.92, 5}}, []pair{{104.92, 105}}},
		"short word after a pause":     {[]pair{{6, 6.08}}, []pair{{106, 106.08}}},
		"across a pause":               {[]pair{{1, 8}}, []pair{{101, 108}}},
		"in a pause, nearer its end":   {[]pair{{5.6, 5.9}}, []pair{{106, 106.3}}},
		"in a pause, nearer its start": {[]pair{{5.1, 5.3}}, []pair{{104.8, 105}}},
		"in the pause at the end":      {[]pair{{19, 20}}, []pair{{114, 115}}},
		"at a point in a pause":        {[]pair{{5.9, 5.9}}, []pair{{106, 106}}},
		"moved back behind another":    {[]pair{{1, 4.9}, {5.1, 5.4}}, []pair{{101, 104.9}, {104.9, 105}}},
		"moved on before another":      {[]pair{{5.6, 5.9}, {6.1, 8}}, []pair{{106, 106.1}, {106.1, 108}}},
		"overlapping":                  {[]pair{{1, 4}, {3, 5}}, []pair{{101, 103}, {103, 105}}},
		"overlapping over a pause":     {[]pair{{1, 8}, {6, 9}}, []pair{{101, 105}, {106, 109}}},
		"out of order":                 {[]pair{{3, 4}, {1, 2}}, []pair{{103, 103}, {103, 103}}},
		"ends before it starts":        {[]pair{{3, 2}}, []pair{{103, 103}}},
		"beyond the chunk":             {[]pair{{-3, 300}}, []pair{{100, 115}}},
		"no numbers":                   {[]pair{{math.NaN(), math.Inf(1)}}, []pair{{100, 115}}},
	} {
		var segs []Segment
		for _, p := range c.in {
			segs = append(segs, Segment{Start: p[0], End: p[1], Text: "x", Words: []Word{{Start: p[0], End: p[1], Text: "x"}}})
		}
		got, err := Merge([]Part{{Start: 100, End: 120, Segments: segs}}, pauses)
		if err != nil || len(got) != len(c.want) {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		for i, s := range got {
			if s.Start != c.want[i][0] || s.End != c.want[i][1] {
				t.Errorf("%s: segment %d at %v–%v, want %v", name, i, s.Start, s.End, c.want[i])
			}
			if w := s.Words[0]; w.Start < s.Start || w.End > s.End || w.End < w.Start {
				t.Errorf("%s: word at %v–%v of a segment at %v–%v", name, w.Start, w.End, s.Start, s.End)
			}
		}
	}
}

// A chunk without any speech by the waveform still keeps what the model heard, where it heard it.
func TestMergeInSilence(t *testing.T) {
	got, err := Merge([]Part{{Start: 10, End: 20, Segments: []Segment{{Start: 1, End: 2, Text: "x"}}}}, []Pause{{5, 25}})
	if err != nil || got[0].Start != 11 || got[0].End != 12 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMergeWantsEveryChunkOnce(t *testing.T) {
	for name, parts := range map[string][]Part{
		"missing":      {{Index: 0, End: 1}, {Index: 2, Start: 1, End: 2}},
		"first":        {{Index: 1, End: 1}},
		"doubled":      {{Index: 0, End: 1}, {Index: 0, Start: 1, End: 2}},
		"overlapping":  {{Index: 0, End: 2}, {Index: 1, Start: 1, End: 3}},
		"turned round": {{Index: 0, Start: 2, End: 1}},
		"no number":    {{Index: 0, Start: math.NaN(), End: 1}},
		"endless":      {{Index: 0, End: math.Inf(1)}},
	} {
		if _, err := Merge(parts, nil); err == nil {
			t.Errorf("%s chunk: no error", name)
		}
	}
	if got, err := Merge(nil, nil); err != nil || len(got) != 0 {
		t.Errorf("no chunks: %v, %v", got, err)
	}
}

// sound is a drawn recording: chunks in order, with segments that may be anywhere, and pauses.
type sound struct {
	parts  []Part
	pauses []Pause
	end    float64
	texts  []string // what the segments say, in order
	of     []Part   // and their chunks
}

func drawSound(t *rapid.T) sound {
	var s sound
	for i := range rapid.IntRange(0, 6).Draw(t, "parts") {
		s.end += rapid.Float64Range(0, 5).Draw(t, "gap")
		p := Part{Index: i, Start: s.end}
		s.end += rapid.Float64Range(0.1, 30).Draw(t, "length")
		p.End = s.end
		for range rapid.IntRange(0, 5).Draw(t, "segments") {
			seg := Segment{Text: rapid.StringMatching(`[a-c ]{0,3}`).Draw(t, "text")}
			seg.Start = rapid.Float64Range(-1, 40).Draw(t, "start")
			seg.End = rapid.Float64Range(-1, 40).Draw(t, "end")
			for range rapid.IntRange(0, 3).Draw(t, "words") {
				seg.Words = append(seg.Words, Word{
					Start: rapid.Float64Range(-1, 40).Draw(t, "start"), End: rapid.Float64Range(-1, 40).Draw(t, "end"), Text: "x",
				})
			}
			if text := clean(seg.Text); text != "" {
				s.texts, s.of = append(s.texts, text), append(s.of, p)
			}
			p.Segments = append(p.Segments, seg)
		}
		s.parts = append(s.parts, p)
	}
	for at := 0.0; at < s.end; {
		at += rapid.Float64Range(0.01, 9).Draw(t, "speech")
		end := at + rapid.Float64Range(0.2, 9).Draw(t, "pause")
		s.pauses = append(s.pauses, Pause{at, end})
		at = end
	}
	return s
}

// inPause reports whether a range lies inside a pause, though its chunk has speech too.
func (s sound) inPause(p Part, start, end float64) bool {
	const ms = 0.001 // rounding
	for _, q := range s.pauses {
		if start >= q.Start+ms && end <= q.End-ms && (p.Start < q.Start || p.End > q.End) {
			return true
		}
	}
	return false
}

func TestMergeAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSound(t)
		got, err := Merge(rapid.Permutation(s.parts).Draw(t, "order"), s.pauses)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(s.texts) {
			t.Fatalf("%d segments, want %d: none may be lost or doubled", len(got), len(s.texts))
		}
		last := 0.0
		for i, seg := range got {
			if seg.ID != i || clean(seg.Text) != s.texts[i] {
				t.Fatalf("segment %d is %d, %q, want %q", i, seg.ID, seg.Text, s.texts[i])
			}
			p := s.of[i]
			if seg.Start < max(last, round(p.Start)) || seg.End < seg.Start || seg.End > round(p.End) {
				t.Fatalf("segment %d at %v–%v after %v, chunk %v–%v", i, seg.Start, seg.End, last, p.Start, p.End)
			}
			if s.inPause(p, seg.Start, seg.End) {
				t.Fatalf("segment %d at %v–%v lies in a pause of %v", i, seg.Start, seg.End, s.pauses)
			}
			last = seg.End
			spoken := seg.Start
			for _, w := range seg.Words {
				if w.Start < spoken || w.End > seg.End || w.End < w.Start {
					t.Fatalf("word %v–%v after %v, segment %v–%v", w.Start, w.End, spoken, seg.Start, seg.End)
				}
				if s.inPause(p, w.Start, w.End) {
					t.Fatalf("word at %v–%v lies in a pause of %v", w.Start, w.End, s.pauses)
				}
				spoken = w.End
			}
		}
	})
}

// Times that agree with the waveform are kept to the millisecond, whatever the order of the chunks.
func TestMergeKeepsTrueTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var parts []Part
		var pauses []Pause
		var want [][2]float64
		at := 0.0
		for i := range rapid.IntRange(1, 5).Draw(t, "parts") {
			p := Part{Index: i, Start: at}
			for range rapid.IntRange(0, 4).Draw(t, "segments") {
				pauses = append(pauses, Pause{at, at + rapid.Float64Range(0.2, 3).Draw(t, "pause")})
				at = pauses[len(pauses)-1].End
				from := at
				at += rapid.Float64Range(0.15, 8).Draw(t, "speech")
				want = append(want, [2]float64{round(from), round(at)})
				p.Segments = append(p.Segments, Segment{Start: from - p.Start, End: at - p.Start, Text: "x"})
			}
			at += 0.5
			p.End = at
			parts = append(parts, p)
		}
		got, err := Merge(rapid.Permutation(parts).Draw(t, "order"), pauses)
		if err != nil {
			t.Fatal(err)
		}
		for i, seg := range got {
			if math.Abs(seg.Start-want[i][0]) > 0.0011 || math.Abs(seg.End-want[i][1]) > 0.0011 {
				t.Fatalf("segment %d at %v–%v, want %v", i, seg.Start, seg.End, want[i])
			}
		}
	})
}

func BenchmarkMerge(b *testing.B) {
	var parts []Part
	var pauses []Pause
	for i := range 3000 { // a day in chunks of about 30 s
		p := Part{Index: i, Start: float64(i) * 30, End: float64(i+1) * 30}
		for j := range 10 {
			at := float64(j) * 3
			p.Segments = append(p.Segments, Segment{Start: at, End: at + 3, Text: "some words"})
			pauses = append(pauses, Pause{p.Start + at + 2.5, p.Start + at + 2.9})
		}
		parts = append(parts, p)
	}
	for b.Loop() {
		if _, err := Merge(parts, pauses); err != nil {
			b.Fatal(err)
		}
	}
}
