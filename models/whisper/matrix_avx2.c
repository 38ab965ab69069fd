//go:build cgo

#include "matrix_code.h"

#include <math.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define MATRIX_CODE __attribute__((target("avx2,fma,f16c")))
#define MATRIX_INLINE static inline __attribute__((always_inline)) MATRIX_CODE

enum {
	LANES = 8,
	PER_WORD = 1,
	// TILE_ROWS by TILE_VECTORS sums stay in registers: 12 of 16, which leaves 2 for the panel and 1 for a row.
	TILE_ROWS = 6,
	TILE_VECTORS = 2,
	// STRIP is the columns of a tile. Those of a panel lie one strip after the other, so that what is in use fits in the
	// first-level cache.
	STRIP = TILE_VECTORS * LANES,
	// DEPTH is how many values of a strip are used before the next rows: 16 KiB, half of that cache.
	DEPTH = 256,
};

// first is a mask of the first n of 8 lanes; n is below 8.
MATRIX_INLINE __m256i first(size_t n) {
	return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// load and store move up to 8 floats, as many as are left; those that are not there read as 0.
MATRIX_INLINE __m256 load(const float *src, size_t left) {
	return left >= LANES ? _mm256_loadu_ps(src) : _mm256_maskload_ps(src, first(left));
}

MATRIX_INLINE void store(float *dst, __m256 x, size_t left) {
	if (left >= LANES) {
		_mm256_storeu_ps(dst, x);
	} else {
		_mm256_maskstore_ps(dst, first(left), x);
	}
}

// store_half rounds them to half precision.
MATRIX_INLINE void store_half(uint16_t *dst, __m256 x, size_t left) {
	const __m128i half = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
	if (left >= LANES) {
		_mm_storeu_si128((__m128i *)dst, half);
	} else {
		memcpy(dst, &half, left * sizeof *dst);
	}
}

MATRIX_INLINE float total(__m256 x) {
	__m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	y = _mm_add_ps(y, _mm_movehl_ps(y, y));
	return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

// pad writes zeros behind n values.
static void pad(uint32_t *dst, size_t n) { memset(dst + n, 0, (words_for(n, PER_WORD) - n) * sizeof *dst); }

static void narrow(uint32_t *dst, const float *src, size_t n) {
	memcpy(dst, src, n * sizeof *src);
	pad(dst, n);
}

static MATRIX_CODE void narrow_half(uint32_t *dst, const uint16_t *src, size_t n) {
	size_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		_mm256_storeu_ps((float *)dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + i))));
	}
	for (; i < n; i++) {
		const float x = _cvtsh_ss(src[i]);
		memcpy(dst + i, &x, sizeof x);
	}
	pad(dst, n);
}

// turn writes 8 columns of 8 values, words apart, as 8 rows, a strip apart.
MATRIX_INLINE void turn(float *dst, const float *src, size_t words, size_t have) {
	__m256 x[LANES], y[LANES];
#pragma GCC unroll 8
	for (size_t i = 0; i < LANES; i++) {
		x[i] = i < have ? _mm256_loadu_ps(src + i * words) : _mm256_setzero_ps();
	}
#pragma GCC unroll 4
	for (int i = 0; i < LANES; i += 2) {
		y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
		y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
	}
#pragma GCC unroll 2
	for (int i = 0; i < LANES; i += 4) {
		x[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
		x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xee);
		x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
		x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		_mm256_storeu_ps(dst + i * STRIP, _mm256_permute2f128_ps(x[i], x[i + 4], 0x20));
		_mm256_storeu_ps(dst + (i + 4) * STRIP, _mm256_permute2f128_ps(x[i], x[i + 4], 0x31));
	}
}

static MATRIX_CODE void pack(uint32_t *panel, const uint32_t *columns, size_t count, size_t words) {
	for (size_t c = 0; c < MATRIX_PANEL; c += LANES) {
		float *to = (float *)panel + c / STRIP * STRIP * words + c % STRIP;
		for (size_t k = 0; k < words; k += LANES) {
			turn(to + k * STRIP, (const float *)columns + c * words + k, words, c < count ? count - c : 0);
		}
	}
}

