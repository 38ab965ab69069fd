package voices

import (
	"cmp"
	"slices"

	"steno/transcript"
)

const (
	breath   = 12 // frames of silence within a turn: 0.2 s
	briefest = 6  // frames of a turn: 0.1 s
)

// tally adds up what the windows say of each frame of the recording.
type tally struct {
	n       int
	windows []uint8   // that cover a frame
	voices  []uint8   // that speak in them, together
	votes   [][]uint8 // for each speaker, the windows in which it does
}

func newTally(windows []window, of [][]int, speakers, frames int) *tally {
	t := &tally{n: frames, windows: make([]uint8, frames), voices: make([]uint8, frames), votes: make([][]uint8, speakers)}
	for s := range t.votes {
		t.votes[s] = make([]uint8, frames)
	}
	for w := range windows {
		for i, bits := range windows[w].speak {
			at := w*hopFrames + i
			if at >= frames {
				break
			}
			t.windows[at]++
			for v := range windowVoices {
				s := speakerAt(windows[w].pieces, of[w], i, uint8(1)<<v)
				if bits&(1<<v) != 0 && s >= 0 {
					t.voices[at]++
					t.votes[s][at]++
				}
			}
		}
	}
	return t
}

// speakerAt is who a voice is in a frame: the speaker of the piece that is nearest. -1 where the voice has none.
func speakerAt(pieces []piece, of []int, frame int, bit uint8) int {
	who, nearest := -1, WindowFrames+1
	for i, p := range pieces {
		if p.bit != bit {
			continue
		}
		if far := max(p.from-frame, frame-p.to+1, 0); far < nearest {
			who, nearest = of[i], far
		}
	}
	return who
}

// turns are who speaks when: in each frame as many speakers as the windows have heard on average, those with the most votes.
func (t *tally) turns() []transcript.Turn {
	on := make([][]bool, len(t.votes))
	for s := range on {
		on[s] = make([]bool, t.n)
	}
	order := make([]int, len(t.votes))
	for s := range order {
		order[s] = s
	}
	for i := range t.n {
		if t.voices[i] == 0 {
			continue
		}
		count := (2*int(t.voices[i]) + int(t.windows[i])) / (2 * int(t.windows[i])) // rounded
		// Among equals whoever spoke before goes on: at a half, one window hears a change that the other one does not.
		slices.SortStableFunc(order, func(a, b int) int {
			return cmp.Or(cmp.Compare(t.votes[b][i], t.votes[a][i]), cmp.Compare(before(on[b], i), before(on[a], i)), cmp.Compare(a, b))
		})
		for _, s := range order[:min(count, len(order))] {
			on[s][i] = t.votes[s][i] > 0
		}
	}
	var turns []transcript.Turn
	for s := range on {
		for _, r := range runs(on[s]) {
			turns = append(turns, transcript.Turn{Start: seconds(r[0]), End: seconds(r[1]), Speaker: s})
		}
	}
	slices.SortStableFunc(turns, func(a, b transcript.Turn) int { return cmp.Compare(a.Start, b.Start) })
	return turns
}

func before(on []bool, i int) int {
	if i > 0 && on[i-1] {
		return 1
	}
	return 0
}

// runs are where on holds, from and to, without gaps of a breath and what is too brief then.
func runs(on []bool) [][2]int {
	var out [][2]int
	for i := 0; i < len(on); {
		if !on[i] {
			i++
			continue
		}
		from := i
		for i < len(on) && on[i] {
			i++
		}
		if n := len(out); n > 0 && from-out[n-1][1] <= breath {
			out[n-1][1] = i
		} else {
			out = append(out, [2]int{from, i})
		}
	}
	return slices.DeleteFunc(out, func(r [2]int) bool { return r[1]-r[0] < briefest })
}

// seconds is where a frame begins that is told about its middle.
func seconds(frame int) float64 {
	if frame == 0 {
		return 0
	}
	return float64(frame*frameHop+(frameReach-frameHop)/2) / Rate
}
