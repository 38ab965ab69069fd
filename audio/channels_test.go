package audio

import (
	"errors"
	"io"
	"math"
	"testing"
	"time"
)

// sides are the arguments of ffmpeg for a stereo file of beeps: what is heard left and right at each time.
func sides(seconds float64, left, right string) []string {
	return []string{"-f", "lavfi", "-i", "aevalsrc=" + left + "|" + right + ":s=44100:d=" + ftoa(seconds)}
}

// tone sounds at a frequency and level from each time on, for a second.
func tone(hertz, level float64, at ...float64) string {
	expr := "0"
	for _, a := range at {
		expr += "+between(t\\," + ftoa(a) + "\\," + ftoa(a+1) + ")"
	}
	return ftoa(level) + "*sin(2*PI*" + ftoa(hertz) + "*t)*(" + expr + ")"
}

func tracksOf(t *testing.T, tl Tools, path string, want Want) ([]*Stream, *Splitter) {
	t.Helper()
	want.Speakers = true
	info, err := Probe(t.Context(), tl, path)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(info, want, Resources{Slots: 2, MaxDuration: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	tracks, err := PrepareTracks(t.Context(), tl, path, info, plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range tracks {
			_ = s.Close()
		}
	})
	return tracks, Split(plan, tracks...)
}

// heardAt are the seconds of the source, by channel, in which chunks are louder than -30 dBFS.
func heardAt(t *testing.T, split *Splitter) map[int][]int {
	t.Helper()
	heard := map[int][]int{}
	last := int64(0)
	for {
		c, err := split.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return heard
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.Span.Start < last {
			t.Errorf("a chunk at %d after one at %d", c.Span.Start, last)
		}
		last = c.Span.Start
		for s := c.Span.Start/Rate + 1; s < c.Span.End/Rate; s++ { // whole seconds
			var top int16
			for _, v := range c.PCM[s*Rate+Rate/4-c.Span.Start : s*Rate+Rate*3/4-c.Span.Start] {
				top = max(top, v, -v)
			}
			if float64(top) > math.MaxInt16*0.03 {
				heard[c.Channel] = append(heard[c.Channel], int(s))
			}
		}
	}
}

// A call gives a stream for each side, at its own level, without the echo of the other one; kept, and decoded a second time.
func TestTracksOfACall(t *testing.T) {
	// Left speaks at 3 and 12 s, 20 dB louder than right at 7 and 12; each hears the other, 50 and 60 dB softer.
	path := media(t, "call.wav", sides(20,
		tone(700, 0.3, 3, 12)+"+"+tone(440, 0.0001, 7), tone(440, 0.03, 7, 12)+"+"+tone(700, 0.001, 3))...)
	for name, want := range map[string]Want{"linear": {}, "off": {Loudness: "off"}, "classic": {Loudness: "classic"}} {
		for kept, most := range map[string]int64{"kept": 0, "decoded again": -1} {
			t.Run(name+" "+kept, func(t *testing.T) {
				tl := tools(t)
				tl.MaxScratch = most
				tracks, split := tracksOf(t, tl, path, want)
				if len(tracks) != 2 || tracks[0].Channel() != 1 || tracks[1].Channel() != 2 {
					t.Fatalf("%d streams", len(tracks))
				}
				for i, starts := range [][]int{{3, 12}, {7, 12}} {
					speech := tracks[i].Timeline().Speech
					if len(speech) != 2 {
						t.Fatalf("channel %d: speech %v", i+1, speech)
					}
					for k, s := range speech {
						if at := Seconds(s.Start); math.Abs(at-float64(starts[k])) > 0.3 || math.Abs(Seconds(s.Len())-1) > 0.6 {
							t.Errorf("channel %d: speech from %.2f to %.2f s, want %d", i+1, at, Seconds(s.End), starts[k])
						}
					}
				}
				if got := len(split.Starts(tracks[0])) + len(split.Starts(tracks[1])); got != 4 || split.Len() != 4 {
					t.Errorf("%d and %d chunks, want 4", got, split.Len())
				}
			})
		}
	}
}

// Two people who never let each other finish.
func TestTracksOfTwoAtOnce(t *testing.T) {
	path := media(t, "quarrel.wav", sides(10, tone(700, 0.3, 1, 2, 3, 4, 5, 6, 7), tone(440, 0.2, 1, 2, 3, 4, 5, 6, 7))...)
	if tracks, _ := tracksOf(t, tools(t), path, Want{}); len(tracks) != 2 {
		t.Errorf("%d streams", len(tracks))
	}
}

func TestTracksReadTheirOwnChannel(t *testing.T) {
	path := media(t, "call.flac", sides(12, tone(700, 0.3, 1, 2, 3, 4), tone(440, 0.3, 6, 7, 8, 9))...)
	for kept, most := range map[string]int64{"kept": 0, "decoded again": -1} {
		t.Run(kept, func(t *testing.T) {
			tl := tools(t)
			tl.MaxScratch = most
			_, split := tracksOf(t, tl, path, Want{Silence: "keep"})
			heard := heardAt(t, split)
			if len(heard) != 2 || len(heard[1]) != 4 || heard[1][0] != 1 || len(heard[2]) != 4 || heard[2][0] != 6 {
				t.Errorf("heard %v", heard)
			}
		})
	}
}

// What has no voice of its own on each side is mixed, as it is without Speakers.
func TestTracksAreMixed(t *testing.T) {
	both := tone(700, 0.3, 1, 3) + "+" + tone(440, 0.2, 5, 7)
	for name, args := range map[string][]string{
		"the same twice": sides(10, both, both),
		"two microphones in a room": sides(10, both,
			tone(700, 0.2, 1.001, 3.001)+"+"+tone(440, 0.3, 5.001, 7.001)),
		"one side silent":  sides(10, both, "0"),
		"both silent":      sides(10, "0", "0"),
		"a microphone low": sides(10, both, "0.02*("+both+")"),
		"one channel":      {"-f", "lavfi", "-i", "aevalsrc=" + both + ":s=44100:d=10"},
		"six channels":     {"-f", "lavfi", "-i", "aevalsrc=" + both + "|0|0|0|0|" + tone(440, 0.2, 5) + ":s=44100:d=10"},
	} {
		t.Run(name, func(t *testing.T) {
			tracks, _ := tracksOf(t, tools(t), media(t, "a.wav", args...), Want{})
			if len(tracks) != 1 || tracks[0].Channel() != 0 {
				t.Errorf("%d streams", len(tracks))
			}
		})
	}
}
