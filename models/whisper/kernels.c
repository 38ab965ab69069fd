//go:build cgo

#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>

// Compilers know F16C and AVX-VNNI by name only since late, so the CPU is asked itself. Both need of the system what AVX2 does.
bool kernels_avx2(void) {
	unsigned a, b, c, d;
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

bool kernels_avx512(void) {
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("avx512vl");
}

bool kernels_avxvnni(void) {
	enum { AVX_VNNI = 1 << 4 };
	unsigned a, b, c, d;
	return KERNELS_KNOW_AVXVNNI && kernels_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI) != 0;
}

#else

bool kernels_avx2(void) { return false; }
bool kernels_avxvnni(void) { return false; }
bool kernels_avx512(void) { return false; }

#endif

kernels kernels_best(kernels most, bool (*supported)(kernels)) {
	while (!supported(most)) {
		most--;
	}
	return most;
}