// tile computes a few rows of one strip. more starts from what dst holds.
MATRIX_INLINE void tile(const int rows, float *dst, size_t ldc, const float *a, size_t lda, const float *strip, size_t depth,
                        bool more) {
	__m256 sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
		for (int v = 0; v < TILE_VECTORS; v++) {
			sum[r][v] = more ? _mm256_loadu_ps(dst + r * ldc + v * LANES) : _mm256_setzero_ps();
		}
	}
	for (size_t k = 0; k < depth; k++) {
		const __m256 low = _mm256_loadu_ps(strip + k * STRIP), high = _mm256_loadu_ps(strip + k * STRIP + LANES);
#pragma GCC unroll 8
		for (int r = 0; r < rows; r++) {
			const __m256 x = _mm256_broadcast_ss(a + r * lda + k);
			sum[r][0] = _mm256_fmadd_ps(x, low, sum[r][0]);
			sum[r][1] = _mm256_fmadd_ps(x, high, sum[r][1]);
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
		for (int v = 0; v < TILE_VECTORS; v++) {
			_mm256_storeu_ps(dst + r * ldc + v * LANES, sum[r][v]);
		}
	}
}

static MATRIX_CODE __attribute__((noinline)) void tile6(float *dst, size_t ldc, const float *a, size_t lda, const float *strip,
                                                        size_t depth, bool more) {
	tile(TILE_ROWS, dst, ldc, a, lda, strip, depth, more);
}

static MATRIX_CODE __attribute__((noinline)) void tile1(float *dst, size_t ldc, const float *a, size_t lda, const float *strip,
                                                        size_t depth, bool more) {
	tile(1, dst, ldc, a, lda, strip, depth, more);
}

static void multiply(float *dst, size_t ldc, const uint32_t *rows, size_t lda, size_t row_count, const uint32_t *panel,
                     size_t words) {
	for (size_t k = 0; k < words; k += DEPTH) {
		const size_t depth = words - k < DEPTH ? words - k : DEPTH;
		const float *a = (const float *)rows + k;
		for (size_t c = 0; c < MATRIX_PANEL; c += STRIP) {
			const float *strip = (const float *)panel + c * words + k * STRIP;
			size_t r = 0;
			for (; r + TILE_ROWS <= row_count; r += TILE_ROWS) {
				tile6(dst + r * ldc + c, ldc, a + r * lda, lda, strip, depth, k > 0);
			}
			for (; r < row_count; r++) {
				tile1(dst + r * ldc + c, ldc, a + r * lda, lda, strip, depth, k > 0);
			}
		}
	}
}

// exp8 is e^x for x of at most 88 within 2 units in the last place, and e^-87 for less than -87: 2^n times the Taylor series of
// the rest, which lies within half a bit of zero.
MATRIX_INLINE __m256 exp8(__m256 x) {
	x = _mm256_max_ps(x, _mm256_set1_ps(-87));
	const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	const __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693147181f), x);
	__m256 p = _mm256_set1_ps(1.0f / 720);
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
	const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
	return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

static MATRIX_CODE float softmax(uint32_t *dst, const float *row, size_t n, float scale) {
	__m256 top = _mm256_set1_ps(-INFINITY);
	size_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		top = _mm256_max_ps(top, _mm256_loadu_ps(row + i));
	}
	float lanes[LANES], most = -INFINITY;
	_mm256_storeu_ps(lanes, top);
	for (int lane = 0; lane < LANES; lane++) {
		most = fmaxf(most, lanes[lane]);
	}
	for (; i < n; i++) {
		most = fmaxf(most, row[i]);
	}
	const __m256 max = _mm256_set1_ps(most), by = _mm256_set1_ps(scale);
	__m256 sum = _mm256_setzero_ps();
	for (i = 0; i < n; i += LANES) {
		__m256 e = exp8(_mm256_mul_ps(_mm256_sub_ps(load(row + i, n - i), max), by));
		if (n - i < LANES) {
			e = _mm256_and_ps(e, _mm256_castsi256_ps(first(n - i)));
		}
		sum = _mm256_add_ps(sum, e);
		_mm256_storeu_ps((float *)dst + i, e);
	}
	pad(dst, n);
	return total(sum);
}

