package audio

import (
	"context"
	"io"
	"math"
	"slices"

	"steno/transcript"
)

// PrepareTracks is Prepare for a recording of several people. Where it has two channels with one voice each, as calls have, and
// the plan wants Speakers, it gives a stream for each channel, with a level of its own; otherwise one of all channels, mixed. A
// channel's sound is left out while it is the faint echo of the other one's.
func PrepareTracks(ctx context.Context, t Tools, path string, info Info, plan Plan) ([]*Stream, error) {
	if plan.Speakers && info.Channels == 2 {
		tracks, err := prepareChannels(ctx, t, path, info, plan)
		if err != nil || tracks != nil {
			return tracks, err
		}
	}
	s, err := Prepare(ctx, t, path, info, plan)
	if err != nil {
		return nil, err
	}
	return []*Stream{s}, nil
}

// prepareChannels gives no streams where the channels are no two voices.
func prepareChannels(ctx context.Context, t Tools, path string, info Info, plan Plan) (streams []*Stream, err error) {
	p := pair{meters: [2]*meter{newMeter(t.spool(plan)), newMeter(t.spool(plan))}}
	defer func() {
		if err == nil && streams != nil {
			return
		}
		p.close()
		for _, s := range streams {
			_ = s.Close() // the first error is the one that matters
		}
		streams = nil
	}()
	how, err := t.hear(ctx, path, plan, pairFilters(), &p)
	if err != nil {
		return nil, err
	}
	m := [2]Measurement{p.meters[0].measurement(), p.meters[1].measurement()}
	if !p.levels.separate(m[0].GainDB, m[1].GainDB) {
		return nil, nil
	}
	if err := m[0].check(info, plan, how); err != nil { // once: both are of one file
		return nil, err
	}
	parted := plan
	parted.ChunkSeconds = 0 // silence is left out of a recording of any length: it is where the other one speaks
	for i := range m {
		s := newStream(ctx, plan, i+1, m[i], p.meters[i].keep)
		streams = append(streams, s)
		s.tl = newTimeline(withoutEcho(m[i], m[1-i]), m[i].Samples, parted, plan.SilenceDB-s.gain)
		if err := s.open(t, path, plan); err != nil {
			return streams, err
		}
	}
	return streams, nil
}

// pair meters two channels at a time.
type pair struct {
	meters [2]*meter
	levels levels
	sides  [2][]byte // of a block
}

func (p *pair) close() {
	for _, m := range p.meters {
		m.keep.close()
	}
}

func (p *pair) length() int64 { return p.meters[0].samples }

// readAll reads 32-bit float PCM of two channels, interleaved, to its end.
func (p *pair) readAll(r io.Reader) error { return readBlocks(r, 8, p.add) }

// add takes a block. Only the last may be shorter.
func (p *pair) add(raw []byte) {
	for side, m := range p.meters {
		one := p.sides[side][:0]
		for at := 4 * side; at < len(raw); at += 8 {
			one = append(one, raw[at:at+4]...)
		}
		p.sides[side] = one
		m.add(one)
	}
	if n := len(raw) / 8; n == block {
		p.levels.add(p.meters[0].pcm[:n], p.meters[1].pcm[:n])
	}
}

// stepSize is how many samples of 8 kHz a step of levels has: 0.1 s.
const stepSize = 10 * block / 2

// levels is how two channels go together, in steps of 0.1 s.
type levels struct {
	steps []step
	pcm   [2][]float32 // of the step that is not complete, at 8 kHz
}

// step is the power of two channels in dBFS, and how alike they are: the highest magnitude of their normalised cross-correlation
// over shifts of up to maxShift.
type step struct {
	power [2]float64
	alike float64
}

func (l *levels) add(left, right []float32) {
	for side, pcm := range [][]float32{left, right} {
		for i := 0; i+1 < len(pcm); i += 2 {
			l.pcm[side] = append(l.pcm[side], (pcm[i]+pcm[i+1])/2)
		}
	}
	if len(l.pcm[0]) < stepSize {
		return
	}
	l.steps = append(l.steps, stepOf(l.pcm[0], l.pcm[1]))
	l.pcm[0], l.pcm[1] = l.pcm[0][:0], l.pcm[1][:0]
}

