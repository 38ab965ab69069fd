// What columns.c has of AVX2, for CPUs without AVX-512.
#pragma once

#include "columns.h"

// columns_avx2_supported tells whether this CPU has AVX2, FMA and F16C.
bool columns_avx2_supported(void);

// columns_avxvnni_supported tells whether this CPU has AVX-VNNI besides.
bool columns_avxvnni_supported(void);

// columns_avx2 is columns_multiply for up to COLUMNS_TOGETHER columns. vnni multiplies weights in q8_0 by AVX-VNNI. It may be called
// where the functions above say so, and nowhere else.
void columns_avx2(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n, bool vnni);
