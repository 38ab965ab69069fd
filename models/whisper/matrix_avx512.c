//go:build cgo

#include "matrix_code.h"

#include <math.h>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define MATRIX_CODE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))
#define MATRIX_INLINE static inline __attribute__((always_inline)) MATRIX_CODE

enum {
	LANES = 16,
	PER_WORD = 2,
	VECTORS = MATRIX_PANEL / LANES,
	// TILE_ROWS by VECTORS sums stay in registers: 24 of 32, which leaves 4 for the panel and 1 for a row.
	TILE_ROWS = 6,
	// DEPTH is how many pairs of a panel are used before the next rows: 64 KiB, well within the second-level cache.
	DEPTH = 256,
};

// store_narrow rounds 16 floats to 8 words.
MATRIX_INLINE void store_narrow(uint32_t *dst, __m512 x) { _mm256_storeu_si256((__m256i *)dst, (__m256i)_mm512_cvtneps_pbh(x)); }

// first is a mask of the first n of 16.
MATRIX_INLINE __mmask16 first(size_t n) { return (__mmask16)((1u << n) - 1); }

// lanes_at is a mask of those of 16 lanes from i on that lie below n.
MATRIX_INLINE __mmask16 lanes_at(size_t i, size_t n) { return i >= n ? 0 : n - i >= LANES ? 0xffff : first(n - i); }

static MATRIX_CODE void narrow(uint32_t *dst, const float *src, size_t n) {
	for (size_t i = 0; i < PER_WORD * words_for(n, PER_WORD); i += LANES) {
		store_narrow(dst + i / PER_WORD, _mm512_maskz_loadu_ps(lanes_at(i, n), src + i));
	}
}

static MATRIX_CODE void narrow_half(uint32_t *dst, const uint16_t *src, size_t n) {
	for (size_t i = 0; i < PER_WORD * words_for(n, PER_WORD); i += LANES) {
		store_narrow(dst + i / PER_WORD, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_at(i, n), src + i)));
	}
}

static MATRIX_CODE void pack(uint32_t *panel, const uint32_t *columns, size_t count, size_t pairs) {
	const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)pairs));
	for (size_t v = 0; v < VECTORS; v++) {
		const uint32_t *from = columns + v * LANES * pairs;
		__mmask16 have = count >= (v + 1) * LANES ? 0xffff : count <= v * LANES ? 0 : first(count - v * LANES);
		for (size_t k = 0; k < pairs; k++) {
			__m512i column = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), have, at, from + k, 4);
			_mm512_storeu_si512(panel + k * MATRIX_PANEL + v * LANES, column);
		}
	}
}

// tile computes a few rows of one panel. add starts from what dst holds.
MATRIX_INLINE void tile(const int rows, float *dst, size_t ldc, const uint32_t *a, size_t lda, const uint32_t *panel,
                        size_t pairs, bool add) {
	__m512 sum[TILE_ROWS][VECTORS];
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
		for (int v = 0; v < VECTORS; v++) {
			sum[r][v] = add ? _mm512_loadu_ps(dst + r * ldc + v * LANES) : _mm512_setzero_ps();
		}
	}
	for (size_t k = 0; k < pairs; k++) {
		__m512bh b[VECTORS];
#pragma GCC unroll 4
		for (int v = 0; v < VECTORS; v++) {
			b[v] = (__m512bh)_mm512_loadu_si512(panel + k * MATRIX_PANEL + v * LANES);
		}
#pragma GCC unroll 8
		for (int r = 0; r < rows; r++) {
			__m512bh pair = (__m512bh)_mm512_set1_epi32((int)a[r * lda + k]);
#pragma GCC unroll 4
			for (int v = 0; v < VECTORS; v++) {
				sum[r][v] = _mm512_dpbf16_ps(sum[r][v], pair, b[v]);
			}
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
		for (int v = 0; v < VECTORS; v++) {
			_mm512_storeu_ps(dst + r * ldc + v * LANES, sum[r][v]);
		}
	}
}

static MATRIX_CODE __attribute__((noinline)) void tile6(float *dst, size_t ldc, const uint32_t *a, size_t lda,
                                                        const uint32_t *panel, size_t pairs, bool add) {
	tile(TILE_ROWS, dst, ldc, a, lda, panel, pairs, add);
}

static MATRIX_CODE __attribute__((noinline)) void tile1(float *dst, size_t ldc, const uint32_t *a, size_t lda,
                                                        const uint32_t *panel, size_t pairs, bool add) {
	tile(1, dst, ldc, a, lda, panel, pairs, add);
}

// multiply multiplies a whole panel.
static MATRIX_CODE void multiply(float *dst, size_t ldc, const uint32_t *a, size_t lda, size_t rows, const uint32_t *panel,
                                    size_t pairs) {
	for (size_t k = 0; k < pairs; k += DEPTH) {
		size_t depth = pairs - k < DEPTH ? pairs - k : DEPTH;
		size_t r = 0;
		for (; r + TILE_ROWS <= rows; r += TILE_ROWS) {
			tile6(dst + r * ldc, ldc, a + r * lda + k, lda, panel + k * MATRIX_PANEL, depth, k > 0);
		}
		for (; r < rows; r++) {
			tile1(dst + r * ldc, ldc, a + r * lda + k, lda, panel + k * MATRIX_PANEL, depth, k > 0);
		}
	}
}

// exp16 is e^x for x of at most 88 within 2 units in the last place, far below what bfloat16 keeps: 2^n times the Taylor series of the rest,
// which lies within half a bit of zero.
MATRIX_INLINE __m512 exp16(__m512 x) {
	const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147181f), x);
	__m512 p = _mm512_set1_ps(1.0f / 720);
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
	return _mm512_scalef_ps(p, n);
}

