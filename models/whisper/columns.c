//go:build cgo

#include "columns.h"
#include "columns_avx2.h"
#include "columns_range.h"
#include "columns_tiles.h"

#include <stdatomic.h>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>
#include <string.h>

#define COLUMNS_CODE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")))
#define COLUMNS_INLINE static inline __attribute__((always_inline)) COLUMNS_CODE

enum {
	LANES = 16,
	BLOCK = 32,       // values that share a scale in q8_0
	BLOCK_BYTES = 34, // a scale in half precision and the values
	STEP = 2 * BLOCK, // values in a vector of bytes
	SUMS = 16,        // rows by columns whose sums stay in registers
};

static bool avx512_supported(void) {
	return kernels_avx512() && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
}

// step is 64 values of a column as the products of q8_0 take them: two blocks of bytes, each with its own scale.
typedef struct {
	int8_t q[STEP];
	// start is -128 times the sum of each block in the first of its 8 lanes: the instruction takes weights without a sign, so they
	// have 128 added.
	int32_t start[LANES];
	float scale[LANES]; // 8 times that of the first block, 8 times that of the second
} __attribute__((aligned(64))) step;

// quantise rounds 32 floats to bytes, the largest to 127.
COLUMNS_INLINE void quantise(step *s, int half, const float *x) {
	const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + LANES);
	const float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
	const float scale = top / 127;
	const __m512 by = _mm512_set1_ps(top > 0 ? 127 / top : 0);
	const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, by)), qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, by));
	_mm_storeu_si128((__m128i *)(s->q + half * BLOCK), _mm512_cvtepi32_epi8(qa));
	_mm_storeu_si128((__m128i *)(s->q + half * BLOCK + LANES), _mm512_cvtepi32_epi8(qb));
	_mm256_storeu_ps(s->scale + half * 8, _mm256_set1_ps(scale));
	_mm256_storeu_si256((__m256i *)(s->start + half * 8), _mm256_setzero_si256());
	s->start[half * 8] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(qa, qb));
}

// halves adds the even and the odd quarters of a, and then of b.
COLUMNS_INLINE __m512 halves(__m512 a, __m512 b) {
	return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

// total adds up the lanes of each of 16 vectors. Each is added up in the same order, wherever it stands.
COLUMNS_INLINE __m512 total(const __m512 *s) {
	__m512 quarter[4];
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++) {
		const __m512 *v = s + 4 * i;
		const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
		const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
		quarter[i] = _mm512_add_ps((__m512)_mm512_unpacklo_pd((__m512d)ab, (__m512d)cd),
		                           (__m512)_mm512_unpackhi_pd((__m512d)ab, (__m512d)cd));
	}
	return halves(halves(quarter[0], quarter[1]), halves(quarter[2], quarter[3]));
}

// put writes the sums of some rows, the first of which is row r.
COLUMNS_INLINE void put(const int rows, const int n, const __m512 *sums, size_t r, const columns_vector *columns) {
	__m512 padded[SUMS];
	float results[SUMS] __attribute__((aligned(64)));
#pragma GCC unroll 16
	for (int i = 0; i < SUMS; i++) {
		padded[i] = i < rows * n ? sums[i] : _mm512_setzero_ps();
	}
	_mm512_store_ps(results, total(padded));
#pragma GCC unroll 16
	for (int c = 0; c < n; c++) {
#pragma GCC unroll 16
		for (int i = 0; i < rows; i++) {
			columns[c].dst[r + i] = results[c * rows + i];
		}
	}
}

// rows_q8 computes some rows for n columns, whose steps lie depth/STEP apart.
COLUMNS_INLINE void rows_q8(const int rows, const int n, columns_weights w, size_t r, const step *steps,
                            const columns_vector *columns) {
	const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
	const __m512i sign = _mm512_set1_epi8((char)0x80);
	const size_t count = w.depth / STEP;
	__m512 sums[SUMS];
#pragma GCC unroll 16
	for (int i = 0; i < rows * n; i++) {
		sums[i] = _mm512_setzero_ps();
	}
	for (size_t k = 0; k < count; k++) {
#pragma GCC unroll 16
		for (int i = 0; i < rows; i++) {
			const char *a = w.data + (r + i) * w.stride + k * 2 * BLOCK_BYTES, *b = a + BLOCK_BYTES;
			const __m256i qa = _mm256_loadu_si256((const __m256i *)(a + 2)), qb = _mm256_loadu_si256((const __m256i *)(b + 2));
			const __m512i q = _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(qa), qb, 1), sign);
			uint16_t first, second;
			memcpy(&first, a, sizeof first);
			memcpy(&second, b, sizeof second);
			const __m128 both = _mm_cvtph_ps(_mm_cvtsi32_si128((int)(first | (uint32_t)second << 16)));
			const __m512 scale = _mm512_permutexvar_ps(spread, _mm512_castps128_ps512(both));
#pragma GCC unroll 16
			for (int c = 0; c < n; c++) {
				const step *x = steps + c * count + k;
				const __m512i dot = _mm512_dpbusd_epi32(_mm512_load_si512(x->start), q, _mm512_load_si512(x->q));
				const __m512 by = _mm512_mul_ps(scale, _mm512_load_ps(x->scale));
				sums[c * rows + i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), by, sums[c * rows + i]);
			}
		}
	}
	put(rows, n, sums, r, columns);
}

