package audio

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"

	"steno/transcript"
)

// Stream is a file's audio at its final level, read from its start to its end. One goroutine uses it; Close may be called at any
// time by that goroutine and never hangs.
type Stream struct {
	m    Measurement
	tl   Timeline
	ctx  context.Context
	gain float64 // dB that kept audio still needs
	kept *spool
	// decode starts the second decode, which is needed only where kept does not have the audio.
	decode  func() (*decoder, error)
	decoder *decoder // nil until it is
	shut    bool
}

// Prepare decodes and measures the file, and keeps its audio on disk. It returns when the first sample can be read. Where the
// audio cannot be kept a second decode is started, whose PCM the stream then gives. ctx bounds the stream's life. Errors of class
// INPUT: CORRUPT, TRUNCATED, DURATION_LIMIT.
func Prepare(ctx context.Context, t Tools, path string, info Info, plan Plan) (*Stream, error) {
	if plan.Loudness == Classic {
		t.MaxScratch = -1 // its level comes from ffmpeg
	}
	kept := newSpool(t)
	m, err := measure(ctx, t, path, info, plan, kept)
	if err != nil {
		kept.close()
		return nil, err
	}
	s := &Stream{m: m, ctx: ctx, kept: kept}
	if plan.Loudness != Off {
		// The threshold is meant at the corrected level: a quiet recording's speech must not pass for silence.
		s.gain = m.GainDB
	}
	s.tl = newTimeline(m.env, m.Samples, plan, plan.SilenceDB-s.gain)
	if m.Loudness <= silentLoudness && m.TruePeak <= plan.SilenceDB {
		s.tl.Speech = nil
	}
	s.decode = func() (*decoder, error) { return t.decode(ctx, path, plan, m) }
	switch {
	case len(s.tl.Speech) == 0:
		kept.close()
	case !kept.whole():
		s.decoder, err = s.decode()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Timeline tells where the file has sound.
func (s *Stream) Timeline() Timeline { return s.tl }

// Measurement tells what the file is like.
func (s *Stream) Measurement() Measurement { return s.m }

// Waveform is the course of the level that the stream gives, in at most most steps.
func (s *Stream) Waveform(most int) transcript.Waveform { return s.m.env.waveform(s.gain, most) }

// read fills pcm from the sample at, which must not be before what was read last.
func (s *Stream) read(pcm []int16, at int64) error {
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case s.shut:
		return fmt.Errorf("read kept audio: %w", os.ErrClosed)
	}
	if s.decoder == nil {
		err := s.kept.read(pcm, at, float32(math.Pow(10, s.gain/20)))
		if err == nil {
			return nil
		}
		// The disk lost what it took. The file is still there.
		s.kept.close()
		if s.decoder, err = s.decode(); err != nil {
			return err
		}
	}
	return s.decoder.read(pcm, at)
}

// Close gives everything back. Later calls do nothing.
func (s *Stream) Close() error {
	s.kept.close()
	if s.decoder != nil && !s.shut {
		s.decoder.close()
	}
	s.shut = true
	return nil
}

// Splitter gives a stream's chunks in order. One goroutine uses it.
type Splitter struct {
	s     *Stream
	spans []Span
	index int
}

// Split plans where the stream is cut. Chunks are at most plan.ChunkSeconds long, cover every sample of the timeline's
// speech exactly once, and are cut in pauses where there are any, else at the quietest place.
func Split(s *Stream, plan Plan) *Splitter {
	return &Splitter{s: s, spans: cuts(s.tl, s.m.env, int64(plan.ChunkSeconds*Rate))}
}

// Len is the number of chunks.
func (p *Splitter) Len() int { return len(p.spans) }

// Next reads the next chunk; io.EOF after the last. Only that chunk is in memory.
func (p *Splitter) Next(ctx context.Context) (Chunk, error) {
	if err := ctx.Err(); err != nil {
		return Chunk{}, err
	}
	if p.index == len(p.spans) {
		return Chunk{}, io.EOF
	}
	c := Chunk{Index: p.index, Span: p.spans[p.index]}
	c.PCM = make([]int16, c.Span.Len())
	if err := p.s.read(c.PCM, c.Span.Start); err != nil {
		return Chunk{}, err
	}
	p.index++
	return c, nil
}
