//go:build cgo

#include "variant.h"

#ifndef STENO_VARIANTS // the build has made no variants

const char *steno_variant(void) { return "native"; }

#else

#include "kernels.h"

#include <ggml-cpu-impl.h>
#include <ggml-cpu.h>
#include <sgemm.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What the options of ggml mean that the build names. The compiler's tests ask the system too: it must save the registers; not every
// compiler knows every name.
#define HAS_SSE42 __builtin_cpu_supports("sse4.2")
#define HAS_AVX __builtin_cpu_supports("avx")
#define HAS_F16C kernels_avx2()
#define HAS_FMA __builtin_cpu_supports("fma")
#define HAS_AVX2 __builtin_cpu_supports("avx2")
#define HAS_BMI2 __builtin_cpu_supports("bmi2")
#define HAS_AVX_VNNI kernels_avxvnni()
#define HAS_AVX512 \
	(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vl") && \
	 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
#define HAS_AVX512_VNNI __builtin_cpu_supports("avx512vnni")

// The list is the build's: VARIANT(name, condition) for each, the best first.
#define VARIANT(name, condition) \
	__typeof__(ggml_backend_cpu_reg) ggml_backend_cpu_reg_##name; \
	__typeof__(ggml_backend_cpu_init) ggml_backend_cpu_init_##name; \
	__typeof__(ggml_backend_cpu_set_n_threads) ggml_backend_cpu_set_n_threads_##name; \
	__typeof__(llamafile_sgemm) llamafile_sgemm_##name; \
	static bool runs_##name(void) { return condition; }
#include <variants.h>
#undef VARIANT

typedef struct {
	const char *name;
	bool (*runs)(void);
	__typeof__(ggml_backend_cpu_reg) *reg;
	__typeof__(ggml_backend_cpu_init) *init;
	__typeof__(ggml_backend_cpu_set_n_threads) *set_n_threads;
	__typeof__(llamafile_sgemm) *sgemm;
} variant;

static const variant variants[] = {
#define VARIANT(name, condition) \
	{#name, \
	 runs_##name, \
	 ggml_backend_cpu_reg_##name, \
	 ggml_backend_cpu_init_##name, \
	 ggml_backend_cpu_set_n_threads_##name, \
	 llamafile_sgemm_##name},
#include <variants.h>
#undef VARIANT
};

// choose takes the best, or the one that GGML_CPU_VARIANT names, for tests. Its prefix is ggml's because an engine process is given
// ggml's variables, and none of steno's.
static const variant *choose(void) {
	const char *wanted = getenv("GGML_CPU_VARIANT");
	for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
		if ((wanted == NULL || strcmp(wanted, variants[i].name) == 0) && variants[i].runs()) {
			return &variants[i];
		}
	}
	fprintf(stderr, "steno has no kernels that this CPU runs%s%s\n", wanted != NULL ? ", of those named " : "",
	        wanted != NULL ? wanted : "");
	exit(1);
}

static const variant *chosen(void) {
	static _Atomic(const variant *) kept;
	const variant *v = atomic_load_explicit(&kept, memory_order_relaxed);
	if (v == NULL) {
		v = choose(); // the same for every thread that gets here
		atomic_store_explicit(&kept, v, memory_order_relaxed);
	}
	return v;
}

const char *steno_variant(void) { return chosen()->name; }

// What follows stands in the place of ggml's own functions, for ggml's registry, for our checks and for gemm.c.

ggml_backend_reg_t ggml_backend_cpu_reg(void) { return chosen()->reg(); }

ggml_backend_t ggml_backend_cpu_init(void) { return chosen()->init(); }

void ggml_backend_cpu_set_n_threads(ggml_backend_t backend, int threads) { chosen()->set_n_threads(backend, threads); }

__typeof__(llamafile_sgemm) __real_llamafile_sgemm;

bool __real_llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                            const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type) {
	return chosen()->sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}

#endif
