// Matrix products and attention: in bfloat16 on CPUs with AVX512_BF16 (AMD since Zen 4, Intel since Cooper Lake), the products on
// tiles where there is AMX-BF16 (Intel since Sapphire Rapids); in floats on others with AVX2.
//
// Why they exist and what they gain: docs/adr/0007-matrix.md. All functions are free of state and may run on many threads
// at once. Results do not depend on the number of threads: it divides rows and columns, never a sum.
#pragma once

#include "kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	// MATRIX_PANEL is the number of columns in a panel, the unit in which the right operand is packed.
	MATRIX_PANEL = 64,
	// MATRIX_DEPTH is the number of words that a row's length is padded to: the depth of a tile.
	MATRIX_DEPTH = 16,
};

// matrix_best is the best set of kernels that this CPU and this system allow, at most `most`.
kernels matrix_best(kernels most);

// matrix_use chooses the set, at first none: nothing that follows may be called before one has been chosen that matrix_best
// allows. The format of words may be another in another set, so no product may be under way.
void matrix_use(kernels k);

// matrix_used tells which was chosen.
kernels matrix_used(void);

// matrix_words is the number of 32-bit words that hold n values in the format in use: bfloat16 two by two, or floats; padded with
// zeros to whole tiles.
size_t matrix_words(size_t n);

// matrix_panels is the number of panels that hold n columns.
static inline size_t matrix_panels(size_t n) { return (n + MATRIX_PANEL - 1) / MATRIX_PANEL; }

// matrix_narrow rounds n floats to matrix_words(n) words.
void matrix_narrow(uint32_t *dst, const float *src, size_t n);

// matrix_narrow_half does the same from IEEE half precision.
void matrix_narrow_half(uint32_t *dst, const uint16_t *src, size_t n);

// matrix_pack makes a panel of up to MATRIX_PANEL columns, each given as so many words at columns + i*words. A panel takes
// MATRIX_PANEL*words of them.
void matrix_pack(uint32_t *panel, const uint32_t *columns, size_t count, size_t words);

// matrix_multiply computes dst[r][c] = sum over k of rows[r][k] * columns[c][k], for all rows and the columns of one panel.
// rows start lda words apart, rows of dst ldc floats.
void matrix_multiply(float *dst, size_t ldc, const uint32_t *rows, size_t lda, size_t row_count, const uint32_t *panel,
                     size_t column_count, size_t words);

// matrix_softmax writes exp(scale*(x-max)) of a row of n floats as matrix_words(n) words, and returns the sum of
// what they hold.
float matrix_softmax(uint32_t *dst, const float *row, size_t n, float scale);

// matrix_gelu writes the Gaussian error linear unit of n floats, by its usual approximation x/(1+exp(-2z)) with
// z = sqrt(2/pi)*(x+0.044715x³). dst may be src.
void matrix_gelu(float *dst, const float *src, size_t n);

// matrix_scale multiplies n floats.
void matrix_scale(float *x, size_t n, float by);

// matrix_scale_by multiplies n floats one by one; dst may be x.
void matrix_scale_by(float *dst, const float *x, const float *by, size_t n);

// matrix_add adds n floats one by one, matrix_add_one the same to all; dst may be x or y.
void matrix_add(float *dst, const float *x, const float *y, size_t n);
void matrix_add_one(float *dst, const float *x, float y, size_t n);

// matrix_normalise gives n floats mean 0 and variance 1 (epsilon is added to the variance), then multiplies by weights and adds
// bias, where those are not NULL. dst may be x.
void matrix_normalise(float *dst, const float *x, size_t n, float epsilon, const float *weights, const float *bias);

// matrix_collect reads n floats that lie step bytes apart; matrix_to_half rounds them to half precision besides.
void matrix_collect(float *dst, const char *src, size_t step, size_t n);
void matrix_to_half(uint16_t *dst, const char *src, size_t step, size_t n);

// matrix_pick_half rounds the n floats src[at[i]] to half precision.
void matrix_pick_half(uint16_t *dst, const float *src, const int32_t *at, size_t n);
