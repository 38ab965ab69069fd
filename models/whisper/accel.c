//go:build cgo

#include "accel.h"
#include "matrix.h"
#include "shim.h"

#include <ggml-backend-impl.h>
#include <ggml-cpu.h>
#include <ggml-impl.h>

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
	// SMALLEST is the least size of each side of a product that is worth its packing; a decoder's single token is not.
	SMALLEST = 32,
	// BLOCK is how many rows of a product are computed before the next panel, QUERIES how many rows of attention are: the
	// scores of 48 queries for 30 s of audio are 288 KiB and stay in the second-level cache.
	BLOCK = 192,
	QUERIES = 48,
};

static atomic_bool registered, disabled;

void steno_accel_enable(bool on) { atomic_store(&disabled, !on); }

bool steno_accel_enabled(void) { return atomic_load(&registered) && !atomic_load(&disabled); }

// accel is one backend; one decode state uses it at a time.
typedef struct {
	int threads;
	uint32_t *work;
	size_t words;
} accel;

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

// narrow writes row i of s as bfloat16. scratch holds s.n floats.
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
static size_t pack_scratch(size_t n) { return line(n) + line(MATRIX_PANEL * matrix_pairs(n)); }

// pack packs panel p of the rows of s, which are the columns of the product.
static void pack(uint32_t *panel, source s, size_t p, uint32_t *scratch) {
	const size_t pairs = matrix_pairs(s.n), count = columns_in(s.rows, p);
	uint32_t *columns = scratch + line(s.n);
	for (size_t i = 0; i < count; i++) {
		narrow(columns + i * pairs, s, p * MATRIX_PANEL + i, (float *)scratch);
	}
	matrix_pack(panel, columns, count, pairs);
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

// multiply is dst = b·aᵀ for one plane: what ggml calls mul_mat(a, b).
static void multiply(accel *x, float *dst, size_t ldc, source a, source b) {
	const size_t pairs = matrix_pairs(a.n), panels = matrix_panels(a.rows), blocks = (b.rows + BLOCK - 1) / BLOCK;
	const size_t each = pack_scratch(a.n), panel = MATRIX_PANEL * pairs;
	uint32_t *rows = room(x, line(b.rows * pairs) + panels * panel + x->threads * each);
	uint32_t *packed = rows + line(b.rows * pairs), *scratch = packed + panels * panel;
#pragma omp parallel num_threads(x->threads) if (x->threads > 1)
	{
		uint32_t *mine = scratch + (size_t)omp_get_thread_num() * each;
#pragma omp for schedule(static) nowait
		for (size_t i = 0; i < b.rows; i++) {
			narrow(rows + i * pairs, b, i, (float *)mine);
		}
#pragma omp for schedule(static)
		for (size_t p = 0; p < panels; p++) {
			pack(packed + p * panel, a, p, mine);
		}
#pragma omp for schedule(static) collapse(2)
		for (size_t p = 0; p < panels; p++) {
			for (size_t k = 0; k < blocks; k++) {
				const size_t r = k * BLOCK;
				matrix_multiply(dst + r * ldc + p * MATRIX_PANEL, ldc, rows + r * pairs, pairs, least(b.rows - r, BLOCK),
				                packed + p * panel, columns_in(a.rows, p), pairs);
			}
		}
	}
}

static void mul_mat(accel *x, const struct ggml_tensor *dst) {
	const struct ggml_tensor *a = dst->src[0], *b = dst->src[1];
	for (int64_t i3 = 0; i3 < dst->ne[3]; i3++) {
		for (int64_t i2 = 0; i2 < dst->ne[2]; i2++) {
			float *out = (float *)((char *)dst->data + i2 * dst->nb[2] + i3 * dst->nb[3]);
			multiply(x, out, dst->nb[1] / sizeof(float), plane(a, i2 / (dst->ne[2] / a->ne[2]), i3 / (dst->ne[3] / a->ne[3])),
			         plane(b, i2, i3));
		}
	}
}

// attend computes one head for rows [from, from+count) of q: softmax(scale·q·kᵀ)·v.
static void attend(float *dst, size_t ldc, source q, size_t from, size_t count, const uint32_t *k, source ks, const uint32_t *v,
                   source vs, float scale, uint32_t *scratch) {
	const size_t depth = matrix_pairs(q.n), length = matrix_pairs(ks.rows), width = matrix_panels(ks.rows) * MATRIX_PANEL;
	uint32_t *rows = scratch, *weights = rows + line(QUERIES * depth);
	float *scores = (float *)(weights + QUERIES * width / 2), sum[QUERIES];
	for (size_t i = 0; i < count; i++) {
		narrow(rows + i * depth, q, from + i, NULL);
	}
	for (size_t p = 0; p < matrix_panels(ks.rows); p++) {
		matrix_multiply(scores + p * MATRIX_PANEL, width, rows, depth, count, k + p * MATRIX_PANEL * depth, MATRIX_PANEL, depth);
	}
	for (size_t i = 0; i < count; i++) {
		sum[i] = matrix_softmax(weights + i * width / 2, scores + i * width, ks.rows, scale);
	}
	for (size_t p = 0; p < matrix_panels(vs.rows); p++) {
		matrix_multiply(dst + from * ldc + p * MATRIX_PANEL, ldc, weights, width / 2, count, v + p * MATRIX_PANEL * length,
		                columns_in(vs.rows, p), length);
	}
	for (size_t i = 0; i < count; i++) {
		matrix_scale(dst + (from + i) * ldc, vs.rows, 1 / sum[i]);
	}
}

static float scale_of(const struct ggml_tensor *softmax) {
	float scale;
	memcpy(&scale, softmax->op_params, sizeof scale);
	return scale;
}

// attention computes mul_mat(v, soft_max(mul_mat(k, q))) without its matrix of scores.
static void attention(accel *x, const struct ggml_tensor *kq, const struct ggml_tensor *softmax, const struct ggml_tensor *dst) {
	const struct ggml_tensor *k = kq->src[0], *q = kq->src[1], *v = dst->src[0];
	const size_t heads = dst->ne[2], blocks = (q->ne[1] + QUERIES - 1) / QUERIES;
	const size_t k_words = matrix_panels(k->ne[1]) * MATRIX_PANEL * matrix_pairs(k->ne[0]);
	const size_t v_words = matrix_panels(v->ne[1]) * MATRIX_PANEL * matrix_pairs(v->ne[0]);
	const size_t width = matrix_panels(k->ne[1]) * MATRIX_PANEL;
	const size_t work = line(QUERIES * matrix_pairs(q->ne[0])) + QUERIES * width / 2 + QUERIES * width;
	const size_t packing = pack_scratch(k->ne[0] > v->ne[0] ? k->ne[0] : v->ne[0]);
	const size_t each = work > packing ? work : packing;
	const float scale = scale_of(softmax);
	uint32_t *packed = room(x, heads * (k_words + v_words) + x->threads * each);
	uint32_t *scratch = packed + heads * (k_words + v_words);
#pragma omp parallel num_threads(x->threads) if (x->threads > 1)
	{
		uint32_t *mine = scratch + (size_t)omp_get_thread_num() * each;
#pragma omp for schedule(static)
		for (size_t h = 0; h < heads; h++) {
			uint32_t *to = packed + h * (k_words + v_words);
			const source ks = plane(k, h, 0), vs = plane(v, h, 0);
			for (size_t p = 0; p < matrix_panels(ks.rows); p++) {
				pack(to + p * MATRIX_PANEL * matrix_pairs(ks.n), ks, p, mine);
			}
			for (size_t p = 0; p < matrix_panels(vs.rows); p++) {
				pack(to + k_words + p * MATRIX_PANEL * matrix_pairs(vs.n), vs, p, mine);
			}
		}
#pragma omp for schedule(static) collapse(2)
		for (size_t h = 0; h < heads; h++) {
			for (size_t b = 0; b < blocks; b++) {
				const uint32_t *from = packed + h * (k_words + v_words);
				float *out = (float *)((char *)dst->data + h * dst->nb[2]);
				attend(out, dst->nb[1] / sizeof(float), plane(q, h, 0), b * QUERIES, least(q->ne[1] - b * QUERIES, QUERIES), from,
				       plane(k, h, 0), from + k_words, plane(v, h, 0), scale, mine);
			}
		}
	}
}

// soft_max is for the one place where its result is wanted for itself: word times take the decoder's attention over a prompt.
static void soft_max(const struct ggml_tensor *dst) {
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

static void gelu(accel *x, const struct ggml_tensor *dst) {
	const struct ggml_tensor *src = dst->src[0];
	const size_t rows = ggml_nrows(dst), n = dst->ne[0];
#pragma omp parallel for num_threads(x->threads) if (x->threads > 1)
	for (size_t r = 0; r < rows; r++) {
		matrix_gelu((float *)dst->data + r * n, (const float *)src->data + r * n, n);
	}
}

// is_attention tells whether nodes i to i+2 are one attention whose scores nobody else reads.
static bool is_attention(const struct ggml_cgraph *g, int i) {
	if (i + 2 >= g->n_nodes || !ggml_node_has_n_uses(g, i, 1) || !ggml_node_has_n_uses(g, i + 1, 1)) {
		return false;
	}
	const struct ggml_tensor *kq = g->nodes[i], *softmax = g->nodes[i + 1], *dst = g->nodes[i + 2];
	return softmax->op == GGML_OP_SOFT_MAX && softmax->src[0] == kq && dst->op == GGML_OP_MUL_MAT && dst->src[1] == softmax &&
	       kq->src[1]->type == GGML_TYPE_F32 && kq->ne[3] == 1 && kq->src[0]->ne[2] == kq->ne[2] && dst->src[0]->ne[2] == kq->ne[2];
}

static enum ggml_status graph_compute(ggml_backend_t backend, struct ggml_cgraph *g) {
	accel *x = backend->context;
	for (int i = 0; i < g->n_nodes; i++) {
		const struct ggml_tensor *node = g->nodes[i];
		if (node->op == GGML_OP_SOFT_MAX) {
			soft_max(node);
		} else if (node->op == GGML_OP_UNARY) {
			gelu(x, node);
		} else if (node->op == GGML_OP_MUL_MAT && is_attention(g, i)) {
			attention(x, node, g->nodes[i + 1], g->nodes[i + 2]);
			i += 2;
		} else if (node->op == GGML_OP_MUL_MAT) {
			mul_mat(x, node);
			if (node->ne[0] >= STENO_VOCABULARY) {
				steno_logits_seen(node->data, node->nb[1] / sizeof(float), node->ne[1], node->ne[0]);
			}
		}
	}
	return GGML_STATUS_SUCCESS;
}

// readable tells whether narrow can read the rows of t.
static bool readable(const struct ggml_tensor *t) {
	return t->nb[0] == ggml_type_size(t->type) && (t->type == GGML_TYPE_F32 || ggml_get_type_traits(t->type)->to_float != NULL);
}

static bool takes_mul_mat(const struct ggml_tensor *op) {
	const struct ggml_tensor *a = op->src[0], *b = op->src[1];
	return a->ne[0] >= SMALLEST && a->ne[1] >= SMALLEST && b->ne[1] >= SMALLEST && readable(a) && readable(b) &&
	       (b->type == GGML_TYPE_F32 || b->type == GGML_TYPE_F16) && op->type == GGML_TYPE_F32 && op->nb[0] == sizeof(float) &&
	       op->ne[2] % a->ne[2] == 0 && op->ne[3] % a->ne[3] == 0 && op->op_params[0] == GGML_PREC_DEFAULT;
}

// A softmax is taken together with the product whose scores it weighs, never with a mask or a bias.
static bool takes_soft_max(const struct ggml_tensor *op) {
	float max_bias;
	memcpy(&max_bias, (const float *)op->op_params + 1, sizeof max_bias);
	return op->src[0]->op == GGML_OP_MUL_MAT && takes_mul_mat(op->src[0]) && op->src[1] == NULL && op->src[2] == NULL &&
	       max_bias == 0 && op->ne[3] == 1;
}

// takes_gelu leaves a few rows to ggml, as the products around them are.
static bool takes_gelu(const struct ggml_tensor *op) {
	return ggml_get_unary_op(op) == GGML_UNARY_OP_GELU && op->type == GGML_TYPE_F32 && op->src[0]->type == GGML_TYPE_F32 &&
	       ggml_is_contiguous(op) && ggml_is_contiguous(op->src[0]) && ggml_nrows(op) >= SMALLEST;
}

static bool supports_op(ggml_backend_dev_t dev, const struct ggml_tensor *op) {
	(void)dev;
	switch (op->op) {
	case GGML_OP_NONE:
	case GGML_OP_RESHAPE:
	case GGML_OP_VIEW:
	case GGML_OP_PERMUTE:
	case GGML_OP_TRANSPOSE:
		return true;
	case GGML_OP_MUL_MAT:
		return steno_accel_enabled() && takes_mul_mat(op);
	case GGML_OP_SOFT_MAX:
		return steno_accel_enabled() && takes_soft_max(op);
	case GGML_OP_UNARY:
		return steno_accel_enabled() && takes_gelu(op);
	default:
		return false;
	}
}

// What follows is the form that ggml asks of a backend.

static const char *backend_name(ggml_backend_t backend) {
	(void)backend;
	return "steno";
}

static void backend_free(ggml_backend_t backend) {
	accel *x = backend->context;
	free(x->work);
	free(x);
	free(backend);
}

static void set_threads(ggml_backend_t backend, int threads) { ((accel *)backend->context)->threads = threads; }

static ggml_backend_t init_backend(ggml_backend_dev_t dev, const char *params) {
	(void)params;
	static ggml_guid guid = {0x5e, 0x1d, 0x0c, 0x9a, 0x37, 0x42, 0x4b, 0xe1, 0x8f, 0x60, 0x2b, 0xd4, 0x71, 0xa9, 0x03, 0xc6};
	accel *x = calloc(1, sizeof *x);
	struct ggml_backend *b = calloc(1, sizeof *b);
	if (x == NULL || b == NULL) {
		free(x);
		free(b);
		return NULL;
	}
	x->threads = 1;
	*b = (struct ggml_backend){
		.guid = &guid,
		.iface = {.get_name = backend_name, .free = backend_free, .graph_compute = graph_compute},
		.device = dev,
		.context = x,
	};
	return b;
}

static const char *device_name(ggml_backend_dev_t dev) {
	(void)dev;
	return "steno";
}

static const char *device_description(ggml_backend_dev_t dev) {
	(void)dev;
	return "matrix products in bfloat16";
}

static void device_memory(ggml_backend_dev_t dev, size_t *free, size_t *total) {
	(void)dev;
	*free = *total = 0;
}

static enum ggml_backend_dev_type device_type(ggml_backend_dev_t dev) {
	(void)dev;
	return GGML_BACKEND_DEVICE_TYPE_ACCEL;
}

static void device_props(ggml_backend_dev_t dev, struct ggml_backend_dev_props *props) {
	*props = (struct ggml_backend_dev_props){
		.name = device_name(dev), .description = device_description(dev), .type = device_type(dev),
	};
}

static ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t dev) {
	(void)dev;
	return ggml_backend_cpu_buffer_type();
}

static bool supports_buft(ggml_backend_dev_t dev, ggml_backend_buffer_type_t buft) {
	(void)dev;
	return ggml_backend_buft_is_host(buft);
}

static const char *reg_name(ggml_backend_reg_t reg) {
	(void)reg;
	return "steno";
}

static size_t reg_device_count(ggml_backend_reg_t reg) {
	(void)reg;
	return 1;
}

static ggml_backend_dev_t reg_device(ggml_backend_reg_t reg, size_t index) {
	(void)index;
	static struct ggml_backend_device device = {
		.iface = {
			.get_name = device_name,
			.get_description = device_description,
			.get_memory = device_memory,
			.get_type = device_type,
			.get_props = device_props,
			.init_backend = init_backend,
			.get_buffer_type = device_buffer_type,
			.supports_op = supports_op,
			.supports_buft = supports_buft,
		},
	};
	device.reg = reg;
	return &device;
}

static void *reg_proc_address(ggml_backend_reg_t reg, const char *name) {
	(void)reg;
	return strcmp(name, "ggml_backend_set_n_threads") == 0 ? (void *)set_threads : NULL;
}

bool steno_accel_register(void) {
	static struct ggml_backend_reg reg = {
		.api_version = GGML_BACKEND_API_VERSION,
		.iface = {
			.get_name = reg_name,
			.get_device_count = reg_device_count,
			.get_device = reg_device,
			.get_proc_address = reg_proc_address,
		},
	};
	if (matrix_supported() && !atomic_exchange(&registered, true)) {
		ggml_backend_register(&reg);
	}
	return atomic_load(&registered);
}
