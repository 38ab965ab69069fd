// The outer loop of columns.c and columns_avx2.c, whose inner ones are functions rows_TYPE of some rows for n columns.
#pragma once

// COLUMNS_RANGE makes the function type_n: it computes rows [from, to) for n columns, some at a time and the rest one by one. prepared
// is the type that the columns were brought to. COLUMNS_CODE says what it is compiled for.
#define COLUMNS_RANGE(prepared, type, n, rows)                                                                                  \
	static COLUMNS_CODE __attribute__((noinline)) void type##_##n(columns_weights w, size_t from, size_t to, const prepared *x, \
	                                                               const columns_vector *columns) {                              \
		size_t r = from;                                                                                                         \
		for (; r + rows <= to; r += rows) {                                                                                      \
			rows_##type(rows, n, w, r, x, columns);                                                                              \
		}                                                                                                                        \
		for (; r < to; r++) {                                                                                                    \
			rows_##type(1, n, w, r, x, columns);                                                                                 \
		}                                                                                                                        \
	}

// COLUMNS_RANGES names those of a type, for a table of them.
#define COLUMNS_RANGES(type) {type##_1, type##_2, type##_3, type##_4, type##_5, type##_6, type##_7, type##_8}
