package voices

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// What pyannote's segmentation 3.0 takes and gives: 10 s of audio, and for each of 589 frames of 16.875 ms the logarithm of how
// likely each set of up to two of three voices speaks. The voices are those of this window: in the next one they are numbered
// anew.
const (
	Window       = 10 * Rate // samples
	WindowFrames = 589
	Sets         = 7
	windowVoices = 3   // that a window knows apart
	frameHop     = 270 // samples
	frameReach   = 991 // samples that a frame depends on: its middle is half of them after its start
)

// sets says which voices speak in each class of the network, as bits.
var sets = [Sets]uint8{0, 1, 2, 4, 1 | 2, 1 | 4, 2 | 4}

// hop is from where one window starts to where the next one does: about half, and a whole number of frames.
const (
	hopFrames = 296
	hop       = hopFrames * frameHop
)

const (
	// clean is how much a voice must speak alone without a pause, in frames, for just that to be listened to: half a second.
	clean = 30
	// shortest is what a voice must speak at all in a window to be told from others: 0.2 s. Less says nothing of who it is.
	shortest = 12
	// pause is how many frames of silence part two pieces of a voice: 0.3 s.
	pause = 18
	// longest is the most frames of a piece: 4 s. Longer ones are cut in equal parts, for the network may take two people for one
	// voice who are alike, or who take turns quickly.
	longest = 237
)

// Networks are what a recording is heard with. They are used by one goroutine.
type Networks interface {
	// Segment takes Window samples and gives WindowFrames times Sets log-probabilities.
	Segment(pcm []float32) ([]float32, error)
	// Embed takes features of Bands values per frame, each band's mean taken off, and gives a vector whose direction is the voice.
	Embed(features []float32) ([]float32, error)
}

// window is what was heard of one window.
type window struct {
	speak  []uint8 // for each frame, the bits of the voices that speak
	pieces []piece // in the order of their time, voice by voice
}

// piece is a stretch of one voice of a window.
type piece struct {
	bit      uint8     // of the voice
	from, to int       // frames
	frames   int       // that it was listened to
	vector   []float64 // of length 1
}

// listener hears windows.
type listener struct {
	nets Networks
	bank *filterBank
}

// listen hears all windows of 16-bit PCM. Only one is in memory at a time. It returns the number of samples, too.
func (l *listener) listen(pcm io.Reader) (windows []window, samples int64, err error) {
	buf, raw := make([]float32, Window), make([]byte, 2*Window)
	have := 0
	for {
		n, err := io.ReadFull(pcm, raw[:2*(Window-have)])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return nil, 0, fmt.Errorf("read audio: %w", err)
		}
		for i := range n / 2 {
			buf[have+i] = float32(int16(binary.LittleEndian.Uint16(raw[2*i:]))) / 32768
		}
		samples += int64(n / 2)
		// The last window is heard where it holds anything that the one before does not.
		if n > 0 {
			clear(buf[have+n/2:])
			w, err := l.window(buf)
			if err != nil {
				return nil, 0, err
			}
			windows = append(windows, w)
		}
		if end {
			return windows, samples, nil
		}
		have = copy(buf, buf[hop:])
	}
}

// window hears Window samples.
func (l *listener) window(pcm []float32) (window, error) {
	logits, err := l.nets.Segment(pcm)
	if err != nil {
		return window{}, fmt.Errorf("find turns: %w", err)
	}
	if len(logits) != WindowFrames*Sets {
		return window{}, fmt.Errorf("find turns: %d values, want %d", len(logits), WindowFrames*Sets)
	}
	w := window{speak: make([]uint8, WindowFrames)}
	var heard uint8
	for i := range w.speak {
		w.speak[i] = sets[argmax(logits[i*Sets:(i+1)*Sets])]
		heard |= w.speak[i]
	}
	if heard == 0 {
		return w, nil
	}
	features := l.bank.features(pcm)
	for v := range windowVoices {
		pieces, err := l.voice(w.speak, uint8(1)<<v, features)
		if err != nil {
			return window{}, err
		}
		w.pieces = append(w.pieces, pieces...)
	}
	return w, nil
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

// voice listens to one voice of a window, piece by piece where it speaks alone, or else to all of it.
func (l *listener) voice(speak []uint8, bit uint8, features []float32) ([]piece, error) {
	var pieces []piece
	for _, p := range stretches(speak, bit) {
		vector, err := l.embed(speak, p, features, func(s uint8) bool { return s == bit })
		if err != nil {
			return nil, err
		}
		if p.vector = vector; vector != nil {
			pieces = append(pieces, p)
		}
	}
	if len(pieces) == 0 {
		rest := piece{bit: bit, to: len(speak)}
		is := func(s uint8) bool { return s&bit != 0 }
		n := 0
		for _, s := range speak {
			if is(s) {
				n++
			}
		}
		if n < shortest {
			return nil, nil
		}
		vector, err := l.embed(speak, rest, features, is)
		if rest.vector = vector; err != nil || vector == nil {
			return nil, err
		}
		pieces = append(pieces, rest)
	}
	return pieces, nil
}

// stretches are where a voice speaks alone for long enough.
func stretches(speak []uint8, bit uint8) []piece {
	var found []piece
	for i := 0; i < len(speak); i++ {
		if speak[i] != bit {
			continue
		}
		p := piece{bit: bit, from: i}
		for last := i; i < len(speak) && i-last <= pause && (speak[i] == 0 || speak[i]&bit != 0); i++ {
			if speak[i] == bit {
				last = i
				p.to = i + 1
				p.frames++
			}
		}
		i = p.to - 1
		found = append(found, p)
	}
	var pieces []piece
	for _, p := range found {
		if p.frames < clean {
			continue
		}
		n := (p.to - p.from + longest - 1) / longest
		for k := range n {
			part := piece{bit: bit, from: p.from + k*(p.to-p.from)/n, to: p.from + (k+1)*(p.to-p.from)/n}
			for _, s := range speak[part.from:part.to] {
				if s == bit {
					part.frames++
				}
			}
			pieces = append(pieces, part)
		}
	}
	return pieces
}

// embed makes a vector of those frames of a piece that is takes; nil where there is nothing to be heard.
func (l *listener) embed(speak []uint8, p piece, features []float32, is func(uint8) bool) ([]float64, error) {
	var heard []float32
	for i := range len(features) / Bands {
		middle := i*frameStep + frameSize/2
		at := min(max(0, (middle-frameReach/2+frameHop/2)/frameHop), len(speak)-1)
		if p.from <= at && at < p.to && is(speak[at]) {
			heard = append(heard, features[i*Bands:(i+1)*Bands]...)
		}
	}
	if len(heard) == 0 {
		return nil, nil
	}
	level(heard)
	vector, err := l.nets.Embed(heard)
	if err != nil {
		return nil, fmt.Errorf("know a voice: %w", err)
	}
	return unit(vector), nil
}

// level takes each band's mean off.
func level(features []float32) {
	n := len(features) / Bands
	for b := range Bands {
		sum := 0.0
		for i := range n {
			sum += float64(features[i*Bands+b])
		}
		mean := float32(sum / float64(n))
		for i := range n {
			features[i*Bands+b] -= mean
		}
	}
}

// unit is x at length 1, or nil where that says nothing.
func unit(x []float32) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return nil
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v) / math.Sqrt(sum)
	}
	return out
}
