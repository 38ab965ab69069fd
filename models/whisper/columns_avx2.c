//go:build cgo

#include "columns_avx2.h"
#include "columns_range.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>
#include <string.h>

#define COLUMNS_CODE __attribute__((target("avx2,fma,f16c")))
#define COLUMNS_INLINE static inline __attribute__((always_inline)) COLUMNS_CODE

enum {
	LANES = 8,
	BLOCK = 32,       // values that share a scale in q8_0, and bytes in a vector
	BLOCK_BYTES = 34, // a scale in half precision and the values
	SUMS = 8,         // rows by columns whose sums stay in registers: half of them
};

// MULTIPLY_BYTES adds the products of 32 bytes without a sign and 32 with one to 8 sums, by fours. It is written so since
// compilers give AVX-VNNI only to functions that have it throughout.
#if KERNELS_KNOW_AVXVNNI
#define MULTIPLY_BYTES(sums, unsigned_bytes, signed_bytes) \
	__asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(unsigned_bytes), "xm"(signed_bytes))
#else
#define MULTIPLY_BYTES(sums, unsigned_bytes, signed_bytes) (void)(signed_bytes)
#endif

// block is 32 values of a column as the products of q8_0 take them.
typedef struct {
	int8_t q[BLOCK];
	// start is -128 times the sum of q in the first of its lanes: AVX-VNNI takes weights without a sign, so they have 128 added.
	int32_t start[LANES];
	float scale[LANES]; // 8 times the same
} __attribute__((aligned(32))) block;

// quantise rounds 32 floats to bytes, the largest to 127.
COLUMNS_INLINE void quantise(block *b, const float *x) {
	const __m256 sign = _mm256_set1_ps(-0.0f);
	__m256 v[4], top = _mm256_setzero_ps();
	for (int i = 0; i < 4; i++) {
		v[i] = _mm256_loadu_ps(x + i * LANES);
		top = _mm256_max_ps(top, _mm256_andnot_ps(sign, v[i]));
	}
	__m128 most = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
	most = _mm_max_ps(most, _mm_movehl_ps(most, most));
	const float largest = _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
	const __m256 by = _mm256_set1_ps(largest > 0 ? 127 / largest : 0);
	__m256i q[4], sum = _mm256_setzero_si256();
	for (int i = 0; i < 4; i++) {
		q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], by));
		sum = _mm256_add_epi32(sum, q[i]);
	}
	// Packing works in each half of a vector for itself: the fours come out as 0, 2, 4, 6, 1, 3, 5, 7.
	const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
	_mm256_store_si256((__m256i *)b->q, _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
	__m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
	four = _mm_hadd_epi32(four, four);
	_mm256_store_si256((__m256i *)b->start, _mm256_setzero_si256());
	b->start[0] = -128 * _mm_cvtsi128_si32(_mm_hadd_epi32(four, four));
	_mm256_store_ps(b->scale, _mm256_set1_ps(largest / 127));
}

// total adds up the lanes of each of 8 vectors. Each is added up in the same order, wherever it stands.
COLUMNS_INLINE __m256 total(const __m256 *s) {
	const __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
	const __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(s[4], s[5]), _mm256_hadd_ps(s[6], s[7]));
	return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

// put writes the sums of some rows, the first of which is row r.
COLUMNS_INLINE void put(const int rows, const int n, const __m256 *sums, size_t r, const columns_vector *columns) {
	__m256 padded[SUMS];
	float results[SUMS] __attribute__((aligned(32)));
#pragma GCC unroll 8
	for (int i = 0; i < SUMS; i++) {
		padded[i] = i < rows * n ? sums[i] : _mm256_setzero_ps();
	}
	_mm256_store_ps(results, total(padded));
#pragma GCC unroll 8
	for (int c = 0; c < n; c++) {
#pragma GCC unroll 8
		for (int i = 0; i < rows; i++) {
			columns[c].dst[r + i] = results[c * rows + i];
		}
	}
}

// dot is the products of a block of weights and one of a column, in 8 sums. Without VNNI the signs of the weights go to the
// column: pairs of |w|*x are at most 2*128*127, which 16 bits hold.
COLUMNS_INLINE __m256i dot(const bool vnni, __m256i weights, __m256i unsigned_weights, const block *x) {
	const __m256i q = _mm256_load_si256((const __m256i *)x->q);
	if (vnni) {
		__m256i sums = _mm256_load_si256((const __m256i *)x->start);
		MULTIPLY_BYTES(sums, unsigned_weights, q);
		return sums;
	}
	return _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned_weights, _mm256_sign_epi8(q, weights)), _mm256_set1_epi16(1));
}

