//go:build cgo

#include "vad.h"

#include <math.h>
#include <string.h>

const vad_layer vad_layers[VAD_LAYERS] = {{VAD_BINS, 128, 1}, {128, 64, 2}, {64, 64, 2}, {64, VAD_HIDDEN, 1}};

// GROUP frames are computed side by side, one in each lane of a vector; the compiler makes of it what the CPU has.
enum {
	GROUP = 16,
	PADDED = VAD_FRAME + 2 * VAD_PAD,
	POSITIONS = 4,                  // of the short-time transform in a frame
	WIDEST = (POSITIONS + 2) * 129, // values between layers, with an empty position at each end
};
typedef float lanes __attribute__((vector_size(GROUP * sizeof(float))));
typedef int whole_lanes __attribute__((vector_size(GROUP * sizeof(int))));

#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
#define VAD_CODE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VAD_CODE
#endif
#define VAD_INLINE static inline __attribute__((always_inline))

VAD_INLINE lanes all(float x) { return (lanes){0} + x; }

// choose takes lanes of a where the comparison holds, else those of b.
VAD_INLINE lanes choose(whole_lanes holds, lanes a, lanes b) {
	return (lanes)((holds & (whole_lanes)a) | (~holds & (whole_lanes)b));
}

VAD_INLINE lanes at_least_0(lanes x) { return (lanes)((x > 0) & (whole_lanes)x); }

// exponential is e^x within 3 millionths, for x clamped to ±87: 2^n times the Taylor series of the rest.
VAD_INLINE lanes exponential(lanes x) {
	x = choose(x > 87, all(87), choose(x < -87, all(-87), x));
	const whole_lanes n = __builtin_convertvector(x * 1.44269504f + choose(x > 0, all(0.5f), all(-0.5f)), whole_lanes);
	const lanes r = x - __builtin_convertvector(n, lanes) * 0.693147181f;
	const lanes series = 1 + r * (1 + r * (0.5f + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720))))));
	return series * (lanes)((n + 127) << 23);
}

VAD_INLINE lanes sigmoid(lanes x) { return 1 / (1 + exponential(-x)); }

VAD_INLINE lanes hyperbolic_tangent(lanes x) { return 2 * sigmoid(2 * x) - 1; }

// some_rows computes rows by positions sums of depth products: dst[p*dst_step + r] = bias[r] + weights[r]·(x + p*x_step).
VAD_INLINE void some_rows(const int rows, const int positions, lanes *dst, int dst_step, const float *weights, const float *bias,
                          const lanes *x, int x_step, int depth) {
	lanes sum[4][4];
#pragma GCC unroll 4
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
		for (int p = 0; p < positions; p++) {
			sum[r][p] = all(bias == NULL ? 0 : bias[r]);
		}
	}
	for (int k = 0; k < depth; k++) {
#pragma GCC unroll 4
		for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
			for (int p = 0; p < positions; p++) {
				sum[r][p] += weights[r * depth + k] * x[p * x_step + k];
			}
		}
	}
#pragma GCC unroll 4
	for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
		for (int p = 0; p < positions; p++) {
			dst[p * dst_step + r] = sum[r][p];
		}
	}
}

// product computes rows for some positions.
VAD_INLINE void product(const int positions, lanes *dst, int dst_step, int rows, const float *weights, const float *bias,
                        const lanes *x, int x_step, int depth) {
	const int whole = rows / 4 * 4;
	for (int r = 0; r < whole; r += 4) {
		some_rows(4, positions, dst + r, dst_step, weights + r * depth, bias == NULL ? NULL : bias + r, x, x_step, depth);
	}
	for (int r = whole; r < rows; r++) {
		some_rows(1, positions, dst + r, dst_step, weights + r * depth, bias == NULL ? NULL : bias + r, x, x_step, depth);
	}
}

