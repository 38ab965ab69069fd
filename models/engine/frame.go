package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// protocol is the version of frames and messages; both sides must have the same.
const protocol = 1

// kind is the type of a frame.
type kind uint8

const (
	kindHello kind = iota + 1
	kindLoad
	kindLoaded
	kindTranscribe
	kindSegments
	kindResult
	kindFailed
	kindCancel
	kindHeartbeat
	kindShutdown
)

// headerSize is length u32, type u8, request u32.
const headerSize = 9

// maxSamples of one request is ten minutes, five times the longest chunk the plan makes.
const maxSamples = 10 * 60 * 16000

// limit is the largest payload of a kind in bytes, or -1 for a kind that does not exist.
func (k kind) limit() int {
	switch k {
	case kindCancel, kindShutdown:
		return 0
	case kindHello:
		return 4 << 10
	case kindLoad, kindLoaded, kindFailed, kindHeartbeat:
		return 64 << 10
	case kindSegments, kindResult:
		// Ten minutes of speech with word times are 1,500 words of about 90 bytes.
		return 8 << 20
	case kindTranscribe:
		return 4 + maxMeta + 2*maxSamples
	}
	return -1
}

// ErrProtocol says that the other side sent what no sound engine sends.
var ErrProtocol = errors.New("engine protocol violated")

// frame is one message on the wire.
type frame struct {
	kind    kind
	id      uint32 // request, 0 where there is none
	payload []byte
}

// encode gives the frame's bytes with room for its payload in one piece, so that it is one write.
func encode(k kind, id uint32, payload ...[]byte) ([]byte, error) {
	n := 0
	for _, p := range payload {
		n += len(p)
	}
	if n > k.limit() {
		return nil, fmt.Errorf("%w: frame type %d of %d bytes, at most %d are allowed", ErrProtocol, k, n, k.limit())
	}
	b := make([]byte, headerSize, headerSize+n)
	putHeader(b, k, id, n)
	for _, p := range payload {
		b = append(b, p...)
	}
	return b, nil
}

func putHeader(b []byte, k kind, id uint32, n int) {
	binary.LittleEndian.PutUint32(b, uint32(n))
	b[4] = byte(k)
	binary.LittleEndian.PutUint32(b[5:], id)
}

// readFrame reads one frame. It returns io.EOF where the stream ends between two frames. Memory grows with the bytes that
// arrive, not with what the header claims.
func readFrame(r io.Reader) (frame, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: kind(h[4]), id: binary.LittleEndian.Uint32(h[5:])}
	n := binary.LittleEndian.Uint32(h[:])
	switch limit := f.kind.limit(); {
	case limit < 0:
		return frame{}, fmt.Errorf("%w: unknown frame type %d", ErrProtocol, h[4])
	case uint64(n) > uint64(limit):
		return frame{}, fmt.Errorf("%w: frame type %d of %d bytes, at most %d are allowed", ErrProtocol, h[4], n, limit)
	}
	var err error
	f.payload, err = readPayload(r, int(n))
	return f, err
}

func readPayload(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	buf := make([]byte, 0, min(n, step))
	for len(buf) < n {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(n, 4*cap(buf)))
			copy(grown, buf)
			buf = grown
		}
		m, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return buf, nil
}
