package audio

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"

	"steno/transcript"
)

// block is the grid of the envelope: 10 ms.
const block = Rate / 100

// envelope is the peak level of each block: 0 for digital silence, else 1 + half decibels above -100 dBFS. A byte a block is
// 8.6 MB for a whole day, which keeps memory flat and lets every cut be planned before a chunk is read.
type envelope []byte

// db is the peak level of block i in dBFS.
func (e envelope) db(i int) float64 { return decibelsOf(e[i]) }

// decibelsOf is what level has made of an amplitude, in dBFS; digital silence is at -120.
func decibelsOf(level byte) float64 {
	if level == 0 {
		return -120
	}
	return float64(level-1)/2 - 100
}

// waveform is the envelope, raised by a gain, in steps of as many blocks as make it at most most steps.
func (e envelope) waveform(gain float64, most int) transcript.Waveform {
	size := max(1, (len(e)+most-1)/most)
	w := transcript.Waveform{Step: Seconds(int64(size) * block), Peaks: make([]byte, 0, (len(e)+size-1)/size)}
	for from := 0; from < len(e); from += size {
		top := slices.Max(e[from:min(from+size, len(e))])
		amplitude := 0.0
		if top > 0 {
			amplitude = math.Pow(10, (decibelsOf(top)+gain)/20)
		}
		w.Peaks = append(w.Peaks, byte(math.Round(255*min(1, amplitude))))
	}
	return w
}

// level takes an amplitude as a factor of full scale; less than half a step of 16-bit PCM is digital silence.
func level(peak float32) byte {
	if peak < 0.5/32768 {
		return 0
	}
	return byte(1 + max(0, min(254, math.Round(2*(100+20*math.Log10(float64(peak)))))))
}

// meter takes a file's audio while it decodes, a block at a time, and finds out all that is to be known of it. It runs beside
// ffmpeg, on another core, and takes a fifth of its time. Not safe for concurrent use.
type meter struct {
	samples  int64
	offset   float64 // what the samples lie off zero, over the last second
	env      envelope
	peak     *truePeak
	loudness *loudness
	keep     *spool
	pcm      [block]float32
}

func newMeter(keep *spool) *meter {
	return &meter{peak: newTruePeak(), loudness: newLoudness(), keep: keep}
}

func (m *meter) length() int64 { return m.samples }

// readAll reads 32-bit float PCM to its end. Floats keep what an encoder put above full scale, which 16 bits would clip.
func (m *meter) readAll(r io.Reader) error { return readBlocks(r, 4, m.add) }

// readBlocks reads samples of a size in bytes to their end, and hands them to add in blocks, of which the last may be shorter.
func readBlocks(r io.Reader, size int, add func([]byte)) error {
	buf := make([]byte, 100*size*block) // a second; larger ones, and a larger pipe, gain nothing
	for {
		n, err := io.ReadFull(r, buf)
		for raw := buf[:n/size*size]; len(raw) > 0; {
			part := raw[:min(len(raw), size*block)]
			raw = raw[len(part):]
			add(part)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// add takes a block. Only the last may be shorter.
func (m *meter) add(raw []byte) {
	// Beyond 2^40, which is 240 dBFS, is nothing but what a broken decoder gives, infinities and not-a-numbers among it, and one of
	// them would hide everything after it. 32-bit integers that someone wrote as floats are within.
	const sign, beyond = 1 << 31, (127 + 40) << 23 // of a float32
	pcm, top, sum := m.pcm[:len(raw)/4], uint32(0), float32(0)
	for i := range pcm {
		bits := binary.LittleEndian.Uint32(raw[4*i:])
		magnitude := bits &^ sign
		if magnitude > beyond {
			bits, magnitude = 0, 0
		}
		pcm[i] = math.Float32frombits(bits)
		sum += pcm[i]
		top = max(top, magnitude) // they are in the order of their bits, and comparing those takes a quarter of the time
	}
	peak := math.Float32frombits(top)
	m.samples += int64(len(pcm))
	m.env = append(m.env, level(m.swing(peak, float64(sum)/float64(max(1, len(pcm))))))
	m.peak.add(pcm, peak)
	m.loudness.add(pcm)
	m.keep.add(pcm, peak)
}

// swing is how far a block's samples go from where they rest. Cheap sound cards lift all of a recording off zero, and its silence
// would be as loud as that. Sound has a mean of nothing over a second, and is left as it is; a block that is nearly flat, and not
// at zero, shows at once where it rests.
func (m *meter) swing(peak float32, mean float64) float32 {
	const second, inaudible = 100, 0.003 // in blocks; -50 dBFS
	if away := math.Abs(mean); away > inaudible && float64(peak)-away < away/4 {
		m.offset = mean
	} else {
		m.offset += (mean - m.offset) / second
	}
	if off := math.Abs(m.offset); off > inaudible {
		return max(0, peak-float32(off))
	}
	return peak
}
