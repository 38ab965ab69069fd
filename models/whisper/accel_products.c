//go:build cgo

#include "accel_products.h"
#include "matrix.h"

#include <ggml-cpu.h>

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum {
	// BLOCK is how many rows of a product are computed before the next panel, QUERIES how many rows of attention are: the
	// scores of 48 queries for 30 s of audio are 288 KiB and stay in the second-level cache.
	BLOCK = 192,
	QUERIES = 48,
};

struct accel {
	int threads;
	uint32_t *work;
	size_t words;
};

accel *accel_new(void) {
	accel *x = calloc(1, sizeof *x);
	if (x != NULL) {
		x->threads = 1;
	}
	return x;
}

void accel_free(accel *x) {
	free(x->work);
	free(x);
}

void accel_set_threads(accel *x, int threads) { x->threads = threads; }

int accel_threads(const accel *x) { return x->threads; }

// room returns words of scratch memory, aligned to a cache line. What an earlier call returned is lost.
static uint32_t *room(accel *x, size_t words) {
	if (x->words < words) {
		free(x->work);
		x->words = (words + 15) / 16 * 16;
		x->work = aligned_alloc(64, x->words * sizeof(uint32_t));
		if (x->work == NULL) {
			GGML_ABORT("out of memory: %zu bytes for a matrix", words * sizeof(uint32_t));
		}
	}
	return x->work;
}

// line rounds words up to whole cache lines.
static size_t line(size_t words) { return (words + 15) / 16 * 16; }

// source is one plane of a tensor, read row by row.
typedef struct {
	const char *data;
	size_t stride; // bytes from row to row
	size_t n;      // values in a row
	size_t rows;
	enum ggml_type type;
} source;

static source plane(const struct ggml_tensor *t, int64_t i2, int64_t i3) {
	return (source){(const char *)t->data + i2 * t->nb[2] + i3 * t->nb[3], t->nb[1], t->ne[0], t->ne[1], t->type};
}

// narrow writes row i of s as words. scratch holds s.n floats.
static void narrow(uint32_t *dst, source s, size_t i, float *scratch) {
	const void *row = s.data + i * s.stride;
	switch (s.type) {
	case GGML_TYPE_F32:
		matrix_narrow(dst, row, s.n);
		return;
	case GGML_TYPE_F16:
		matrix_narrow_half(dst, row, s.n);
		return;
	default:
		ggml_get_type_traits(s.type)->to_float(row, scratch, s.n);
		matrix_narrow(dst, scratch, s.n);
	}
}

// columns_in is the number of columns of panel p of n columns.
static size_t columns_in(size_t n, size_t p) {
	size_t left = n - p * MATRIX_PANEL;
	return left < MATRIX_PANEL ? left : MATRIX_PANEL;
}

// pack_scratch is the words that pack needs.
static size_t pack_scratch(size_t n) { return line(n) + line(MATRIX_PANEL * matrix_words(n)); }

