//go:build cgo

#include "matrix_tiles.h"
#include "matrix.h"
#include "tiles.h"

#if TILES_CODE

#include <sys/syscall.h>
#include <unistd.h>

enum {
	TILE = 16, // rows of a tile, and words in a row
	// DEPTH is how many pairs of a panel are used before the next rows: 64 KiB, well within the second-level cache.
	DEPTH = 256,
};

bool matrix_tiles_supported(void) {
	// The kernel saves tiles only for processes that have asked (Documentation/arch/x86/xstate.rst).
	enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
	return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
	       syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

// configure gives tiles 0 to 4, the sums and one tile of rows, some rows, and all others 16.
static void configure(size_t rows) {
	tile_shapes shapes = {.palette = 1};
	for (int i = 0; i < 8; i++) {
		shapes.row_bytes[i] = 64;
		shapes.rows[i] = i < 5 ? (uint8_t)rows : TILE;
	}
	TILE_CONFIGURE(shapes);
}

// LOAD and STORE take the distance of rows in words.
#define LOAD(tile, from, words) TILE_LOAD(tile, from, (words) * sizeof(uint32_t))
#define STORE(tile, to, words) TILE_STORE(tile, to, (words) * sizeof(uint32_t))

// square computes 32 rows of 32 columns: 2 tiles of rows and 2 of columns feed 4 of sums.
static void square(float *dst, size_t ldc, const uint32_t *a, size_t lda, const uint32_t *panel, size_t pairs, bool add) {
	if (add) {
		LOAD(0, dst, ldc);
		LOAD(1, dst + TILE, ldc);
		LOAD(2, dst + TILE * ldc, ldc);
		LOAD(3, dst + TILE * ldc + TILE, ldc);
	} else {
		TILE_ZERO(0);
		TILE_ZERO(1);
		TILE_ZERO(2);
		TILE_ZERO(3);
	}
	for (size_t k = 0; k < pairs; k += TILE) {
		LOAD(4, a + k, lda);
		LOAD(6, panel + k * MATRIX_PANEL, (size_t)MATRIX_PANEL);
		LOAD(5, a + TILE * lda + k, lda);
		LOAD(7, panel + k * MATRIX_PANEL + TILE, (size_t)MATRIX_PANEL);
		TILE_MULTIPLY_BF16(0, 4, 6);
		TILE_MULTIPLY_BF16(2, 5, 6);
		TILE_MULTIPLY_BF16(1, 4, 7);
		TILE_MULTIPLY_BF16(3, 5, 7);
	}
	STORE(0, dst, ldc);
	STORE(1, dst + TILE, ldc);
	STORE(2, dst + TILE * ldc, ldc);
	STORE(3, dst + TILE * ldc + TILE, ldc);
}

// strip computes up to 16 rows, as many as the tiles are configured for, of all columns of a panel.
static void strip(float *dst, size_t ldc, const uint32_t *a, size_t lda, const uint32_t *panel, size_t pairs, bool add) {
	if (add) {
		LOAD(0, dst, ldc);
		LOAD(1, dst + TILE, ldc);
		LOAD(2, dst + 2 * TILE, ldc);
		LOAD(3, dst + 3 * TILE, ldc);
	} else {
		TILE_ZERO(0);
		TILE_ZERO(1);
		TILE_ZERO(2);
		TILE_ZERO(3);
	}
	for (size_t k = 0; k < pairs; k += TILE) {
		const uint32_t *b = panel + k * MATRIX_PANEL;
		LOAD(4, a + k, lda);
		LOAD(6, b, (size_t)MATRIX_PANEL);
		TILE_MULTIPLY_BF16(0, 4, 6);
		LOAD(7, b + TILE, (size_t)MATRIX_PANEL);
		TILE_MULTIPLY_BF16(1, 4, 7);
		LOAD(6, b + 2 * TILE, (size_t)MATRIX_PANEL);
		TILE_MULTIPLY_BF16(2, 4, 6);
		LOAD(7, b + 3 * TILE, (size_t)MATRIX_PANEL);
		TILE_MULTIPLY_BF16(3, 4, 7);
	}
	STORE(0, dst, ldc);
	STORE(1, dst + TILE, ldc);
	STORE(2, dst + 2 * TILE, ldc);
	STORE(3, dst + 3 * TILE, ldc);
}

void tiles_panel(float *dst, size_t ldc, const uint32_t *rows, size_t lda, size_t row_count, const uint32_t *panel, size_t pairs) {
	const size_t whole = row_count / TILE * TILE;
	for (size_t k = 0; k < pairs; k += DEPTH) {
		const size_t depth = pairs - k < DEPTH ? pairs - k : DEPTH;
		const uint32_t *a = rows + k, *b = panel + k * MATRIX_PANEL;
		size_t r = 0;
		configure(TILE);
		for (; r + 2 * TILE <= whole; r += 2 * TILE) {
			square(dst + r * ldc, ldc, a + r * lda, lda, b, depth, k > 0);
			square(dst + r * ldc + 2 * TILE, ldc, a + r * lda, lda, b + 2 * TILE, depth, k > 0);
		}
		if (r < whole) {
			strip(dst + r * ldc, ldc, a + r * lda, lda, b, depth, k > 0);
		}
		if (whole < row_count) {
			configure(row_count - whole);
			strip(dst + whole * ldc, ldc, a + whole * lda, lda, b, depth, k > 0);
		}
	}
	TILE_RELEASE();
}

#else

bool matrix_tiles_supported(void) { return false; }
void tiles_panel(float *dst, size_t ldc, const uint32_t *rows, size_t lda, size_t row_count, const uint32_t *panel, size_t pairs) {}

#endif