// rows_half does the same for weights in half precision.
COLUMNS_INLINE void rows_half(const int rows, const int n, columns_weights w, size_t r, const step *steps,
                              const columns_vector *columns) {
	(void)steps;
	__m512 sums[SUMS];
#pragma GCC unroll 16
	for (int i = 0; i < rows * n; i++) {
		sums[i] = _mm512_setzero_ps();
	}
	for (size_t k = 0; k < w.depth; k += LANES) {
		const __mmask16 in = w.depth - k >= LANES ? 0xffff : (__mmask16)((1u << (w.depth - k)) - 1);
#pragma GCC unroll 16
		for (int i = 0; i < rows; i++) {
			const uint16_t *a = (const uint16_t *)(w.data + (r + i) * w.stride) + k;
			const __m512 weight = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(in, a));
#pragma GCC unroll 16
			for (int c = 0; c < n; c++) {
				sums[c * rows + i] = _mm512_fmadd_ps(weight, _mm512_maskz_loadu_ps(in, columns[c].x + k), sums[c * rows + i]);
			}
		}
	}
	put(rows, n, sums, r, columns);
}

#define RANGES(type)                                                                              \
	COLUMNS_RANGE(step, type, 1, 8) COLUMNS_RANGE(step, type, 2, 8) COLUMNS_RANGE(step, type, 3, 4) \
	COLUMNS_RANGE(step, type, 4, 4) COLUMNS_RANGE(step, type, 5, 2) COLUMNS_RANGE(step, type, 6, 2) \
	COLUMNS_RANGE(step, type, 7, 2) COLUMNS_RANGE(step, type, 8, 2)

RANGES(q8)
RANGES(half)

typedef void range(columns_weights w, size_t from, size_t to, const step *steps, const columns_vector *columns);

static range *const ranges[][COLUMNS_TOGETHER] = {
	[COLUMNS_HALF] = COLUMNS_RANGES(half),
	[COLUMNS_Q8] = COLUMNS_RANGES(q8),
};

// on_avx512 is columns_multiply for up to COLUMNS_TOGETHER columns.
static COLUMNS_CODE void on_avx512(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n) {
	const size_t per_column = w.type == COLUMNS_Q8 ? w.depth / STEP : 0;
	step steps[n * per_column + 1];
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < per_column; k++) {
			quantise(steps + i * per_column + k, 0, columns[i].x + k * STEP);
			quantise(steps + i * per_column + k, 1, columns[i].x + k * STEP + BLOCK);
		}
	}
	ranges[w.type][n - 1](w, from, to, steps, columns);
}

#else

static bool avx512_supported(void) { return false; }
static void on_avx512(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n) {}

#endif

static bool supported(kernels k) {
	switch (k) {
	case KERNELS_NONE:
		return true;
	case KERNELS_AVX2:
		return kernels_avx2();
	case KERNELS_AVXVNNI:
		return kernels_avxvnni();
	case KERNELS_AVX512:
		return avx512_supported();
	case KERNELS_AMX:
		return avx512_supported() && columns_tiles_supported();
	default:
		return false;
	}
}

kernels columns_best(kernels most) { return kernels_best(most, supported); }

static _Atomic kernels used;

void columns_use(kernels k) { atomic_store(&used, k); }

kernels columns_used(void) { return atomic_load_explicit(&used, memory_order_relaxed); }

void columns_multiply(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t count) {
	const kernels k = columns_used();
	const bool tiles = k == KERNELS_AMX && w.type == COLUMNS_Q8;
	const size_t together = tiles ? COLUMNS_IN_TILES : COLUMNS_TOGETHER;
	for (size_t c = 0; c < count; c += together) {
		const size_t n = count - c < together ? count - c : together;
		if (tiles) {
			columns_tiles(w, from, to, columns + c, n);
		} else if (k >= KERNELS_AVX512) {
			on_avx512(w, from, to, columns + c, n);
		} else {
			columns_avx2(w, from, to, columns + c, n, k == KERNELS_AVXVNNI);
		}
	}
}
