// What columns.c has of AMX-INT8: products of q8_0 with up to 16 columns at once, at hardly more than the cost of one.
#pragma once

#include "columns.h"

enum {
	// COLUMNS_IN_TILES is the most columns that columns_tiles takes.
	COLUMNS_IN_TILES = 16,
};

// columns_tiles_supported tells whether this CPU has AMX-INT8, and the system lets this process use it.
bool columns_tiles_supported(void);

// columns_tiles is columns_multiply for weights in q8_0. It may be called where columns_tiles_supported says so, and nowhere
// else.
void columns_tiles(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n);
