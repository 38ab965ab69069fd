// Silero's voice activity model (version 6 for 16 kHz, without context between frames, as whisper.cpp runs it). The library's
// own does one frame of 32 ms at a time through a graph of some forty nodes, which took a tenth of the time of a whole transcript
// with base; here all that does not depend on the frame before is done for 16 frames side by side.
#pragma once

enum {
	VAD_FRAME = 512, // samples
	VAD_PAD = 64,    // samples that are mirrored at each end of a frame
	VAD_FILTER = 256, // samples of a filter of the short-time transform, of which a frame takes 4, 128 apart
	VAD_BINS = 129,
	VAD_HIDDEN = 128,
	VAD_GATES = 4 * VAD_HIDDEN, // input, forget, cell, output
	VAD_LAYERS = 4,
};

// vad_layer is a convolution over 3 positions, followed by a ReLU.
typedef struct {
	int in, out, stride;
} vad_layer;

extern const vad_layer vad_layers[VAD_LAYERS];

// vad_weights are the weights, row by row. Those of layer i have out rows of 3 times in values, position by position.
typedef struct {
	const float *filters;                            // 2 * VAD_BINS rows of VAD_FILTER: cosines, then sines
	const float *layer[VAD_LAYERS], *bias[VAD_LAYERS];
	const float *input, *input_bias;                 // VAD_GATES rows of VAD_HIDDEN
	const float *hidden, *hidden_bias;               // transposed: VAD_HIDDEN rows of VAD_GATES
	const float *last, *last_bias;                   // VAD_HIDDEN, and one
} vad_weights;

// steno_vad writes the probability of speech in each frame of n samples; the last frame may be short, with silence after it.
// There is no state between calls, and many may run at once.
void steno_vad(const vad_weights *w, const float *samples, int n, float *probs);
