package audio

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"steno/internal/proc"
	"steno/job"
)

// Stream is a file's decoded audio, read once from its start to its end. One goroutine uses it; Close may be called at any
// time by that goroutine and never hangs.
type Stream struct {
	m    Measurement
	tl   Timeline
	run  *running // nil where there is nothing to decode
	ctx  context.Context
	r    *bufio.Reader
	log  *proc.Tail
	pos  int64
	shut bool
}

// Prepare measures the file and starts the decode whose PCM the stream gives. It returns when the first sample can be read.
// ctx bounds the stream's life.
func Prepare(ctx context.Context, t Tools, path string, info Info, plan Plan) (*Stream, error) {
	m, err := Measure(ctx, t, path, info, plan)
	if err != nil {
		return nil, err
	}
	gain := 0.0
	if plan.Loudness != Off {
		// The threshold is meant at the corrected level: a quiet recording's speech must not pass for silence.
		gain = m.GainDB
	}
	s := &Stream{m: m, tl: newTimeline(m.env, m.Samples, plan, plan.SilenceDB-gain), ctx: ctx, log: &proc.Tail{}}
	if m.Loudness <= silentLoudness && m.TruePeak <= plan.SilenceDB {
		s.tl.Speech = nil
	}
	if len(s.tl.Speech) == 0 {
		return s, nil
	}
	abs, _, err := regular(path)
	if err != nil {
		return nil, err
	}
	args := append([]string{"-v", "error"}, decodeArgs(abs, plan, "s16le", playFilters(plan, m.GainDB))...)
	if s.run, err = t.start(ctx, args, s.log); err != nil {
		return nil, err
	}
	s.r = bufio.NewReaderSize(s.run.out, 1<<16)
	return s, nil
}

// Timeline tells where the file has sound.
func (s *Stream) Timeline() Timeline { return s.tl }

// Measurement tells what the file is like.
func (s *Stream) Measurement() Measurement { return s.m }

// tolerance is how many samples the second decode may be short of the first: 0.1 s, the rounding of a dynamic filter.
const tolerance = Rate / 10

// skipTo discards audio up to the sample pos.
func (s *Stream) skipTo(pos int64) error {
	for s.pos < pos {
		n, err := s.r.Discard(int(2 * min(pos-s.pos, 1<<14)))
		s.pos += int64(n / 2)
		if err != nil {
			return s.ended(err)
		}
	}
	return nil
}

// read fills pcm from the stream's position.
func (s *Stream) read(pcm []int16) error {
	buf := make([]byte, 1<<13)
	for done := 0; done < len(pcm); {
		n, err := io.ReadFull(s.r, buf[:min(len(buf), 2*(len(pcm)-done))])
		for i := 0; i+1 < n; i += 2 {
			pcm[done] = int16(binary.LittleEndian.Uint16(buf[i:]))
			done++
		}
		s.pos += int64(n / 2)
		if err != nil {
			if left := s.m.Samples - s.pos; errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				if left <= tolerance && s.ctx.Err() == nil {
					return nil // the rest of pcm stays silent
				}
			}
			return s.ended(err)
		}
	}
	return nil
}

// ended says why the decoder stopped early.
func (s *Stream) ended(err error) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return job.Errorf(job.Internal, "DECODE", "the second decode ended at %.1f s of %.1f s: was the file changed meanwhile? (%s)",
			Seconds(s.pos), Seconds(s.m.Samples), s.log)
	}
	return fmt.Errorf("read decoded audio: %w", err)
}

// Close ends the decoder and gives everything back. Later calls do nothing.
func (s *Stream) Close() error {
	if s.run == nil || s.shut {
		return nil
	}
	s.shut = true
	_ = s.run.wait(true) // it was told to stop: how it did says nothing
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
	if err := p.s.skipTo(c.Span.Start); err != nil {
		return Chunk{}, err
	}
	c.PCM = make([]int16, c.Span.Len())
	if err := p.s.read(c.PCM); err != nil {
		return Chunk{}, err
	}
	p.index++
	return c, nil
}
