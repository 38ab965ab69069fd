// The instructions of AMX, for matrix_tiles.c and columns_tiles.c: 8 registers of up to 16 rows of 64 bytes.
//
// The compiler's own functions for them are not used: GCC 12's say of memory neither what they read nor that they read, and
// stores before them get lost.
#pragma once

#include <stddef.h>
#include <stdint.h>

// TILES_CODE tells whether this compiler and system know them.
#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define TILES_CODE 1
#else
#define TILES_CODE 0
#endif

// TILE_LOAD and TILE_STORE move a tile whose rows lie stride bytes apart.
#define TILE_LOAD(tile, from, stride) \
	__asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(tile, to, stride) \
	__asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"((size_t)(stride)) : "memory")
#define TILE_ZERO(tile) __asm__ volatile("tilezero %tmm" #tile)
// TILE_MULTIPLY_BF16 adds a (rows by pairs of bfloat16) times b (pairs by columns) to sum, in floats.
#define TILE_MULTIPLY_BF16(sum, a, b) __asm__ volatile("tdpbf16ps %tmm" #b ", %tmm" #a ", %tmm" #sum)
// TILE_MULTIPLY_INT8 adds a (rows by fours of signed bytes) times b (fours by columns) to sum, in 32-bit integers.
#define TILE_MULTIPLY_INT8(sum, a, b) __asm__ volatile("tdpbssd %tmm" #b ", %tmm" #a ", %tmm" #sum)
#define TILE_RELEASE() __asm__ volatile("tilerelease")

// tile_shapes is what LDTILECFG reads; palette is 1.
typedef struct {
	uint8_t palette, start_row, reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
} tile_shapes;

#define TILE_CONFIGURE(shapes) __asm__ volatile("ldtilecfg %0" ::"m"(shapes))