// listen writes what the recurrent layer hears of GROUP frames: VAD_GATES values, each with those of all frames.
VAD_CODE static void listen(lanes *gates, const vad_weights *w, const lanes *samples) {
	lanes a[WIDEST], b[WIDEST], spectrum[POSITIONS * 2 * VAD_BINS];
	product(POSITIONS, spectrum, 2 * VAD_BINS, 2 * VAD_BINS, w->filters, NULL, samples, 128, VAD_FILTER);
	memset(a, 0, sizeof a);
	for (int p = 0; p < POSITIONS; p++) {
		for (int i = 0; i < VAD_BINS; i++) {
			const lanes re = spectrum[p * 2 * VAD_BINS + i], im = spectrum[p * 2 * VAD_BINS + VAD_BINS + i];
			lanes power = re * re + im * im;
			for (int lane = 0; lane < GROUP; lane++) {
				power[lane] = sqrtf(power[lane]);
			}
			a[(p + 1) * VAD_BINS + i] = power;
		}
	}
	lanes *in = a, *out = b;
	int positions = POSITIONS;
	for (int i = 0; i < VAD_LAYERS; i++) {
		const vad_layer l = vad_layers[i];
		positions = (positions - 1) / l.stride + 1;
		memset(out, 0, sizeof a);
		const int step = l.stride * l.in, depth = 3 * l.in;
		switch (positions) {
		case 4:
			product(4, out + l.out, l.out, l.out, w->layer[i], w->bias[i], in, step, depth);
			break;
		case 2:
			product(2, out + l.out, l.out, l.out, w->layer[i], w->bias[i], in, step, depth);
			break;
		default:
			product(1, out + l.out, l.out, l.out, w->layer[i], w->bias[i], in, step, depth);
		}
		for (int k = l.out; k < (positions + 1) * l.out; k++) {
			out[k] = at_least_0(out[k]);
		}
		lanes *t = in;
		in = out;
		out = t;
	}
	product(1, gates, VAD_GATES, VAD_GATES, w->input, w->input_bias, in + VAD_HIDDEN, 0, VAD_HIDDEN);
}

// remember takes a frame through the recurrent layer and returns the probability. gates is what listen heard of it.
VAD_CODE static float remember(const vad_weights *w, lanes *gates, lanes *cell, lanes *hidden) {
	enum { STEP = VAD_HIDDEN / GROUP };
	for (int i = 0; i < 4 * STEP; i += STEP) {
		lanes sum[STEP];
		memcpy(sum, gates + i, sizeof sum);
		for (int k = 0; k < VAD_HIDDEN; k++) {
			const float h = ((const float *)hidden)[k];
			const float *row = w->hidden + (long)k * VAD_GATES + i * GROUP;
#pragma GCC unroll 8
			for (int j = 0; j < STEP; j++) {
				lanes weight;
				memcpy(&weight, row + j * GROUP, sizeof weight);
				sum[j] += h * weight;
			}
		}
		memcpy(gates + i, sum, sizeof sum);
	}
	lanes sum = {0};
	for (int j = 0; j < STEP; j++) {
		cell[j] = sigmoid(gates[STEP + j]) * cell[j] + sigmoid(gates[j]) * hyperbolic_tangent(gates[2 * STEP + j]);
		hidden[j] = sigmoid(gates[3 * STEP + j]) * hyperbolic_tangent(cell[j]);
		lanes weight;
		memcpy(&weight, w->last + j * GROUP, sizeof weight);
		sum += weight * at_least_0(hidden[j]);
	}
	float x = *w->last_bias;
	for (int lane = 0; lane < GROUP; lane++) {
		x += sum[lane];
	}
	return 1 / (1 + expf(-x));
}

// frame_at reads a frame with its mirrored ends into one lane.
static void frame_at(lanes *dst, int lane, const float *samples, int n) {
	float frame[VAD_FRAME] = {0};
	memcpy(frame, samples, (n < VAD_FRAME ? n : VAD_FRAME) * sizeof(float));
	for (int i = 0; i < PADDED; i++) {
		int at = i - VAD_PAD;
		at = at < 0 ? -at : at >= VAD_FRAME ? 2 * (VAD_FRAME - 1) - at : at;
		dst[i][lane] = frame[at];
	}
}

void steno_vad(const vad_weights *w, const float *samples, int n, float *probs) {
	enum { WIDTH = VAD_GATES / GROUP };
	const int frames = (n + VAD_FRAME - 1) / VAD_FRAME;
	lanes padded[PADDED], heard[VAD_GATES], gates[WIDTH], cell[VAD_HIDDEN / GROUP] = {0}, hidden[VAD_HIDDEN / GROUP] = {0};
	for (int f = 0; f < frames; f += GROUP) {
		const int count = frames - f < GROUP ? frames - f : GROUP;
		memset(padded, 0, sizeof padded);
		for (int i = 0; i < count; i++) {
			frame_at(padded, i, samples + (long)(f + i) * VAD_FRAME, n - (f + i) * VAD_FRAME);
		}
		listen(heard, w, padded);
		for (int i = 0; i < count; i++) {
			for (int g = 0; g < VAD_GATES; g++) {
				((float *)gates)[g] = heard[g][i] + w->hidden_bias[g];
			}
			probs[f + i] = remember(w, gates, cell, hidden);
		}
	}
}
