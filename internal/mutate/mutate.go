// Package mutate breaks files in ways that a seed repeats, for tests of what reads the files of strangers.
package mutate

import (
	"bytes"
	"math/rand/v2"
	"slices"
)

// Way breaks data at or right after the byte at, which is one of them, and returns what became of it. It may change data itself.
type Way func(rnd *rand.Rand, data []byte, at int) []byte

// Apply breaks a copy of data, which must not be empty. The result differs from data.
func Apply(rnd *rand.Rand, way Way, data []byte, at int) []byte {
	out := way(rnd, bytes.Clone(data), at)
	if bytes.Equal(out, data) {
		out[at] ^= 1
	}
	return out
}

// Any takes one of several ways by chance.
func Any(ways ...Way) Way {
	return func(rnd *rand.Rand, data []byte, at int) []byte { return ways[rnd.IntN(len(ways))](rnd, data, at) }
}

// Bits flips up to eight bits within 64 bytes.
func Bits(rnd *rand.Rand, data []byte, at int) []byte {
	for range 1 + rnd.IntN(8) {
		data[at+rnd.IntN(min(64, len(data)-at))] ^= 1 << rnd.IntN(8)
	}
	return data
}

// Bytes puts chance in place of up to 4 KiB, of less more often than of more.
func Bytes(rnd *rand.Rand, data []byte, at int) []byte {
	for k := range stretch(rnd, data[at:], 1<<rnd.IntN(13)) {
		data[at+k] = byte(rnd.Uint32())
	}
	return data
}

// numbers are those of 32 bits that arithmetic with sizes and counts goes wrong with, the lowest byte first and last.
var numbers = [][]byte{
	{0xff, 0xff, 0xff, 0x7f}, {0x7f, 0xff, 0xff, 0xff}, {0, 0, 0, 0x80}, {0x80, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 0},
}

// Number puts one that is enormous, negative or nothing in place of four bytes.
func Number(rnd *rand.Rand, data []byte, at int) []byte {
	copy(data[at:], numbers[rnd.IntN(len(numbers))])
	return data
}

// Zeros clears up to 64 KiB.
func Zeros(rnd *rand.Rand, data []byte, at int) []byte {
	clear(data[at : at+stretch(rnd, data[at:], 1<<16)])
	return data
}

// Cut ends the file at the place.
func Cut(_ *rand.Rand, data []byte, at int) []byte { return data[:at] }

// Repeat puts up to 64 KiB in a second time, anywhere.
func Repeat(rnd *rand.Rand, data []byte, at int) []byte {
	block := bytes.Clone(data[at : at+stretch(rnd, data[at:], 1<<16)])
	return slices.Insert(data, rnd.IntN(len(data)+1), block...)
}

// Swap lets up to 4 KiB and another stretch of the file change places.
func Swap(rnd *rand.Rand, data []byte, at int) []byte {
	n := stretch(rnd, data[at:], 1<<12)
	other := rnd.IntN(len(data) - n + 1)
	here, there := bytes.Clone(data[at:at+n]), bytes.Clone(data[other:other+n])
	copy(data[at:], there)
	copy(data[other:], here)
	return data
}

// Splice puts up to 16 KiB of another file in, between the bytes or over them.
func Splice(other []byte) Way {
	return func(rnd *rand.Rand, data []byte, at int) []byte {
		from := rnd.IntN(len(other))
		block := other[from : from+stretch(rnd, other[from:], 1<<14)]
		if rnd.IntN(2) == 0 {
			return slices.Insert(data, at, block...)
		}
		copy(data[at:], block)
		return data
	}
}

// stretch is a length from 1 on, of what is there and at most.
func stretch(rnd *rand.Rand, data []byte, most int) int { return 1 + rnd.IntN(min(most, len(data))) }
