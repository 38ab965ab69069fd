// Package voices finds who speaks when in a recording of one channel: windows of 10 s are taken apart into voices by one network
// (pyannote's segmentation 3.0), another one (CAM++) gives each voice a vector, and vectors that are alike are one speaker.
//
// The networks run in a process of their own, as the engine does: [Find] starts it, [Serve] is its other side.
package voices

import (
	"io"
	"math"

	"steno/transcript"
)

// Hear reads 16-bit mono PCM of Rate to its end and says who speaks when. speakers is how many there are, or 0 where that is to
// be found. It holds 30 s of audio in memory and about 4 KB for each 5 s, whatever the length.
func Hear(pcm io.Reader, nets Networks, speakers int) ([]transcript.Turn, error) {
	l := &listener{nets: nets, bank: newFilterBank()}
	windows, samples, err := l.listen(pcm)
	if err != nil {
		return nil, err
	}
	of, n := speakersOf(windows, speakers)
	frames := int(math.Ceil(float64(samples) / frameHop))
	turns := newTally(windows, of, n, frames).turns()
	end := float64(samples) / Rate
	for i := range turns {
		turns[i].End = min(turns[i].End, end)
	}
	return turns, nil
}