// rows_q8 computes some rows for n columns, whose blocks lie depth/BLOCK apart.
COLUMNS_INLINE void rows_q8(const bool vnni, const int rows, const int n, columns_weights w, size_t r, const block *blocks,
                            const columns_vector *columns) {
	const size_t count = w.depth / BLOCK;
	__m256 sums[SUMS];
#pragma GCC unroll 8
	for (int i = 0; i < rows * n; i++) {
		sums[i] = _mm256_setzero_ps();
	}
	for (size_t k = 0; k < count; k++) {
#pragma GCC unroll 8
		for (int i = 0; i < rows; i++) {
			const char *a = w.data + (r + i) * w.stride + k * BLOCK_BYTES;
			int16_t half;
			memcpy(&half, a, sizeof half);
			const __m256 scale = _mm256_cvtph_ps(_mm_set1_epi16(half));
			const __m256i q = _mm256_loadu_si256((const __m256i *)(a + 2));
			const __m256i unsigned_q = vnni ? _mm256_xor_si256(q, _mm256_set1_epi8((char)0x80)) : _mm256_abs_epi8(q);
#pragma GCC unroll 8
			for (int c = 0; c < n; c++) {
				const block *x = blocks + c * count + k;
				const __m256 product = _mm256_cvtepi32_ps(dot(vnni, q, unsigned_q, x));
				sums[c * rows + i] = _mm256_fmadd_ps(product, _mm256_mul_ps(scale, _mm256_load_ps(x->scale)), sums[c * rows + i]);
			}
		}
	}
	put(rows, n, sums, r, columns);
}

COLUMNS_INLINE void rows_plain(const int rows, const int n, columns_weights w, size_t r, const block *blocks,
                               const columns_vector *columns) {
	rows_q8(false, rows, n, w, r, blocks, columns);
}

COLUMNS_INLINE void rows_vnni(const int rows, const int n, columns_weights w, size_t r, const block *blocks,
                              const columns_vector *columns) {
	rows_q8(true, rows, n, w, r, blocks, columns);
}

// rows_half does the same for weights in half precision.
COLUMNS_INLINE void rows_half(const int rows, const int n, columns_weights w, size_t r, const block *blocks,
                              const columns_vector *columns) {
	(void)blocks;
	const size_t whole = w.depth / LANES * LANES, rest = w.depth - whole;
	__m256 sums[SUMS];
#pragma GCC unroll 8
	for (int i = 0; i < rows * n; i++) {
		sums[i] = _mm256_setzero_ps();
	}
	for (size_t k = 0; k < whole; k += LANES) {
#pragma GCC unroll 8
		for (int i = 0; i < rows; i++) {
			const uint16_t *a = (const uint16_t *)(w.data + (r + i) * w.stride) + k;
			const __m256 weight = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)a));
#pragma GCC unroll 8
			for (int c = 0; c < n; c++) {
				sums[c * rows + i] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(columns[c].x + k), sums[c * rows + i]);
			}
		}
	}
	if (rest > 0) {
#pragma GCC unroll 8
		for (int i = 0; i < rows; i++) {
			uint16_t a[LANES] = {0};
			memcpy(a, (const uint16_t *)(w.data + (r + i) * w.stride) + whole, rest * sizeof *a);
			const __m256 weight = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)a));
#pragma GCC unroll 8
			for (int c = 0; c < n; c++) {
				float x[LANES] = {0};
				memcpy(x, columns[c].x + whole, rest * sizeof *x);
				sums[c * rows + i] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(x), sums[c * rows + i]);
			}
		}
	}
	put(rows, n, sums, r, columns);
}

#define RANGES(type)                                                                                 \
	COLUMNS_RANGE(block, type, 1, 8) COLUMNS_RANGE(block, type, 2, 4) COLUMNS_RANGE(block, type, 3, 2) \
	COLUMNS_RANGE(block, type, 4, 2) COLUMNS_RANGE(block, type, 5, 1) COLUMNS_RANGE(block, type, 6, 1) \
	COLUMNS_RANGE(block, type, 7, 1) COLUMNS_RANGE(block, type, 8, 1)

RANGES(half)
RANGES(plain)
RANGES(vnni)

typedef void range(columns_weights w, size_t from, size_t to, const block *blocks, const columns_vector *columns);

static range *const half_ranges[] = COLUMNS_RANGES(half);
static range *const q8_ranges[][COLUMNS_TOGETHER] = {
	COLUMNS_RANGES(plain),
	COLUMNS_RANGES(vnni),
};

COLUMNS_CODE void columns_avx2(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n, bool vnni) {
	if (w.type == COLUMNS_HALF) {
		half_ranges[n - 1](w, from, to, NULL, columns);
		return;
	}
	const size_t count = w.depth / BLOCK;
	block blocks[n * count];
	for (size_t c = 0; c < n; c++) {
		for (size_t k = 0; k < count; k++) {
			quantise(blocks + c * count + k, columns[c].x + k * BLOCK);
		}
	}
	q8_ranges[vnni][n - 1](w, from, to, blocks, columns);
}

#else

void columns_avx2(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n, bool vnni) {}

#endif
