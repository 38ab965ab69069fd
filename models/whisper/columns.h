// Matrix products with few columns, the decoder's: weights in q8_0 or half precision times a few vectors of floats, on AVX2,
// on AVX-512 with VNNI (Intel since Ice Lake, AMD since Zen 4) or, for q8_0, on AMX.
//
// A product of one column is bound by the memory that the weights come from; up to COLUMNS_TOGETHER columns cost hardly more.
// The result of a column does not depend on how many are computed together. All functions are free of state and may run on many
// threads at once.
#pragma once

#include "kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	// COLUMNS_TOGETHER is the most columns that vectors multiply reading the weights once.
	COLUMNS_TOGETHER = 8,
};

// columns_best is the best set of kernels that this CPU and this system allow, at most `most`.
kernels columns_best(kernels most);

// columns_use chooses the set, at first none: columns_multiply may be called after one has been chosen that columns_best allows.
void columns_use(kernels k);

// columns_used tells which was chosen.
kernels columns_used(void);

typedef enum { COLUMNS_HALF, COLUMNS_Q8 } columns_type;

// columns_weights is a matrix whose rows are multiplied.
typedef struct {
	columns_type type;
	const char *data;
	size_t stride; // bytes from row to row
	size_t depth;  // values in a row; a multiple of 64 in q8_0
} columns_weights;

// columns_vector is one column: depth floats at x, and dst, whose element r gets the product with row r.
typedef struct {
	const float *x;
	float *dst;
} columns_vector;

// columns_multiply computes rows [from, to) for all of count columns.
void columns_multiply(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t count);
