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

// decoder is a second decode of a file: where its audio could not be kept, and for Classic, whose level is not one gain. It goes
// forward only. One goroutine uses it.
type decoder struct {
	ctx   context.Context
	run   *running
	r     *bufio.Reader
	log   *proc.Tail
	pos   int64
	total int64 // samples of the first decode
}

// decode starts a decoder of a channel, as playFilters counts them. ctx bounds its life.
func (t Tools) decode(ctx context.Context, path string, plan Plan, m Measurement, channel int) (*decoder, error) {
	abs, _, err := regular(path)
	if err != nil {
		return nil, err
	}
	d := &decoder{ctx: ctx, log: &proc.Tail{}, total: m.Samples}
	args := append([]string{"-v", "error"}, decodeArgs(abs, plan, "s16le", playFilters(plan, m.GainDB, channel))...)
	if d.run, err = t.start(ctx, abs, args, d.log); err != nil {
		return nil, err
	}
	d.r = bufio.NewReaderSize(d.run.out, 1<<16)
	return d, nil
}

// tolerance is how many samples the second decode may be short of the first: 0.1 s, the rounding of a dynamic filter.
const tolerance = Rate / 10

// read fills pcm from the sample at, which must not be before what was read last.
func (d *decoder) read(pcm []int16, at int64) error {
	if err := d.skipTo(at); err != nil {
		return err
	}
	buf := make([]byte, 1<<13)
	for done := 0; done < len(pcm); {
		n, err := io.ReadFull(d.r, buf[:min(len(buf), 2*(len(pcm)-done))])
		for i := 0; i+1 < n; i += 2 {
			pcm[done] = int16(binary.LittleEndian.Uint16(buf[i:]))
			done++
		}
		d.pos += int64(n / 2)
		if err != nil {
			if left := d.total - d.pos; errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				if left <= tolerance && d.ctx.Err() == nil {
					return nil // the rest of pcm stays silent
				}
			}
			return d.ended(err)
		}
	}
	return nil
}

// skipTo discards audio up to the sample pos.
func (d *decoder) skipTo(pos int64) error {
	for d.pos < pos {
		n, err := d.r.Discard(int(2 * min(pos-d.pos, 1<<14)))
		d.pos += int64(n / 2)
		if err != nil {
			return d.ended(err)
		}
	}
	return nil
}

// ended says why the decoder stopped early.
func (d *decoder) ended(err error) error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return job.Errorf(job.Internal, "DECODE", "the second decode ended at %.1f s of %.1f s: was the file changed meanwhile? (%s)",
			Seconds(d.pos), Seconds(d.total), lastLine(d.log.String()))
	}
	return fmt.Errorf("read decoded audio: %w", err)
}

// close ends the process.
func (d *decoder) close() {
	_ = d.run.wait(true) // it was told to stop: how it did says nothing
}
