// A narrow face of whisper.h for Go: plain values in, plain values out, and an abort flag that Go can set.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <whisper.h>

typedef struct {
	const char *language; // ISO 639-1, never "auto"
	const char *prompt;   // may be NULL
	int threads;
	int audio_ctx; // encoder positions, 0 for all
	bool translate;
	bool fallback; // temperature fallback
	int duration_ms; // of the audio within the spectrogram
} steno_window;

// steno_abort is a flag that ends a run.
typedef struct {
	atomic_int set;
} steno_abort;

// steno_load reads the weights without a decode state. dtw is a whisper_alignment_heads_preset, 0 for none.
struct whisper_context *steno_load(const char *path, bool gpu, int device, bool flash_attn, int dtw);

// steno_run decodes in one pass the window whose spectrogram the state was given. abort may be set from another thread.
int steno_run(struct whisper_context *ctx, struct whisper_state *state, const steno_window *w, steno_abort *abort);

// steno_set_up prepares the process, once: only errors of the library get through, to stderr, and what is freed is given back to
// the system.
void steno_set_up(void);
