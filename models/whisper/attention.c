//go:build cgo

#include "shim.h"

#include <stdlib.h>
#include <string.h>

#ifdef STENO_WRAP // the build has told the linker so (scripts/engine.sh)

enum {
	MEDIAN = 7, // steps that the filter looks at, as in Whisper's own timing (openai/whisper, timing.py)
	HALF = MEDIAN / 2,
};

// median sorts so few numbers that insertion is fast.
static float median(const float *x) {
	float s[MEDIAN];
	for (int i = 0; i < MEDIAN; i++) {
		int j = i;
		for (; j > 0 && s[j - 1] > x[i]; j--) {
			s[j] = s[j - 1];
		}
		s[j] = x[i];
	}
	return s[HALF];
}

// average filters each head's attention of a token over time and adds it up for all heads, lag steps earlier. x has room for HALF
// values before and after the steps.
static void average(const struct ggml_tensor *a, int64_t token, int64_t lag, float *x, float *sum) {
	const int64_t heads = a->ne[0], steps = a->ne[2];
	for (int64_t head = 0; head < heads; head++) {
		const char *from = (const char *)a->data + head * a->nb[0] + token * a->nb[1];
		for (int64_t k = 0; k < steps; k++) {
			x[k] = *(const float *)(from + k * a->nb[2]);
		}
		for (int64_t k = 1; k <= HALF; k++) { // reflected at both ends
			x[-k] = x[k];
			x[steps - 1 + k] = x[steps - 1 - k];
		}
		for (int64_t k = lag > 0 ? lag : 0; k < steps && k - lag < steps; k++) {
			sum[k - lag] += median(x + k - HALF) / (float)heads;
		}
	}
}

// keep stands in for the median filter of whisper.cpp's alignment, whose tensor is the attention, normalised over the tokens: heads,
// tokens, steps. It keeps what the text's tokens have; the library goes on with zeros, and what it makes of them nobody reads.
static void keep(struct ggml_tensor *dst, const struct ggml_tensor *a, int ith, int nth, void *window) {
	(void)nth;
	if (ith != 0) {
		return;
	}
	memset(dst->data, 0, ggml_nbytes(dst));
	steno_window *w = window;
	// A token's row tells where the one after it is heard, so the text's begin one before the text: with that which says that no
	// timestamps follow, after the start and, where there are several, the language. The last two are the text's last and the end's.
	const int64_t before = whisper_is_multilingual(w->model) ? 2 : 1, rows = a->ne[1] - before - 2, steps = a->ne[2];
	if (rows <= 0 || steps <= HALF) {
		return;
	}
	float *row = malloc((size_t)(steps + 2 * HALF) * sizeof *row);
	float *all = calloc((size_t)(rows * steps), sizeof *all);
	if (row == NULL || all == NULL) {
		free(row);
		free(all);
		return;
	}
	for (int64_t i = 0; i < rows; i++) {
		average(a, before + i, w->lag, row + HALF, all + i * steps);
	}
	free(row);
	free(w->attention); // of a window's earlier part, if the library went through it in several
	w->attention = all;
	w->attention_rows = (int)rows;
	w->attention_steps = (int)steps;
}

__typeof__(ggml_map_custom1) __real_ggml_map_custom1, __wrap_ggml_map_custom1;

// __wrap_ggml_map_custom1 stands where whisper.cpp adds an operation of its own to a graph: the median filter is the only one.
struct ggml_tensor *__wrap_ggml_map_custom1(struct ggml_context *ctx, struct ggml_tensor *a, ggml_custom1_op_t fun, int tasks, void *user) {
	steno_window *w = steno_running;
	if (w != NULL && w->words) {
		return __real_ggml_map_custom1(ctx, a, keep, 1, w);
	}
	return __real_ggml_map_custom1(ctx, a, fun, tasks, user);
}

#endif
