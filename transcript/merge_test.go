package transcript

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestMergeInSourceTime(t *testing.T) {
	parts := []Part{
		{Index: 1, Start: 40, End: 60, Segments: []Segment{{Start: 0, End: 5, Text: " c "}, {Start: 5, End: 5, Text: "  "}}},
		{Index: 0, Start: 10, End: 30, Segments: []Segment{
			{Start: 0, End: 4, Text: "a", Words: []Word{{Start: 0.5, End: 4, Text: "a"}}}, {Start: 3.5, End: 99, Text: "b"},
		}},
	}
	got, err := Merge(parts, []Pause{{9, 10.2}, {13.8, 14.5}, {29, 40.3}})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		start, end float64
		text       string
	}{{10.2, 13.8, "a"}, {14.5, 29, "b"}, {40.3, 45, "c"}}
	if len(got) != len(want) {
		t.Fatalf("%d segments, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		if g := got[i]; g.ID != i || g.Text != w.text || math.Abs(g.Start-w.start) > 1e-9 || math.Abs(g.End-w.end) > 1e-9 {
			t.Errorf("segment %d is %+v, want %+v", i, g, w)
		}
	}
	if w := got[0].Words[0]; w.Start != 10.5 || w.End != 13.8 {
		t.Errorf("word %+v, want 10.5–13.8", w)
	}
	if Text(got) != "a b c" {
		t.Errorf("text %q", Text(got))
	}
}

func TestMergeWantsEveryChunkOnce(t *testing.T) {
	for name, parts := range map[string][]Part{
		"missing":     {{Index: 0, End: 1}, {Index: 2, Start: 1, End: 2}},
		"doubled":     {{Index: 0, End: 1}, {Index: 0, Start: 1, End: 2}},
		"overlapping": {{Index: 0, End: 2}, {Index: 1, Start: 1, End: 3}},
	} {
		if _, err := Merge(parts, nil); err == nil {
			t.Errorf("%s chunk: no error", name)
		}
	}
}

func TestMergeAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var parts []Part
		var pauses []Pause
		at, texts := 0.0, 0
		for i := range rapid.IntRange(0, 6).Draw(t, "parts") {
			at += rapid.Float64Range(0, 5).Draw(t, "gap")
			p := Part{Index: i, Start: at}
			at += rapid.Float64Range(0.1, 30).Draw(t, "length")
			p.End = at
			for range rapid.IntRange(0, 5).Draw(t, "segments") {
				s := Segment{Text: rapid.SampledFrom([]string{"x", "", " y "}).Draw(t, "text")}
				s.Start = rapid.Float64Range(-1, 40).Draw(t, "start")
				s.End = rapid.Float64Range(-1, 40).Draw(t, "end")
				s.Words = []Word{{Start: s.Start, End: s.End, Text: "x"}}
				if s.Text != "" {
					texts++
				}
				p.Segments = append(p.Segments, s)
			}
			parts = append(parts, p)
		}
		for p := 0.0; p < at; {
			p += rapid.Float64Range(0.1, 9).Draw(t, "speech")
			end := p + rapid.Float64Range(0.2, 9).Draw(t, "pause")
			pauses = append(pauses, Pause{p, end})
			p = end
		}
		got, err := Merge(rapid.Permutation(parts).Draw(t, "order"), pauses)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != texts {
			t.Fatalf("%d segments, want %d: none may be lost or doubled", len(got), texts)
		}
		last := 0.0
		for i, s := range got {
			if s.ID != i || s.Start < last-0.002 || s.End < s.Start || s.End > at+0.002 {
				t.Fatalf("segment %d %v–%v after %v of %v", s.ID, s.Start, s.End, last, at)
			}
			last = s.End
			for _, w := range s.Words {
				if w.Start < s.Start-0.002 || w.End > s.End+0.002 || w.End < w.Start {
					t.Fatalf("word %v–%v outside its segment %v–%v", w.Start, w.End, s.Start, s.End)
				}
			}
		}
	})
}

func TestTextOfSpacelessScripts(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{[]string{"Hello.", "World"}, "Hello. World"},
		{[]string{"你好。", "世界"}, "你好。世界"},
		{[]string{"你好", "OK"}, "你好 OK"},
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