// widen undoes the rounding of store_narrow.
MATRIX_INLINE __m512 widen(__m256i x) { return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16); }

static MATRIX_CODE float softmax(uint32_t *dst, const float *row, size_t n, float scale) {
	__m512 top = _mm512_set1_ps(-INFINITY);
	size_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		top = _mm512_max_ps(top, _mm512_loadu_ps(row + i));
	}
	if (i < n) {
		top = _mm512_mask_max_ps(top, first(n - i), top, _mm512_maskz_loadu_ps(first(n - i), row + i));
	}
	const __m512 max = _mm512_set1_ps(_mm512_reduce_max_ps(top)), by = _mm512_set1_ps(scale);
	__m512 sum = _mm512_setzero_ps();
	for (i = 0; i < PER_WORD * words_for(n, PER_WORD); i += LANES) {
		__mmask16 in = lanes_at(i, n);
		__m512 x = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(in, row + i), max), by);
		__m256i e = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_mov_ps(in, exp16(x)));
		sum = _mm512_add_ps(sum, widen(e));
		_mm256_storeu_si256((__m256i *)(dst + i / PER_WORD), e);
	}
	return _mm512_reduce_add_ps(sum);
}

static MATRIX_CODE void gelu(float *dst, const float *src, size_t n) {
	const __m512 one = _mm512_set1_ps(1), cubic = _mm512_set1_ps(0.044715f), slope = _mm512_set1_ps(-2 * 0.797884561f);
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 in = lanes_at(i, n);
		__m512 x = _mm512_maskz_loadu_ps(in, src + i);
		__m512 z = _mm512_mul_ps(x, _mm512_fmadd_ps(_mm512_mul_ps(x, x), cubic, one));
		// Beyond 80 the result is 0 or x to the last bit, and e^x stays finite.
		__m512 e = exp16(_mm512_min_ps(_mm512_mul_ps(z, slope), _mm512_set1_ps(80)));
		_mm512_mask_storeu_ps(dst + i, in, _mm512_div_ps(x, _mm512_add_ps(one, e)));
	}
}

static MATRIX_CODE void scale(float *x, size_t n, float by) {
	const __m512 b = _mm512_set1_ps(by);
	for (size_t i = 0; i < n; i += LANES) {
		__mmask16 in = lanes_at(i, n);
		_mm512_mask_storeu_ps(x + i, in, _mm512_mul_ps(_mm512_maskz_loadu_ps(in, x + i), b));
	}
}

static MATRIX_CODE void scale_by(float *dst, const float *x, const float *by, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 in = lanes_at(i, n);
		_mm512_mask_storeu_ps(dst + i, in, _mm512_mul_ps(_mm512_maskz_loadu_ps(in, x + i), _mm512_maskz_loadu_ps(in, by + i)));
	}
}

static MATRIX_CODE void add(float *dst, const float *x, const float *y, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 in = lanes_at(i, n);
		_mm512_mask_storeu_ps(dst + i, in, _mm512_add_ps(_mm512_maskz_loadu_ps(in, x + i), _mm512_maskz_loadu_ps(in, y + i)));
	}
}

static MATRIX_CODE void add_one(float *dst, const float *x, float y, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 in = lanes_at(i, n);
		_mm512_mask_storeu_ps(dst + i, in, _mm512_add_ps(_mm512_maskz_loadu_ps(in, x + i), _mm512_set1_ps(y)));
	}
}

static MATRIX_CODE void normalise(float *dst, const float *x, size_t n, float epsilon, const float *weights, const float *bias) {
	__m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
	for (size_t i = 0; i < n; i += LANES) {
		sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes_at(i, n), x + i));
	}
	const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / n);
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 in = lanes_at(i, n);
		const __m512 d = _mm512_maskz_sub_ps(in, _mm512_maskz_loadu_ps(in, x + i), mean);
		squares = _mm512_fmadd_ps(d, d, squares);
	}
	const __m512 by = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(squares) / n + epsilon));
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 in = lanes_at(i, n);
		__m512 y = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(in, x + i), mean), by);
		if (weights != NULL) {
			y = _mm512_mul_ps(y, _mm512_maskz_loadu_ps(in, weights + i));
		}
		if (bias != NULL) {
			y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(in, bias + i));
		}
		_mm512_mask_storeu_ps(dst + i, in, y);
	}
}

// collect16 reads up to 16 floats that lie step bytes apart.
MATRIX_INLINE __m512 collect16(const char *src, size_t step, __mmask16 in) {
	if (step == sizeof(float)) {
		return _mm512_maskz_loadu_ps(in, src);
	}
	const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)step));
	return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), in, at, src, 1);
}

static MATRIX_CODE void collect(float *dst, const char *src, size_t step, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 in = lanes_at(i, n);
		_mm512_mask_storeu_ps(dst + i, in, collect16(src + i * step, step, in));
	}
}

static MATRIX_CODE void to_half(uint16_t *dst, const char *src, size_t step, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 in = lanes_at(i, n);
		_mm256_mask_storeu_epi16(dst + i, in, _mm512_cvtps_ph(collect16(src + i * step, step, in), _MM_FROUND_TO_NEAREST_INT));
	}
}

static MATRIX_CODE void pick_half(uint16_t *dst, const float *src, const int32_t *at, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		const __mmask16 in = lanes_at(i, n);
		const __m512 x = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), in, _mm512_maskz_loadu_epi32(in, at + i), src, sizeof(float));
		_mm256_mask_storeu_epi16(dst + i, in, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
	}
}

const matrix_code matrix_avx512 = MATRIX_CODE_OF_THIS_FILE;

#else

const matrix_code matrix_avx512 = {0};

#endif
