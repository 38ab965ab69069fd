package audio

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"syscall"
)

const (
	// recordSize is what a block of audio takes in a spool, in bytes: its step and its samples.
	recordSize = 4 + 2*block
	// spoolBuffer is how much is written and read at a time: two seconds.
	spoolBuffer = 200 * recordSize
	// defaultSpool is the most that one file's audio may take on disk where Tools do not say: 1 GiB, more than nine hours.
	defaultSpool = 1 << 30
	// spared is what a spool leaves free on its disk, in bytes. Record and queue may be on the same disk, and cannot do without.
	spared = 1 << 30
	// spoolCheck is after how many bytes the free space is looked at again.
	spoolCheck = 16 << 20
	// faintest is the peak up to which a block is stored as silence: -400 dBFS, well before its inverse is no float32 any more.
	faintest = 1e-20
)

// spool keeps a file's audio while it is measured, so that it need not be decoded again. It is in a file that has no name, which
// leaves nothing, however the process ends.
//
// A block is stored as 16-bit samples in steps of its own peak / 32767, and that step. Nothing is clipped, however far above full
// scale, and the error is at most half a step, 96 dB below the block's peak at any level. The gain raises both alike, and after
// it no peak is above full scale: the error is then at most half a step of 16-bit PCM, which rounding to it costs in any case.
//
// One goroutine uses it. It never fails a job: where the disk cannot take more it gives up, which whole tells.
type spool struct {
	f       *os.File // nil after giving up
	buf     []byte   // records not written yet
	size    int64    // bytes written
	limit   int64
	spare   uint64 // bytes to leave free
	checked int64  // size when free space was looked at last
}

// spool makes the spool of a stream. What Classic levels is not kept, for its level comes from ffmpeg.
func (t Tools) spool(plan Plan) *spool {
	if plan.Loudness == Classic {
		t.MaxScratch = -1
	}
	return newSpool(t)
}

// newSpool makes a spool in t.Scratch. Where that cannot be it has given up from the start.
func newSpool(t Tools) *spool {
	s := &spool{limit: t.MaxScratch, spare: spared, checked: -spoolCheck}
	switch {
	case s.limit < 0:
		return s
	case s.limit == 0:
		s.limit = defaultSpool
	}
	f, err := os.CreateTemp(t.Scratch, "audio-*")
	if err != nil {
		return s
	}
	s.f = f
	if err := os.Remove(f.Name()); err != nil {
		s.close()
	}
	return s
}

// add takes the next block and its peak. All but the last must be full.
func (s *spool) add(pcm []float32, peak float32) {
	if s.f == nil {
		return
	}
	step, inverse := float32(0), float32(0)
	if peak > faintest {
		step, inverse = peak/math.MaxInt16, math.MaxInt16/peak
	}
	at := len(s.buf)
	s.buf = append(s.buf, make([]byte, 4+2*len(pcm))...)
	binary.LittleEndian.PutUint32(s.buf[at:], math.Float32bits(step))
	out := s.buf[at+4:]
	for i, v := range pcm {
		binary.LittleEndian.PutUint16(out[2*i:], uint16(round(v*inverse)))
	}
	if len(s.buf) >= spoolBuffer {
		s.flush()
	}
}

// flush writes what is held, or gives up.
func (s *spool) flush() {
	if s.f == nil || s.size+int64(len(s.buf)) > s.limit || !s.room() {
		s.close()
		return
	}
	n, err := s.f.Write(s.buf)
	s.size += int64(n)
	s.buf = s.buf[:0]
	if err != nil {
		s.close()
	}
}

// room reports whether the disk has anything to spare.
func (s *spool) room() bool {
	if s.size-s.checked < spoolCheck {
		return true
	}
	s.checked = s.size
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(s.f.Fd()), &st); err != nil {
		return false
	}
	return st.Bavail*uint64(st.Bsize) > s.spare
}

// whole ends the writing and reports whether all of the audio is kept.
func (s *spool) whole() bool {
	s.flush()
	return s.f != nil
}

// read fills pcm from the sample at, raised by the factor gain and rounded to 16 bits.
func (s *spool) read(pcm []int16, at int64, gain float32) error {
	if cap(s.buf) < spoolBuffer {
		s.buf = make([]byte, spoolBuffer)
	}
	for len(pcm) > 0 {
		first := at / block
		skip := int(at - first*block)
		n := min(len(pcm), spoolBuffer/recordSize*block-skip)
		last := skip + n - 1
		buf := s.buf[:last/block*recordSize+4+2*(last%block+1)]
		if _, err := s.f.ReadAt(buf, first*recordSize); err != nil {
			return fmt.Errorf("read kept audio: %w", err)
		}
		for left := pcm[:n]; len(left) > 0; skip = 0 {
			record := buf[:min(recordSize, len(buf))]
			buf = buf[len(record):]
			m := (len(record)-4)/2 - skip
			unpack(left[:m], record, skip, gain)
			left = left[m:]
		}
		pcm, at = pcm[n:], at+int64(n)
	}
	return nil
}

// unpack takes a record's samples from the one with index skip on.
func unpack(pcm []int16, record []byte, skip int, gain float32) {
	step := math.Float32frombits(binary.LittleEndian.Uint32(record)) * gain * 32768
	in := record[4+2*skip:]
	for i := range pcm {
		v := float32(int16(binary.LittleEndian.Uint16(in[2*i:]))) * step
		switch {
		case v > math.MaxInt16:
			v = math.MaxInt16
		case v < math.MinInt16:
			v = math.MinInt16
		}
		pcm[i] = round(v)
	}
}

// round takes v, within the range of 16 bits, to the nearest integer, and halves to the even one, as ffmpeg does.
func round(v float32) int16 { return int16(math.RoundToEven(float64(v))) }

// close gives the disk its space back. Later calls do nothing.
func (s *spool) close() {
	if s.f != nil {
		_ = s.f.Close() // nobody will read it
	}
	s.f, s.buf = nil, nil
}
