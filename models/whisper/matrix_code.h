// What the functions of matrix.h are computed by: one matrix_code for each kind of vectors.
#pragma once

#include "matrix.h"

// matrix_code has the functions of matrix.h under their names there. They may be called where matrix_best allows it.
typedef struct {
	size_t per_word; // values in a word: 2 in bfloat16, 1 as a float
	void (*narrow)(uint32_t *dst, const float *src, size_t n);
	void (*narrow_half)(uint32_t *dst, const uint16_t *src, size_t n);
	void (*pack)(uint32_t *panel, const uint32_t *columns, size_t count, size_t words);
	// multiply is for whole panels.
	void (*multiply)(float *dst, size_t ldc, const uint32_t *rows, size_t lda, size_t row_count, const uint32_t *panel,
	                 size_t words);
	float (*softmax)(uint32_t *dst, const float *row, size_t n, float scale);
	void (*gelu)(float *dst, const float *src, size_t n);
	void (*scale)(float *x, size_t n, float by);
	void (*scale_by)(float *dst, const float *x, const float *by, size_t n);
	void (*add)(float *dst, const float *x, const float *y, size_t n);
	void (*add_one)(float *dst, const float *x, float y, size_t n);
	void (*normalise)(float *dst, const float *x, size_t n, float epsilon, const float *weights, const float *bias);
	void (*collect)(float *dst, const char *src, size_t step, size_t n);
	void (*to_half)(uint16_t *dst, const char *src, size_t step, size_t n);
	void (*pick_half)(uint16_t *dst, const float *src, const int32_t *at, size_t n);
} matrix_code;

// MATRIX_CODE_OF_THIS_FILE is made of the functions of these names and of PER_WORD.
#define MATRIX_CODE_OF_THIS_FILE \
	{.per_word = PER_WORD, .narrow = narrow, .narrow_half = narrow_half, .pack = pack, .multiply = multiply, \
	 .softmax = softmax, .gelu = gelu, .scale = scale, .scale_by = scale_by, .add = add, .add_one = add_one, \
	 .normalise = normalise, .collect = collect, .to_half = to_half, .pick_half = pick_half}

// matrix_avx512 is in bfloat16, for AVX512_BF16; matrix_avx2 in floats, for AVX2 with FMA and F16C.
extern const matrix_code matrix_avx512, matrix_avx2;

// words_for is matrix_words where a word holds per_word values.
static inline size_t words_for(size_t n, size_t per_word) {
	const size_t step = per_word * MATRIX_DEPTH;
	return (n + step - 1) / step * MATRIX_DEPTH;
}
