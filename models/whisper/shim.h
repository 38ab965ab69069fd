// A narrow face of whisper.h for Go: plain values in, plain values out, and an abort flag that Go can set.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <whisper.h>

typedef struct {
	struct whisper_context *model; // set by steno_run
	const char *language; // ISO 639-1, never "auto"
	const char *prompt;   // may be NULL
	int threads;
	int audio_ctx; // encoder positions, 0 for all
	bool translate;
	bool fallback; // temperature fallback
	int duration_ms; // of the audio within the spectrogram
	// no_speech is what the run found for the probability that nobody speaks: that of its token as the first after the token that
	// starts a transcript. Below 0 where it could not be seen. The library's own figure is not it: whisper.cpp v1.8.5 takes it from
	// logits that an earlier run left behind, since only those of the prompt's last token are kept.
	float no_speech;
	// What the run took: steps of the decoder, and seconds before the first of them and from it on, without those in which its
	// thread worked for other windows.
	int steps;
	double encode, decode;
	// attention is how much each token of the text, a row, rests on each 20 ms from the window's start, in standard deviations over the
	// tokens; lag says by how many steps the heads of the model are late. NULL where it is not wanted (words) or could not be seen. Who
	// runs the window frees it.
	bool words;
	int lag;
	float *attention;
	int attention_rows, attention_steps;
	double since; // by the clock, while the thread works for this window; 0 while it does not
} steno_window;

// steno_running is the window that runs on this thread, or NULL.
extern _Thread_local steno_window *steno_running;

// steno_logits_seen is told of the scores of the vocabulary for count tokens, stride floats apart. Of a run's first it takes what
// no_speech needs.
void steno_logits_seen(const float *logits, size_t stride, size_t count, size_t vocabulary);

// steno_load_backend loads a library of ggml that computes on other devices than the CPU, and tells whether that worked.
bool steno_load_backend(const char *path);

// steno_gpus counts the GPUs that the loaded libraries see.
int steno_gpus(void);

// steno_clock is a clock in seconds that only goes forward.
double steno_clock(void);

// steno_take_up and steno_lay_down say when the thread turns to the window and from it; steno_charge adds seconds besides. Nothing is
// counted where the window is NULL.
void steno_take_up(steno_window *w);
void steno_lay_down(steno_window *w);
void steno_charge(steno_window *w, double seconds);

// steno_abort is a flag that ends a run.
typedef struct {
	atomic_int set;
} steno_abort;

// steno_load reads the weights without a decode state. dtw is a whisper_alignment_heads_preset, 0 for none.
struct whisper_context *steno_load(const char *path, bool gpu, int device, bool flash_attn, int dtw);

// STENO_VOCABULARY is a number of rows that only the product with the vocabulary has, the last of each step of a decode.
enum { STENO_VOCABULARY = 1 << 14 };

// steno_run decodes in one pass the window whose spectrogram the state was given. abort may be set from another thread.
int steno_run(struct whisper_context *ctx, struct whisper_state *state, steno_window *w, steno_abort *abort);

// steno_set_up prepares the process, once: only errors of the library get through, to stderr, and what is freed is given back to
// the system.
void steno_set_up(void);
