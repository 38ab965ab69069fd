//go:build cgo

#include "matrix_code.h"
#include "matrix_tiles.h"

#include <stdatomic.h>
#include <string.h>

static bool avx512_supported(void) {
#if defined(__x86_64__) && defined(__GNUC__)
	return kernels_avx512() && __builtin_cpu_supports("avx512bf16");
#else
	return false;
#endif
}

static bool supported(kernels k) {
	switch (k) {
	case KERNELS_NONE:
		return true;
	case KERNELS_AVX2:
		return kernels_avx2();
	case KERNELS_AVX512:
		return avx512_supported();
	case KERNELS_AMX:
		return avx512_supported() && matrix_tiles_supported();
	default: // nothing here is of bytes
		return false;
	}
}

kernels matrix_best(kernels most) { return kernels_best(most, supported); }

static _Atomic kernels used;

void matrix_use(kernels k) { atomic_store(&used, k); }

kernels matrix_used(void) { return atomic_load_explicit(&used, memory_order_relaxed); }

static const matrix_code *code(void) { return matrix_used() >= KERNELS_AVX512 ? &matrix_avx512 : &matrix_avx2; }

size_t matrix_words(size_t n) { return words_for(n, code()->per_word); }

// whole multiplies a whole panel, with room for all of its columns in each row of dst.
static void whole(float *dst, size_t ldc, const uint32_t *rows, size_t lda, size_t row_count, const uint32_t *panel,
                  size_t words) {
	if (matrix_used() == KERNELS_AMX) {
		tiles_panel(dst, ldc, rows, lda, row_count, panel, words);
	} else {
		code()->multiply(dst, ldc, rows, lda, row_count, panel, words);
	}
}

void matrix_multiply(float *dst, size_t ldc, const uint32_t *rows, size_t lda, size_t row_count, const uint32_t *panel,
                     size_t column_count, size_t words) {
	if (column_count == MATRIX_PANEL) {
		whole(dst, ldc, rows, lda, row_count, panel, words);
		return;
	}
	enum { ROWS = 48 };
	float edge[ROWS * MATRIX_PANEL];
	for (size_t r = 0; r < row_count; r += ROWS) {
		const size_t n = row_count - r < ROWS ? row_count - r : ROWS;
		whole(edge, MATRIX_PANEL, rows + r * lda, lda, n, panel, words);
		for (size_t i = 0; i < n; i++) {
			memcpy(dst + (r + i) * ldc, edge + i * MATRIX_PANEL, column_count * sizeof(float));
		}
	}
}

void matrix_narrow(uint32_t *dst, const float *src, size_t n) { code()->narrow(dst, src, n); }

void matrix_narrow_half(uint32_t *dst, const uint16_t *src, size_t n) { code()->narrow_half(dst, src, n); }

void matrix_pack(uint32_t *panel, const uint32_t *columns, size_t count, size_t words) {
	code()->pack(panel, columns, count, words);
}

float matrix_softmax(uint32_t *dst, const float *row, size_t n, float scale) { return code()->softmax(dst, row, n, scale); }

void matrix_gelu(float *dst, const float *src, size_t n) { code()->gelu(dst, src, n); }

void matrix_scale(float *x, size_t n, float by) { code()->scale(x, n, by); }

void matrix_scale_by(float *dst, const float *x, const float *by, size_t n) { code()->scale_by(dst, x, by, n); }

void matrix_add(float *dst, const float *x, const float *y, size_t n) { code()->add(dst, x, y, n); }

void matrix_add_one(float *dst, const float *x, float y, size_t n) { code()->add_one(dst, x, y, n); }

void matrix_normalise(float *dst, const float *x, size_t n, float epsilon, const float *weights, const float *bias) {
	code()->normalise(dst, x, n, epsilon, weights, bias);
}

void matrix_collect(float *dst, const char *src, size_t step, size_t n) { code()->collect(dst, src, step, n); }

void matrix_to_half(uint16_t *dst, const char *src, size_t step, size_t n) { code()->to_half(dst, src, step, n); }

void matrix_pick_half(uint16_t *dst, const float *src, const int32_t *at, size_t n) { code()->pick_half(dst, src, at, n); }
