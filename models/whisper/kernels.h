// The sets of kernels of our own, for matrix.h and columns.h to choose from.
#pragma once

#include <stdbool.h>

// kernels are in the order of what they ask of a CPU: each does without what those after it need.
typedef enum {
	KERNELS_NONE,    // none of ours: ggml's
	KERNELS_AVX2,    // AVX2, FMA and F16C: Intel since Haswell, AMD since Zen
	KERNELS_AVXVNNI, // AVX-VNNI besides, which multiplies bytes: Intel desktops since Alder Lake, AMD since Zen 5
	KERNELS_AVX512,  // AVX-512, with VNNI or with BF16
	KERNELS_AMX,     // tiles besides: Intel since Sapphire Rapids
} kernels;
