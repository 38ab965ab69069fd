//go:build cgo

#include "shim.h"

#include <math.h>
#include <stdio.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

static void log_errors(enum ggml_log_level level, const char *text, void *user) {
	(void)user;
	if (level == GGML_LOG_LEVEL_ERROR) {
		fputs(text, stderr);
	}
}

void steno_set_up(void) {
#ifdef __GLIBC__
	// glibc's threshold for memory that goes back to the system rises to the largest block ever freed, 32 MiB at most, and each of
	// Go's threads may get an arena of its own: states that come and go then leave holes that nobody uses.
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
	mallopt(M_ARENA_MAX, 1);
#endif
	whisper_log_set(log_errors, NULL);
	ggml_log_set(log_errors, NULL);
}

struct whisper_context *steno_load(const char *path, bool gpu, int device, bool flash_attn, int dtw) {
	struct whisper_context_params p = whisper_context_default_params();
	p.use_gpu = gpu;
	p.gpu_device = device;
	p.flash_attn = flash_attn;
	p.dtw_token_timestamps = dtw != 0;
	p.dtw_aheads_preset = (enum whisper_alignment_heads_preset)dtw;
	return whisper_init_from_file_with_params_no_state(path, p);
}

bool steno_load_backend(const char *path) { return ggml_backend_load(path) != NULL; }

int steno_gpus(void) {
	int n = 0;
	for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
		enum ggml_backend_dev_type type = ggml_backend_dev_type(ggml_backend_dev_get(i));
		n += type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
	}
	return n;
}

double steno_clock(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void steno_charge(steno_window *w, double seconds) {
	if (w != NULL) {
		*(w->steps == 0 ? &w->encode : &w->decode) += seconds;
	}
}

void steno_take_up(steno_window *w) {
	if (w != NULL) {
		w->since = steno_clock();
	}
}

void steno_lay_down(steno_window *w) {
	if (w != NULL && w->since > 0) {
		steno_charge(w, steno_clock() - w->since);
		w->since = 0;
	}
}

// count_step is called with the scores of each token, the first of which end the prompt.
static void count_step(struct whisper_context *ctx, struct whisper_state *state, const whisper_token_data *tokens, int n,
                       float *logits, void *window) {
	(void)ctx, (void)state, (void)tokens, (void)n, (void)logits;
	steno_window *w = window;
	steno_lay_down(w);
	w->steps++;
	steno_take_up(w);
}

static bool aborted(void *flag) { return atomic_load(&((steno_abort *)flag)->set) != 0; }

static int run(struct whisper_context *ctx, struct whisper_state *state, steno_window *w, steno_abort *abort) {
	struct whisper_full_params p = whisper_full_default_params(WHISPER_SAMPLING_GREEDY);
	p.n_threads = w->threads;
	p.audio_ctx = w->audio_ctx;
	p.duration_ms = w->duration_ms;
	p.language = w->language;
	p.translate = w->translate;
	p.initial_prompt = w->prompt;
	p.no_context = true;
	// One pass: everything that was decoded is kept, timestamps as tokens among the text, and no window is seeked to.
	p.single_segment = true;
	p.suppress_nst = true;
	p.print_progress = false;
	p.print_timestamps = false;
	p.greedy.best_of = w->fallback ? 5 : 1;
	if (!w->fallback) {
		p.temperature_inc = 0;
	}
	p.abort_callback = aborted;
	p.abort_callback_user_data = abort;
	p.logits_filter_callback = count_step;
	p.logits_filter_callback_user_data = w;
	return whisper_full_with_state(ctx, state, p, NULL, 0);
}

_Thread_local steno_window *steno_running;

void steno_logits_seen(const float *logits, size_t stride, size_t count, size_t vocabulary) {
	steno_window *w = steno_running;
	if (w == NULL || w->no_speech >= 0) {
		return;
	}
	// A prompt ends with the token that starts a transcript and, where there are several, those of language and task.
	const size_t last = whisper_is_multilingual(w->model) ? 3 : 1;
	const whisper_token nobody = whisper_token_nosp(w->model);
	if (count < last || (size_t)nobody >= vocabulary) {
		return;
	}
	const float *x = logits + (count - last) * stride;
	float top = x[0];
	for (size_t i = 1; i < vocabulary; i++) {
		top = x[i] > top ? x[i] : top;
	}
	double sum = 0;
	for (size_t i = 0; i < vocabulary; i++) {
		sum += expf(x[i] - top);
	}
	w->no_speech = (float)(expf(x[nobody] - top) / sum);
}

int steno_run(struct whisper_context *ctx, struct whisper_state *state, steno_window *w, steno_abort *abort) {
	w->model = ctx;
	w->no_speech = -1;
	w->steps = 0;
	w->encode = w->decode = 0;
	steno_running = w;
	steno_take_up(w);
	const int rc = run(ctx, state, w, abort);
	steno_lay_down(w);
	steno_running = NULL;
	return rc;
}
