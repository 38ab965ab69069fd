package voices

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"steno/transcript"
)

// towards is a vector of length 1 near one of the axes, as the embeddings of one speaker are near each other.
func towards(axis int, rng *rand.Rand) []float64 {
	v := make([]float64, 16)
	for i := range v {
		v[i] = 0.12 * rng.NormFloat64()
	}
	v[axis]++
	return normed(v)
}

func TestGroupsOfVoices(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	people := func(frames ...int) []window { // of each person as many pieces as there are frames for, 100 each
		var ws []window
		for who, n := range frames {
			for ; n > 0; n -= 100 {
				ws = append(ws, window{pieces: []piece{{frames: min(n, 100), vector: towards(who, rng)}}})
			}
		}
		rng.Shuffle(len(ws), func(i, j int) { ws[i], ws[j] = ws[j], ws[i] })
		return ws
	}
	for name, c := range map[string]struct {
		windows     []window
		count, want int
	}{
		"nobody":                               {nil, 0, 0},
		"nobody, two asked for":                {nil, 2, 0},
		"one":                                  {people(2000), 0, 1},
		"three":                                {people(2000, 1000, 3000), 0, 3},
		"one who coughs":                       {people(2000, 2000, 100), 0, 2},
		"two in a short recording":             {people(300, 200), 0, 2},
		"a word":                               {people(50), 0, 1},
		"three, two asked for":                 {people(2000, 1000, 3000), 2, 2},
		"two, and as many asked for":           {people(2000, 1000), 2, 2},
		"one who says little, three asked for": {people(2000, 2000, 100), 3, 3},
		"more asked for than pieces":           {people(100, 100), 9, 2},
	} {
		of, n := speakersOf(c.windows, c.count)
		if n != c.want || len(of) != len(c.windows) {
			t.Errorf("%s: %d speakers, want %d", name, n, c.want)
		}
	}
	// Each person's pieces are one speaker's.
	ws := people(1000, 1000, 1000)
	of, _ := speakersOf(ws, 0)
	seen := map[int]int{}
	for w := range ws {
		axis := argmaxOf(ws[w].pieces[0].vector)
		if s, known := seen[axis]; known && s != of[w][0] {
			t.Errorf("person %d is the speakers %d and %d", axis, s, of[w][0])
		}
		seen[axis] = of[w][0]
	}
}

func argmaxOf(v []float64) int { return slices.Index(v, slices.Max(v)) }

// linkage by chains finds what the plain algorithm finds, which joins the nearest two groups again and again.
func TestLinkage(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 50 {
		var all []piece
		for range 1 + rng.IntN(12) {
			all = append(all, piece{frames: 100, vector: towards(rng.IntN(3), rng)})
		}
		merges := linkage(all)
		if len(merges) != len(all)-1 {
			t.Fatalf("%d merges of %d pieces", len(merges), len(all))
		}
		for i, want := range plainLinkage(all) {
			if math.Abs(merges[i].height-want) > 1e-5 {
				t.Fatalf("merge %d is at %.6f, want %.6f", i, merges[i].height, want)
			}
		}
	}
}

func plainLinkage(all []piece) (heights []float64) {
	var groups [][]piece
	for _, p := range all {
		groups = append(groups, []piece{p})
	}
	for len(groups) > 1 {
		best, a, b := math.Inf(1), 0, 0
		for i := range groups {
			for j := range i {
				sum := 0.0
				for _, p := range groups[i] {
					for _, q := range groups[j] {
						sum += 1 - dot(p.vector, q.vector)
					}
				}
				if mean := sum / float64(len(groups[i])*len(groups[j])); mean < best {
					best, a, b = mean, i, j
				}
			}
		}
		heights = append(heights, best)
		groups[a] = append(groups[a], groups[b]...)
		groups = slices.Delete(groups, b, b+1)
	}
	return heights
}

