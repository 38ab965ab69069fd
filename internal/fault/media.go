package fault

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// rate of the recordings, in samples per second.
const rate = 16000

// speech makes a recording of so many seconds in WAV: bursts of tones of random length and height with pauses between, so that
// there is something to measure, to cut and to leave out, and no two seconds are alike.
func speech(seed uint64, seconds int) []byte {
	r := rand.New(rand.NewPCG(seed, uint64(seconds)))
	pcm := make([]int16, 0, seconds*rate)
	for len(pcm) < seconds*rate {
		freq, level := 120+400*r.Float64(), 3000+9000*r.Float64()
		for i := range rate/4 + r.IntN(2*rate) {
			pcm = append(pcm, int16(level*math.Sin(2*math.Pi*freq*float64(i)/rate)+200*r.NormFloat64()))
		}
		pcm = append(pcm, make([]int16, r.IntN(rate))...)
	}
	return wav(pcm[:seconds*rate])
}

// head is the begin of a recording in WAV of 16 kHz mono.
func head(recording []byte, seconds int) []byte {
	_, data, _ := bytes.Cut(recording, []byte("data"))
	data = data[min(4, len(data)):] // its length
	pcm := make([]int16, min(seconds*rate, len(data)/2))
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(data[2*i:])) //nolint:gosec // that is what samples are
	}
	return wav(pcm)
}

// wav puts a header before samples of 16 kHz mono.
func wav(pcm []int16) []byte {
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a buffer takes all
	n := uint32(2 * len(pcm))
	b.WriteString("RIFF")
	le(36 + n)
	b.WriteString("WAVEfmt ")
	le(struct { // PCM, one channel
		Size          uint32
		Format, Count uint16
		Rate, Bytes   uint32
		Block, Bits   uint16
	}{16, 1, 1, rate, 2 * rate, 2, 16})
	b.WriteString("data")
	le(n)
	le(pcm)
	return b.Bytes()
}
