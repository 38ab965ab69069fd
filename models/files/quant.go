package files

import (
	"encoding/binary"
	"math"
)

// A q8_0 block is the scale as a half, then 32 values of one byte.
const (
	blockValues = 32
	blockBytes  = 2 + blockValues
)

// appendQ8 appends x as q8_0 blocks; len(x) is a multiple of 32. It rounds as quantize_row_q8_0_ref of ggml does: with the
// scale before it became a half, and halves away from zero.
func appendQ8(dst []byte, x []float32) []byte {
	for ; len(x) > 0; x = x[blockValues:] {
		var largest float32
		for _, v := range x[:blockValues] {
			largest = max(largest, float32(math.Abs(float64(v))))
		}
		scale := largest / 127
		var inverse float32
		if scale != 0 {
			inverse = 1 / scale
		}
		var block [blockBytes]byte
		binary.LittleEndian.PutUint16(block[:], toHalf(scale))
		for i, v := range x[:blockValues] {
			block[2+i] = byte(int8(math.Round(float64(v * inverse))))
		}
		dst = append(dst, block[:]...)
	}
	return dst
}