static MATRIX_CODE void gelu(float *dst, const float *src, size_t n) {
	const __m256 one = _mm256_set1_ps(1), cubic = _mm256_set1_ps(0.044715f), slope = _mm256_set1_ps(-2 * 0.797884561f);
	for (size_t i = 0; i < n; i += LANES) {
		const __m256 x = load(src + i, n - i);
		const __m256 z = _mm256_mul_ps(x, _mm256_fmadd_ps(_mm256_mul_ps(x, x), cubic, one));
		// Beyond 80 the result is 0 or x to the last bit, and e^x stays finite.
		const __m256 e = exp8(_mm256_min_ps(_mm256_mul_ps(z, slope), _mm256_set1_ps(80)));
		store(dst + i, _mm256_div_ps(x, _mm256_add_ps(one, e)), n - i);
	}
}

static MATRIX_CODE void scale(float *x, size_t n, float by) {
	for (size_t i = 0; i < n; i += LANES) {
		store(x + i, _mm256_mul_ps(load(x + i, n - i), _mm256_set1_ps(by)), n - i);
	}
}

static MATRIX_CODE void scale_by(float *dst, const float *x, const float *by, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		store(dst + i, _mm256_mul_ps(load(x + i, n - i), load(by + i, n - i)), n - i);
	}
}

static MATRIX_CODE void add(float *dst, const float *x, const float *y, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		store(dst + i, _mm256_add_ps(load(x + i, n - i), load(y + i, n - i)), n - i);
	}
}

static MATRIX_CODE void add_one(float *dst, const float *x, float y, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		store(dst + i, _mm256_add_ps(load(x + i, n - i), _mm256_set1_ps(y)), n - i);
	}
}

static MATRIX_CODE void normalise(float *dst, const float *x, size_t n, float epsilon, const float *weights, const float *bias) {
	__m256 sum = _mm256_setzero_ps(), squares = _mm256_setzero_ps();
	for (size_t i = 0; i < n; i += LANES) {
		sum = _mm256_add_ps(sum, load(x + i, n - i));
	}
	const __m256 mean = _mm256_set1_ps(total(sum) / n);
	for (size_t i = 0; i < n; i += LANES) {
		__m256 d = _mm256_sub_ps(load(x + i, n - i), mean);
		if (n - i < LANES) {
			d = _mm256_and_ps(d, _mm256_castsi256_ps(first(n - i)));
		}
		squares = _mm256_fmadd_ps(d, d, squares);
	}
	const __m256 by = _mm256_set1_ps(1 / sqrtf(total(squares) / n + epsilon));
	for (size_t i = 0; i < n; i += LANES) {
		__m256 y = _mm256_mul_ps(_mm256_sub_ps(load(x + i, n - i), mean), by);
		if (weights != NULL) {
			y = _mm256_mul_ps(y, load(weights + i, n - i));
		}
		if (bias != NULL) {
			y = _mm256_add_ps(y, load(bias + i, n - i));
		}
		store(dst + i, y, n - i);
	}
}

// collect8 reads up to 8 floats that lie step bytes apart.
MATRIX_INLINE __m256 collect8(const char *src, size_t step, size_t left) {
	if (step == sizeof(float)) {
		return load((const float *)src, left);
	}
	float x[LANES] = {0};
	const size_t n = left < LANES ? left : LANES;
	for (size_t i = 0; i < n; i++) {
		memcpy(x + i, src + i * step, sizeof *x);
	}
	return _mm256_loadu_ps(x);
}

static MATRIX_CODE void collect(float *dst, const char *src, size_t step, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		store(dst + i, collect8(src + i * step, step, n - i), n - i);
	}
}

static MATRIX_CODE void to_half(uint16_t *dst, const char *src, size_t step, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		store_half(dst + i, collect8(src + i * step, step, n - i), n - i);
	}
}

static MATRIX_CODE void pick_half(uint16_t *dst, const float *src, const int32_t *at, size_t n) {
	for (size_t i = 0; i < n; i += LANES) {
		float x[LANES] = {0};
		for (size_t j = 0; j < LANES && i + j < n; j++) {
			x[j] = src[at[i + j]];
		}
		store_half(dst + i, _mm256_loadu_ps(x), n - i);
	}
}

const matrix_code matrix_avx2 = MATRIX_CODE_OF_THIS_FILE;

#else

const matrix_code matrix_avx2 = {0};

#endif
