// What columns.c has of AVX2, for CPUs without AVX-512.
#pragma once

#include "columns.h"

// columns_avx2 is columns_multiply for up to COLUMNS_TOGETHER columns. vnni multiplies weights in q8_0 by AVX-VNNI. It may be
// called where kernels_avx2 says so, with vnni where kernels_avxvnni does, and nowhere else.
void columns_avx2(columns_weights w, size_t from, size_t to, const columns_vector *columns, size_t n, bool vnni);
