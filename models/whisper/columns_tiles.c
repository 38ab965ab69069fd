//go:build cgo

#include "columns_tiles.h"
#include "matrix_tiles.h"
#include "tiles.h"

#if TILES_CODE

#include <immintrin.h>
#include <string.h>

#define COLUMNS_CODE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")))

enum {
	TILE = 16,
	LANES = 16,
	BLOCK = 32,        // values that share a scale in q8_0
	BLOCK_BYTES = 34,  // a scale in half precision and the values
	FOURS = BLOCK / 4, // rows of a tile of columns
};

bool columns_tiles_supported(void) { return matrix_tiles_supported() && __builtin_cpu_supports("amx-int8"); }

// block is 32 values of up to 16 columns, four by four as tiles take them, and the scale of each column.
typedef struct {
	int8_t fours[FOURS][LANES][4];
	float scale[LANES];
} __attribute__((aligned(64))) block;

// quantise rounds 32 floats of column c to bytes, the largest to 127.
static inline COLUMNS_CODE void quantise(block *b, size_t c, const float *x) {
	const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + LANES);
	const float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
	const __m512 by = _mm512_set1_ps(top > 0 ? 127 / top : 0);
	int8_t q[BLOCK];
	_mm_storeu_si128((__m128i *)q, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(low, by))));
	_mm_storeu_si128((__m128i *)(q + LANES), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(high, by))));
	for (int i = 0; i < FOURS; i++) {
		memcpy(b->fours[i][c], q + 4 * i, 4);
	}
	b->scale[c] = top / 127;
}

// scales reads those of one block of some rows.
static inline COLUMNS_CODE void scales(float *dst, const char *first, __m512i at, __mmask16 rows) {
	const __m512i words = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), rows, at, first, 1);
	_mm512_store_ps(dst, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)));
}

// configure makes tiles for up to 16 rows: 0 and 1 for sums, 4 and 5 for weights, 6 and 7 for columns.
static void configure(size_t rows) {
	tile_shapes shapes = {.palette = 1};
	for (int i = 0; i < 8; i++) {
		shapes.rows[i] = i < 6 ? (uint8_t)rows : FOURS;
		shapes.row_bytes[i] = i == 4 || i == 5 ? BLOCK : LANES * sizeof(int32_t);
	}
	TILE_CONFIGURE(shapes);
}

// some_rows computes as many rows from r on as the tiles are configured for. Each row's sums are made in the order of its blocks,
// so they do not depend on what is computed together.
static COLUMNS_CODE void some_rows(columns_weights w, size_t r, size_t rows, const block *blocks, const columns_vector *columns,
                                   size_t n) {
	const size_t count = w.depth / BLOCK;
	const __mmask16 have = (__mmask16)((1u << rows) - 1);
	const char *first = w.data + r * w.stride;
	const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)w.stride));
	int32_t products[2][TILE][LANES] __attribute__((aligned(64))) = {0};
	__m512 sums[TILE];
#pragma GCC unroll 16
	for (int i = 0; i < TILE; i++) {
		sums[i] = _mm512_setzero_ps();
	}
	for (size_t k = 0; k < count; k += 2) {
		const char *a = first + k * BLOCK_BYTES;
		// The next rows come from far away, and each lies whole behind these.
		for (size_t i = 0; i < TILE * 2 * BLOCK_BYTES; i += 64) {
			_mm_prefetch(first + TILE * w.stride + k * TILE * BLOCK_BYTES + i, _MM_HINT_T0);
		}
		TILE_ZERO(0);
		TILE_ZERO(1);
		TILE_LOAD(4, a + 2, w.stride);
		TILE_LOAD(6, blocks[k].fours, sizeof blocks->fours[0]);
		TILE_LOAD(5, a + BLOCK_BYTES + 2, w.stride);
		TILE_LOAD(7, blocks[k + 1].fours, sizeof blocks->fours[0]);
		TILE_MULTIPLY_INT8(0, 4, 6);
		TILE_MULTIPLY_INT8(1, 5, 7);
		float scale[2][TILE] __attribute__((aligned(64)));
		scales(scale[0], a, at, have);
		scales(scale[1], a + BLOCK_BYTES, at, have);
		TILE_STORE(0, products[0], sizeof products[0][0]);
		TILE_STORE(1, products[1], sizeof products[0][0]);
		for (int j = 0; j < 2; j++) {
			const __m512 by = _mm512_load_ps(blocks[k + j].scale);
#pragma GCC unroll 16
			for (int i = 0; i < TILE; i++) {
				const __m512 product = _mm512_cvtepi32_ps(_mm512_load_si512(products[j][i]));
				sums[i] = _mm512_fmadd_ps(product, _mm512_mul_ps(_mm512_set1_ps(scale[j][i]), by), sums[i]);
			}
		}
	}
	float result[TILE][LANES] __attribute__((aligned(64)));
#pragma GCC unroll 16
	for (int i = 0; i < TILE; i++) {
		_mm512_store_ps(result[i], sums[i]);
	}
	for (size_t c = 0; c < n; c++) {
		for (size_t i = 0; i < rows; i++) {
			columns[c].dst[r + i] = result[i][c];
		}
	}
}

COLUMNS_CODE void columns_tiles(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n) {
	const size_t count = w.depth / BLOCK;
	block blocks[count];
	memset(blocks, 0, sizeof blocks);
	for (size_t k = 0; k < count; k++) {
		for (size_t c = 0; c < n; c++) {
			quantise(blocks + k, c, columns[c].x + k * BLOCK);
		}
	}
	size_t r = from;
	configure(TILE);
	for (; r + TILE <= to; r += TILE) {
		some_rows(w, r, TILE, blocks, columns, n);
	}
	if (r < to) {
		configure(to - r);
		some_rows(w, r, to - r, blocks, columns, n);
	}
	TILE_RELEASE();
}

#else

bool columns_tiles_supported(void) { return false; }
void columns_tiles(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n) {}

#endif
