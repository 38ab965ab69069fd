// Matrix products with few columns, the decoder's: weights in q8_0 or half precision times a few vectors of floats, on AVX-512
// or, for q8_0, on AMX.
//
// A product of one column is bound by the memory that the weights come from; up to COLUMNS_TOGETHER columns cost hardly more.
// The result of a column does not depend on how many are computed together. All functions are free of state and may run on many
// threads at once.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	// COLUMNS_TOGETHER is the most columns that vectors multiply reading the weights once.
	COLUMNS_TOGETHER = 8,
};

// columns_supported tells whether this CPU has the instructions (AVX-512 with VNNI: Intel since Ice Lake, AMD since Zen 4).
// Nothing else here may be called where it does not.
bool columns_supported(void);

// columns_tiles_supported tells whether this CPU has AMX-INT8 besides, and the system lets this process use it.
bool columns_tiles_supported(void);

// columns_use_tiles chooses what weights in q8_0 are multiplied on; by default it is vectors.
void columns_use_tiles(bool on);

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
