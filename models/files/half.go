package files

import "math"

// toFloat32 gives the value of an IEEE 754 half.
func toFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10)&0x1f, uint32(h&0x3ff)
	switch exp {
	case 0: // zero and subnormals
		v := math.Ldexp(float64(frac), -24)
		return math.Float32frombits(sign | math.Float32bits(float32(v)))
	case 0x1f: // infinities and NaN
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

// toHalf rounds to the nearest IEEE 754 half, ties to even; what is too large becomes an infinity.
func toHalf(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits>>16) & 0x8000
	abs := bits & 0x7fffffff
	switch {
	case abs > 0x7f800000:
		return sign | 0x7e00 // NaN
	case abs >= 0x477ff000: // 65520, the first value that rounds above the largest half
		return sign | 0x7c00
	case abs < 0x38800000: // below 2^-14 the halves are 2^-24 apart
		return sign | uint16(math.RoundToEven(math.Ldexp(float64(math.Float32frombits(abs)), 24)))
	}
	rounded := abs + 0xfff + abs>>13&1
	return sign | uint16((rounded-(127-15)<<23)>>13)
}
