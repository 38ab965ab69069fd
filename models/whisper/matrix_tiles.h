// What matrix.c has of AMX-BF16, whose unit is a tile of 16 rows of 64 bytes.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// matrix_tiles_supported tells whether this CPU has AMX-BF16, and the system lets this process use it.
bool matrix_tiles_supported(void);

// tiles_panel computes dst[r][c] = sum over k of rows[r][k] * columns[c][k] for all columns of a panel, as matrix_multiply does.
// pairs is a multiple of MATRIX_DEPTH. It may be called where matrix_tiles_supported says so, and nowhere else.
void tiles_panel(float *dst, size_t ldc, const uint32_t *rows, size_t lda, size_t row_count, const uint32_t *panel, size_t pairs);
