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

// kernels_avx2 tells whether this CPU and this system have what KERNELS_AVX2 needs.
bool kernels_avx2(void);

// kernels_avxvnni does the same for KERNELS_AVXVNNI, and for the compiler besides.
bool kernels_avxvnni(void);

// kernels_avx512 tells whether they have what all AVX-512 of ours needs; KERNELS_AVX512 needs VNNI or BF16 besides.
bool kernels_avx512(void);

// kernels_best is the best of those up to most that are supported; KERNELS_NONE must be.
kernels kernels_best(kernels most, bool (*supported)(kernels));

// KERNELS_KNOW_AVXVNNI tells whether this compiler's assembler knows AVX-VNNI.
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define KERNELS_KNOW_AVXVNNI 1
#else
#define KERNELS_KNOW_AVXVNNI 0
#endif