// maxShift is by how much one sound may reach two microphones of a room later, in samples of 8 kHz: 5 ms, 1.7 m of way.
const maxShift = 40

func stepOf(left, right []float32) step {
	a, b := dot(left, left), dot(right, right)
	s := step{power: [2]float64{decibels(a / float64(len(left))), decibels(b / float64(len(right)))}}
	if a == 0 || b == 0 {
		return s
	}
	inner := left[maxShift : len(left)-maxShift]
	for shift := range 2*maxShift + 1 {
		s.alike = max(s.alike, math.Abs(dot(inner, right[shift:])))
	}
	s.alike /= math.Sqrt(a * b)
	return s
}

func decibels(power float64) float64 { return 10 * math.Log10(power+1e-12) }

// dot is the scalar product of a and as much of b.
func dot(a, b []float32) float64 {
	b = b[:len(a)]
	var sum float32
	for i, v := range a {
		sum += v * b[i]
	}
	return float64(sum)
}

const (
	// aliveDB is the power above which a step of a channel counts, in dBFS at its own corrected level: speech is at -16.
	aliveDB = -35
	// aheadDB is by how much a channel must be louder for its sound to be its own. Two microphones in a room hear each voice with
	// a few decibels between them, the two sides of a call with 20 and more.
	aheadDB = 10
	// mostAlike is how alike two channels of about the same level are at most that have different sounds: one sound in both is at
	// 0.8 and more, and two people who speak at once into a microphone each at 0.3 and less.
	mostAlike = 0.4
	// ownShare is the least share of the steps with sound whose sound is a channel's own.
	ownShare = 0.7
	// ownSteps is how often each channel must have a sound of its own: half a second. One that never has holds no voice.
	ownSteps = 5
)

// separate reports whether each channel has a voice of its own. The gains, in dB, are what brings each to its level.
func (l *levels) separate(left, right float64) bool {
	alive, own, sides := 0, 0, [2]int{}
	for _, s := range l.steps {
		a, b := s.power[0]+left, s.power[1]+right
		if max(a, b) < aliveDB {
			continue
		}
		alive++
		switch {
		case a-b >= aheadDB:
			own++
			sides[0]++
		case b-a >= aheadDB:
			own++
			sides[1]++
		case s.alike <= mostAlike:
			own++
			sides[0]++
			sides[1]++
		}
	}
	return min(sides[0], sides[1]) >= ownSteps && float64(own) >= ownShare*float64(alive)
}

const (
	// echoDB is by how much the other channel is louder where a channel's own sound is taken for its echo, each at its own level.
	// Whoever speaks into a microphone is not that much softer there than another one who does into theirs. That an echo rises and
	// falls as its sound does tells no more: people speak over it.
	echoDB = 20
	// echoReach is how far around a block the other channel counts, in blocks: an echo comes later, and fades.
	echoReach = 15
)

// withoutEcho is the envelope of one with silence where other is so much louder that it is its echo.
func withoutEcho(one, other Measurement) envelope {
	out := make(envelope, len(one.env))
	copy(out, one.env)
	rise := other.GainDB - one.GainDB - echoDB
	for i := range out {
		top := slices.Max(other.env[max(0, i-echoReach):min(len(other.env), i+echoReach)])
		if top > 0 && decibelsOf(top)+rise >= one.env.db(i) {
			out[i] = 0
		}
	}
	return out
}

// Waveform is the course of the highest level of streams of one recording, in at most most steps.
func Waveform(most int, streams ...*Stream) transcript.Waveform {
	var top transcript.Waveform
	for i, s := range streams {
		w := s.m.env.waveform(s.gain, most)
		if i == 0 {
			top = w
			continue
		}
		for k := range min(len(top.Peaks), len(w.Peaks)) {
			top.Peaks[k] = max(top.Peaks[k], w.Peaks[k])
		}
	}
	return top
}