func TestStretches(t *testing.T) {
	at := func(runs ...any) []uint8 { // of bits and lengths
		var speak []uint8
		for i := 0; i < len(runs); i += 2 {
			speak = append(speak, slices.Repeat([]uint8{uint8(runs[i].(int))}, runs[i+1].(int))...)
		}
		return speak
	}
	for name, c := range map[string]struct {
		speak []uint8
		want  []string // from-to frames
	}{
		"nobody":                  {at(0, 100), nil},
		"too short":               {at(0, 10, 1, 29, 0, 61), nil},
		"one stretch":             {at(0, 10, 1, 40, 0, 50), []string{"10-50 40"}},
		"over a breath":           {at(1, 40, 0, 10, 1, 40), []string{"0-90 80"}},
		"two after a pause":       {at(1, 40, 0, 30, 1, 40), []string{"0-40 40", "70-110 40"}},
		"over another one's word": {at(1, 40, 3, 10, 1, 40), []string{"0-90 80"}},
		"parted by another one":   {at(1, 40, 2, 5, 1, 40), []string{"0-40 40", "45-85 40"}},
		"long":                    {at(1, 500), []string{"0-166 166", "166-333 167", "333-500 167"}},
	} {
		var got []string
		for _, p := range stretches(c.speak, 1) {
			got = append(got, fmt.Sprintf("%d-%d %d", p.from, p.to, p.frames))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// ears hear each level as a voice, of which a window has up to three, numbered as they come; and all as one person.
type ears struct{ err error }

func (n ears) Segment(pcm []float32) ([]float32, error) {
	out := slices.Repeat([]float32{-9}, WindowFrames*Sets)
	numbers := map[float32]int{}
	for i := range WindowFrames {
		v := pcm[min(i*frameHop+frameReach/2, Window-1)]
		set := 0
		if v != 0 {
			if _, known := numbers[v]; !known {
				numbers[v] = len(numbers) % windowVoices
			}
			set = 1 + numbers[v]
		}
		out[i*Sets+set] = 0
	}
	return out, n.err
}

func (n ears) Embed([]float32) ([]float32, error) { return []float32{1, 2, 3}, n.err }

// say is 16-bit PCM in which levels follow each other for the given seconds.
func say(parts ...float64) []byte {
	var raw []byte
	for i := 0; i < len(parts); i += 2 {
		for range int(parts[i+1] * Rate) {
			raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(parts[i]*32768)))
		}
	}
	return raw
}

// Turns are where they are in windows that overlap, to a frame, up to the end of the recording.
func TestHearFindsTurns(t *testing.T) {
	pcm := say(0, 1, 0.5, 3, 0, 2, 0.5, 7.5)
	turns, err := Hear(bytes.NewReader(pcm), ears{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := []transcript.Turn{{Start: 1, End: 4}, {Start: 6, End: 13.5}}
	if len(turns) != len(want) {
		t.Fatalf("%+v, want %+v", turns, want)
	}
	for i, w := range want {
		if math.Abs(turns[i].Start-w.Start) > 0.02 || math.Abs(turns[i].End-w.End) > 0.035 || turns[i].End > 13.5 {
			t.Errorf("%+v, want %+v", turns[i], w)
		}
	}
	for _, n := range []int{0, 1, 100, 2 * Rate * 3} {
		if turns, err := Hear(bytes.NewReader(make([]byte, n)), ears{}, 0); err != nil || len(turns) != 0 {
			t.Errorf("%d bytes of silence: %+v, %v", n, turns, err)
		}
	}
	boom := errors.New("boom")
	if _, err := Hear(bytes.NewReader(pcm), ears{boom}, 0); !errors.Is(err, boom) {
		t.Errorf("a network that fails: %v", err)
	}
}

// Of windows that do not agree the frame's own votes decide, and a change that they hear at different times falls once.
func TestTally(t *testing.T) {
	speak := func(runs ...int) []uint8 {
		return slices.Concat(slices.Repeat([]uint8{1}, runs[0]), slices.Repeat([]uint8{2}, runs[1]))
	}
	whole := func(bits uint8) piece { return piece{bit: bits, to: WindowFrames} }
	windows := []window{
		{speak: speak(400, 189), pieces: []piece{whole(1), whole(2)}},
		{speak: speak(110, 479), pieces: []piece{whole(1), whole(2)}}, // hears the change at 406
	}
	turns := newTally(windows, [][]int{{0, 1}, {0, 1}}, 2, 885).turns()
	if len(turns) != 2 || turns[0].Speaker != 0 || turns[1].Speaker != 1 || math.Abs(turns[0].End-turns[1].Start) > 1e-9 ||
		turns[0].End < seconds(400) || turns[0].End > seconds(406) {
		t.Errorf("%+v", turns)
	}
}
