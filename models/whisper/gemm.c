//go:build cgo

#include "gemm.h"
#include "columns.h"
#include "team.h"

#include <stdlib.h>

#ifdef STENO_WRAP // the build has told the linker so (scripts/engine.sh)

#include <ggml-cpu-impl.h>
#include <sgemm.h>

__typeof__(llamafile_sgemm) __real_llamafile_sgemm, __wrap_llamafile_sgemm;

enum {
	// MOST is the most columns that are taken; more are better served as a matrix (accel.c).
	MOST = 31,
	// HEAD is more than the rows of a product with the values of an attention head, and fewer than any weights have.
	HEAD = 160,
};

// see shows the scores of the vocabulary to the run. Where threads share the product, those of others are not there yet, so the
// column that is wanted is computed once more, once in a run.
static void see(int threads, columns_weights w, size_t m, const columns_vector *columns, size_t n) {
	if (steno_running == NULL || steno_running->no_speech >= 0) {
		return;
	}
	if (threads == 1) {
		steno_logits_seen(columns[0].dst, n > 1 ? columns[1].dst - columns[0].dst : 0, n, m);
		return;
	}
	float *logits = malloc(n * m * sizeof *logits);
	if (logits == NULL) {
		return;
	}
	columns_vector mine[MOST];
	for (size_t i = 0; i < n; i++) {
		mine[i] = (columns_vector){columns[i].x, logits + i * m};
	}
	columns_multiply(w, 0, m, mine, n);
	steno_logits_seen(logits, m, n, m);
	free(logits);
}

// __wrap_llamafile_sgemm stands where ggml multiplies: C = A·B with m rows, n columns and a depth of k blocks. It is called by each of
// its threads for its share.
bool __wrap_llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                            const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type) {
	const bool q8 = a_type == GGML_TYPE_Q8_0 && k % 2 == 0;
	if (!steno_gemm_enabled() || n > MOST || b_type != GGML_TYPE_F32 || c_type != GGML_TYPE_F32 ||
	    !(q8 || a_type == GGML_TYPE_F16)) {
		return __real_llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
	}
	const columns_weights w = {q8 ? COLUMNS_Q8 : COLUMNS_HALF, a, (size_t)lda * (q8 ? 34 : 2), (size_t)k * (q8 ? 32 : 1)};
	columns_vector columns[MOST];
	for (int64_t i = 0; i < n; i++) {
		columns[i] = (columns_vector){(const float *)b + i * ldb, (float *)c + i * ldc};
	}
	// Keys and values belong to one window, weights to all.
	const bool weights = lda == k && m > HEAD;
	if (!(weights && params->nth == 1 && steno_team_wait(w, m, columns, n))) {
		columns_multiply(w, m * params->ith / params->nth, m * (params->ith + 1) / params->nth, columns, n);
	}
	if (m >= STENO_VOCABULARY && params->ith == 0) {
		see(params->nth, w, m, columns, n);
	}
	return true;
}

bool steno_gemm_enabled(void) { return columns_used() != KERNELS_NONE; }

#else

bool steno_gemm_enabled(void) { return false; }

#endif
