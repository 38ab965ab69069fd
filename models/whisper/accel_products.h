// The products of accel_ops.c, and what is done to them while they lie in the cache.
#pragma once

#include "accel_ops.h"

#include <stddef.h>

// finish is what follows a product.
typedef struct {
	const float *row;      // one value for each column of the result, to be added; or NULL
	const float *column;   // one for each row; or NULL
	bool gelu;             // after those
	const float *residual; // as large as the result, added last; or NULL
	size_t residual_ldc;   // floats from row to row of it
} finish;

// accel_threads is what accel_set_threads has set.
int accel_threads(const accel *x);

// accel_mul_mat computes a product, and into dst what follows it; dst is the product itself where nothing does.
void accel_mul_mat(accel *x, const struct ggml_tensor *product, const struct ggml_tensor *dst, finish f);

// accel_attention computes mul_mat(v, soft_max(mul_mat(k, q))) without its matrix of scores.
void accel_attention(accel *x, const struct ggml_tensor *kq, const struct ggml_tensor *softmax, const struct ggml_tensor *dst);

// accel_soft_max is for the one place where its result is wanted for itself: word times take the decoder's attention over a
// prompt.
void accel_soft_max(const struct ggml_tensor *dst);