// pack packs panel p of the rows of s, which are the columns of the product.
static void pack(uint32_t *panel, source s, size_t p, uint32_t *scratch) {
	const size_t words = matrix_words(s.n), count = columns_in(s.rows, p);
	uint32_t *columns = scratch + line(s.n);
	for (size_t i = 0; i < count; i++) {
		narrow(columns + i * words, s, p * MATRIX_PANEL + i, (float *)scratch);
	}
	matrix_pack(panel, columns, count, words);
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static bool finishes(finish f) { return f.row != NULL || f.column != NULL || f.gelu || f.residual != NULL; }

// finish_block writes what becomes of a block of sums, MATRIX_PANEL apart, that begins at row r and column c of the result.
static void finish_block(finish f, float *dst, size_t ldc, float *sums, size_t r, size_t c, size_t rows, size_t columns) {
	for (size_t i = 0; i < rows; i++) {
		float *x = sums + i * MATRIX_PANEL;
		if (f.row != NULL) {
			matrix_add(x, x, f.row + c, columns);
		}
		if (f.column != NULL) {
			matrix_add_one(x, x, f.column[r + i], columns);
		}
		if (f.gelu) {
			matrix_gelu(x, x, columns);
		}
		float *to = dst + (r + i) * ldc + c;
		if (f.residual != NULL) {
			matrix_add(to, x, f.residual + (r + i) * f.residual_ldc + c, columns);
		} else {
			memcpy(to, x, columns * sizeof(float));
		}
	}
}

// multiply is dst = b·aᵀ for one plane, what ggml calls mul_mat(a, b), and what follows it.
static void multiply(accel *x, float *dst, size_t ldc, source a, source b, finish f) {
	const size_t words = matrix_words(a.n), panels = matrix_panels(a.rows), blocks = (b.rows + BLOCK - 1) / BLOCK;
	const size_t packing = pack_scratch(a.n), each = packing > BLOCK * MATRIX_PANEL ? packing : BLOCK * MATRIX_PANEL;
	const size_t panel = MATRIX_PANEL * words;
	uint32_t *rows = room(x, line(b.rows * words) + panels * panel + x->threads * each);
	uint32_t *packed = rows + line(b.rows * words), *scratch = packed + panels * panel;
#pragma omp parallel num_threads(x->threads) if (x->threads > 1)
	{
		uint32_t *mine = scratch + (size_t)omp_get_thread_num() * each;
#pragma omp for schedule(static) nowait
		for (size_t i = 0; i < b.rows; i++) {
			narrow(rows + i * words, b, i, (float *)mine);
		}
#pragma omp for schedule(static)
		for (size_t p = 0; p < panels; p++) {
			pack(packed + p * panel, a, p, mine);
		}
#pragma omp for schedule(static) collapse(2)
		for (size_t p = 0; p < panels; p++) {
			for (size_t k = 0; k < blocks; k++) {
				const size_t r = k * BLOCK, c = p * MATRIX_PANEL, count = least(b.rows - r, BLOCK), columns = columns_in(a.rows, p);
				const uint32_t *from = rows + r * words;
				if (!finishes(f)) {
					matrix_multiply(dst + r * ldc + c, ldc, from, words, count, packed + p * panel, columns, words);
					continue;
				}
				matrix_multiply((float *)mine, MATRIX_PANEL, from, words, count, packed + p * panel, MATRIX_PANEL, words);
				finish_block(f, dst, ldc, (float *)mine, r, c, count, columns);
			}
		}
	}
}

void accel_mul_mat(accel *x, const struct ggml_tensor *product, const struct ggml_tensor *dst, finish f) {
	const struct ggml_tensor *a = product->src[0], *b = product->src[1];
	for (int64_t i3 = 0; i3 < dst->ne[3]; i3++) {
		for (int64_t i2 = 0; i2 < dst->ne[2]; i2++) {
			float *out = (float *)((char *)dst->data + i2 * dst->nb[2] + i3 * dst->nb[3]);
			multiply(x, out, dst->nb[1] / sizeof(float), plane(a, i2 / (dst->ne[2] / a->ne[2]), i3 / (dst->ne[3] / a->ne[3])),
			         plane(b, i2, i3), f);
		}
	}
}

// attend computes one head for count rows of q, narrowed: softmax(scale·q·kᵀ)·v, the first row of which goes to dst.
static void attend(float *dst, size_t ldc, const uint32_t *q, size_t depth, size_t count, const uint32_t *k, size_t keys,
                   const uint32_t *v, size_t values, float scale, uint32_t *scratch) {
	const size_t length = matrix_words(keys), width = matrix_panels(keys) * MATRIX_PANEL;
	uint32_t *weights = scratch;
	float *scores = (float *)(weights + QUERIES * length), sum[QUERIES];
	for (size_t p = 0; p < matrix_panels(keys); p++) {
		matrix_multiply(scores + p * MATRIX_PANEL, width, q, depth, count, k + p * MATRIX_PANEL * depth, MATRIX_PANEL, depth);
	}
	for (size_t i = 0; i < count; i++) {
		sum[i] = matrix_softmax(weights + i * length, scores + i * width, keys, scale);
	}
	for (size_t p = 0; p < matrix_panels(values); p++) {
		matrix_multiply(dst + p * MATRIX_PANEL, ldc, weights, length, count, v + p * MATRIX_PANEL * length, columns_in(values, p), length);
	}
	for (size_t i = 0; i < count; i++) {
		matrix_scale(dst + i * ldc, values, 1 / sum[i]);
	}
}

static float scale_of(const struct ggml_tensor *softmax) {
	float scale;
	memcpy(&scale, softmax->op_params, sizeof scale);
	return scale;
}

// pack_all packs all rows of s, which are the columns of a product.
static void pack_all(uint32_t *to, source s, uint32_t *scratch) {
	for (size_t p = 0; p < matrix_panels(s.rows); p++) {
		pack(to + p * MATRIX_PANEL * matrix_words(s.n), s, p, scratch);
	}
}

// accel_attention writes nothing before all that it reads is narrowed: ggml gives dst the memory of what nobody reads after the scores
// are there, such as q.
void accel_attention(accel *x, const struct ggml_tensor *kq, const struct ggml_tensor *softmax, const struct ggml_tensor *dst) {
	const struct ggml_tensor *k = kq->src[0], *q = kq->src[1], *v = dst->src[0];
	const size_t heads = dst->ne[2], blocks = (q->ne[1] + QUERIES - 1) / QUERIES, depth = matrix_words(q->ne[0]);
	const size_t width = matrix_panels(k->ne[1]) * MATRIX_PANEL;
	const size_t q_words = line(q->ne[1] * depth), k_words = width * matrix_words(k->ne[0]);
	const size_t v_words = matrix_panels(v->ne[1]) * MATRIX_PANEL * matrix_words(v->ne[0]), head = k_words + v_words + q_words;
	const size_t work = QUERIES * (matrix_words(k->ne[1]) + width);
	const size_t packing = pack_scratch(k->ne[0] > v->ne[0] ? k->ne[0] : v->ne[0]);
	const size_t each = work > packing ? work : packing;
	const float scale = scale_of(softmax);
	uint32_t *packed = room(x, heads * head + x->threads * each);
	uint32_t *scratch = packed + heads * head;
#pragma omp parallel num_threads(x->threads) if (x->threads > 1)
	{
		uint32_t *mine = scratch + (size_t)omp_get_thread_num() * each;
#pragma omp for schedule(static)
		for (size_t h = 0; h < heads; h++) {
			uint32_t *to = packed + h * head;
			const source qs = plane(q, h, 0);
			pack_all(to, plane(k, h, 0), mine);
			pack_all(to + k_words, plane(v, h, 0), mine);
			for (size_t i = 0; i < qs.rows; i++) {
				narrow(to + k_words + v_words + i * depth, qs, i, NULL);
			}
		}
#pragma omp for schedule(static) collapse(2)
		for (size_t h = 0; h < heads; h++) {
			for (size_t b = 0; b < blocks; b++) {
				const uint32_t *from = packed + h * head;
				const size_t first = b * QUERIES, ldc = dst->nb[1] / sizeof(float);
				float *out = (float *)((char *)dst->data + h * dst->nb[2]) + first * ldc;
				attend(out, ldc, from + k_words + v_words + first * depth, depth, least(q->ne[1] - first, QUERIES), from, k->ne[1],
				       from + k_words, v->ne[1], scale, mine);
			}
		}
	}
}

void accel_soft_max(const struct ggml_tensor *dst) {
	const struct ggml_tensor *src = dst->src[0];
	const float scale = scale_of(dst);
	for (int64_t i2 = 0; i2 < dst->ne[2]; i2++) {
		for (int64_t i1 = 0; i1 < dst->ne[1]; i1++) {
			const float *in = (const float *)((const char *)src->data + i1 * src->nb[1] + i2 * src->nb[2]);
			float *out = (float *)((char *)dst->data + i1 * dst->nb[1] + i2 * dst->nb[2]), max = -INFINITY, sum = 0;
			for (int64_t i = 0; i < dst->ne[0]; i++) {
				max = fmaxf(max, in[i]);
			}
			for (int64_t i = 0; i < dst->ne[0]; i++) {
				sum += out[i] = expf(scale * (in[i] - max));
			}
			for (int64_t i = 0; i < dst->ne[0]; i++) {
				out[i] /= sum;
			}
		}
	}
}
