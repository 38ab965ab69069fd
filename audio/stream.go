package audio

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// Stream is a file's audio at its final level, read from its start to its end. One goroutine uses it; Close may be called at any
// time by that goroutine and never hangs.
type Stream struct {
	channel int // from 1; 0 where all are mixed
	m       Measurement
	tl      Timeline
	ctx     context.Context
	gain    float64 // dB that kept audio still needs
	kept    *spool
	// decode starts the second decode, which is needed only where kept does not have the audio.
	decode  func() (*decoder, error)
	decoder *decoder // nil until it is
	shut    bool
}

// Prepare decodes and measures the file, and keeps its audio on disk. It returns when the first sample can be read. Where the
// audio cannot be kept a second decode is started, whose PCM the stream then gives. ctx bounds the stream's life. Errors of class
// INPUT: CORRUPT, TRUNCATED, DURATION_LIMIT.
func Prepare(ctx context.Context, t Tools, path string, info Info, plan Plan) (*Stream, error) {
	kept := t.spool(plan)
	m, err := measure(ctx, t, path, info, plan, kept)
	if err != nil {
		kept.close()
		return nil, err
	}
	s := newStream(ctx, plan, 0, m, kept)
	s.tl = newTimeline(m.env, m.Samples, plan, plan.SilenceDB-s.gain)
	if err := s.open(t, path, plan); err != nil {
		return nil, err
	}
	return s, nil
}

func newStream(ctx context.Context, plan Plan, channel int, m Measurement, kept *spool) *Stream {
	s := &Stream{channel: channel, m: m, ctx: ctx, kept: kept}
	if plan.Loudness != Off {
		// The threshold is meant at the corrected level: a quiet recording's speech must not pass for silence.
		s.gain = m.GainDB
	}
	return s
}

// open makes a stream that has its timeline ready to be read. On an error it is closed.
func (s *Stream) open(t Tools, path string, plan Plan) (err error) {
	if s.m.Loudness <= silentLoudness && s.m.TruePeak <= plan.SilenceDB {
		s.tl.Speech = nil
	}
	s.decode = func() (*decoder, error) { return t.decode(s.ctx, path, plan, s.m, s.channel) }
	switch {
	case len(s.tl.Speech) == 0:
		s.kept.close()
	case !s.kept.whole():
		s.decoder, err = s.decode()
	}
	return err
}

// Channel is the one that the stream is, from 1, or 0 where all channels are mixed.
func (s *Stream) Channel() int { return s.channel }

// Timeline tells where the file has sound.
func (s *Stream) Timeline() Timeline { return s.tl }

// Measurement tells what the file is like.
func (s *Stream) Measurement() Measurement { return s.m }

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

// Whole is all of the recording, silence too, at its final level, as 16-bit little-endian PCM of one channel at Rate: to be read
// beside the chunks, by one other goroutine. The caller must close it, before or after the stream.
func (s *Stream) Whole() io.ReadCloser {
	w := &whole{s: s, total: s.m.Samples}
	if s.decoder == nil && s.kept.f != nil {
		w.kept = &spool{f: s.kept.f}
	}
	return w
}

// whole reads a stream from its start to its end, apart from what its chunks read.
type whole struct {
	s         *Stream
	kept      *spool // another view of the stream's; nil where the audio is not kept
	decoder   *decoder
	at, total int64
	pcm       []int16
	raw       []byte // of pcm, what has not been read
}

func (w *whole) Read(p []byte) (int, error) {
	if len(w.raw) == 0 {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.raw)
	w.raw = w.raw[n:]
	return n, nil
}

// fill reads the next second.
func (w *whole) fill() (err error) {
	if w.at == w.total {
		return io.EOF
	}
	w.pcm = append(w.pcm[:0], make([]int16, min(Rate, w.total-w.at))...)
	if w.kept != nil {
		err = w.kept.read(w.pcm, w.at, float32(math.Pow(10, w.s.gain/20)))
	} else {
		if w.decoder == nil {
			if w.decoder, err = w.s.decode(); err != nil {
				return err
			}
		}
		err = w.decoder.read(w.pcm, w.at)
	}
	if err != nil {
		return err
	}
	w.at += int64(len(w.pcm))
	w.raw = w.raw[:0]
	for _, v := range w.pcm {
		w.raw = binary.LittleEndian.AppendUint16(w.raw, uint16(v))
	}
	return nil
}

func (w *whole) Close() error {
	if w.decoder != nil {
		w.decoder.close()
	}
	w.decoder = nil
	return nil
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

// Splitter gives the chunks of streams in the order of their time. One goroutine uses it.
type Splitter struct {
	pieces []piece
	next   int
}

// piece is a chunk that is not read yet.
type piece struct {
	s     *Stream
	index int
	span  Span
}

// Split plans where the streams are cut. Chunks are at most plan.ChunkSeconds long, cover every sample of a timeline's speech
// exactly once, and are cut in pauses where there are any, else at the quietest place.
func Split(plan Plan, streams ...*Stream) *Splitter {
	p := &Splitter{}
	for _, s := range streams {
		for i, span := range cuts(s.tl, s.m.env, int64(plan.ChunkSeconds*Rate)) {
			p.pieces = append(p.pieces, piece{s, i, span})
		}
	}
	slices.SortStableFunc(p.pieces, func(a, b piece) int { return cmp.Compare(a.span.Start, b.span.Start) })
	return p
}

// Len is the number of chunks.
func (p *Splitter) Len() int { return len(p.pieces) }

// Starts are the samples where the chunks of a stream begin.
func (p *Splitter) Starts(s *Stream) []int64 {
	var at []int64
	for _, c := range p.pieces {
		if c.s == s {
			at = append(at, c.span.Start)
		}
	}
	return at
}

// Next reads the next chunk; io.EOF after the last. Only that chunk is in memory.
func (p *Splitter) Next(ctx context.Context) (Chunk, error) {
	if err := ctx.Err(); err != nil {
		return Chunk{}, err
	}
	if p.next == len(p.pieces) {
		return Chunk{}, io.EOF
	}
	of := p.pieces[p.next]
	c := Chunk{Channel: of.s.channel, Index: of.index, Span: of.span, PCM: make([]int16, of.span.Len())}
	if err := of.s.read(c.PCM, c.Span.Start); err != nil {
		return Chunk{}, err
	}
	p.next++
	return c, nil
}
