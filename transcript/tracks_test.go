package transcript

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// Whatever the order in which the parts come, the segments are those of each track, in the order of their starts, and none is
// shown before one that precedes it.
func TestTracks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tracks []Track
		type arrival struct {
			track int
			part  Part
		}
		var all []arrival
		want := map[string]int{} // text by track
		for track := range rapid.IntRange(1, 3).Draw(t, "tracks") {
			var starts []float64
			at := 0.0
			for i := range rapid.IntRange(0, 6).Draw(t, "parts") {
				at += float64(rapid.IntRange(0, 10).Draw(t, "gap"))
				p := Part{Index: i, Start: at, End: at + float64(rapid.IntRange(1, 10).Draw(t, "length"))}
				starts = append(starts, at)
				for s := range rapid.IntRange(0, 3).Draw(t, "segments") {
					text := fmt.Sprintf("%d-%d-%d", track, i, s)
					want[text] = track
					p.Segments = append(p.Segments, Segment{Start: float64(s), End: float64(s) + 0.9, Text: text})
				}
				at = p.End
				all = append(all, arrival{track, p})
			}
			tracks = append(tracks, Track{Speaker: fmt.Sprint("S", track), Starts: starts})
		}
		seed := rapid.Uint64().Draw(t, "order")
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		joined := NewTracks(tracks...)
		var shown []Segment
		for i, a := range all {
			if _, err := joined.Segments(); err == nil {
				t.Fatalf("complete after %d of %d parts", i, len(all))
			}
			segs, err := joined.Add(a.track, a.part)
			if err != nil {
				t.Fatal(err)
			}
			shown = append(shown, segs...)
		}
		segs, err := joined.Segments()
		if err != nil {
			t.Fatal(err)
		}
		if len(shown) != len(segs) || len(segs) != len(want) {
			t.Fatalf("%d shown, %d in all, want %d", len(shown), len(segs), len(want))
		}
		ends := map[string]float64{}
		for i, s := range segs {
			track, known := want[s.Text]
			delete(want, s.Text)
			switch {
			case !known || s.Speaker != fmt.Sprint("S", track):
				t.Fatalf("segment %+v", s)
			case s.ID != i || shown[i].ID != i || shown[i].Text != s.Text:
				t.Fatalf("segment %d is %+v, shown as %+v", i, s, shown[i])
			case i > 0 && s.Start < segs[i-1].Start:
				t.Fatalf("segment at %g after one at %g", s.Start, segs[i-1].Start)
			case s.Start < ends[s.Speaker]:
				t.Fatalf("segment at %g within one that ends at %g", s.Start, ends[s.Speaker])
			}
			ends[s.Speaker] = s.End
		}
	})
}

func TestTracksRefuse(t *testing.T) {
	tracks := NewTracks(Track{Starts: []float64{0}}, Track{})
	for _, track := range []int{-1, 2} {
		if _, err := tracks.Add(track, Part{}); err == nil {
			t.Errorf("track %d was taken", track)
		}
	}
}

// A track that has nothing for long does not hold back what another one says.
func TestTracksDoNotWaitForSilence(t *testing.T) {
	tracks := NewTracks(Track{Starts: []float64{0, 30, 60}}, Track{Starts: []float64{0, 90}})
	part := func(i int, start float64) Part {
		return Part{Index: i, Start: start, End: start + 20, Segments: []Segment{{Start: 1, End: 2, Text: "a"}}}
	}
	for _, step := range []struct {
		track, index int
		start        float64
		want         int
	}{{0, 0, 0, 0}, {1, 0, 0, 2}, {0, 1, 30, 1}, {0, 2, 60, 1}, {1, 1, 90, 1}} {
		if got, err := tracks.Add(step.track, part(step.index, step.start)); err != nil || len(got) != step.want {
			t.Errorf("part %d of track %d: %d segments, want %d, %v", step.index, step.track, len(got), step.want, err)
		}
	}
}
