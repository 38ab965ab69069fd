//go:build cgo

#include "accel_ops.h"
#include "accel_products.h"
#include "matrix.h"
#include "shim.h"

#include <ggml-cpu.h>
#include <ggml-impl.h>

#include <string.h>

enum {
	// SMALLEST is the least size of each side of a product that is worth its packing, and the fewest rows of anything else; a
	// decoder's single token is not.
	SMALLEST = 32,
};

// FOR_ROWS goes through the rows of a contiguous tensor.
#define FOR_ROWS(x, t, r)                                                 \
	_Pragma("omp parallel for num_threads(accel_threads(x)) if (accel_threads(x) > 1)") \
	for (int64_t r = 0; r < ggml_nrows(t); r++)

static float *row(const struct ggml_tensor *t, int64_t r) { return (float *)t->data + r * t->ne[0]; }

static void gelu(accel *x, const struct ggml_tensor *dst) {
	FOR_ROWS(x, dst, r) { matrix_gelu(row(dst, r), row(dst->src[0], r), dst->ne[0]); }
}

// is_row and is_column tell what is added to each row, or to each column, of t.
static bool is_row(const struct ggml_tensor *b, const struct ggml_tensor *t) { return ggml_nrows(b) == 1 && b->ne[0] == t->ne[0]; }

static bool is_column(const struct ggml_tensor *b, const struct ggml_tensor *t) {
	return b->ne[0] == 1 && ggml_nelements(b) == ggml_nrows(t) && b->ne[1] == t->ne[1];
}

static void add(accel *x, const struct ggml_tensor *dst) {
	const struct ggml_tensor *a = dst->src[0], *b = dst->src[1];
	FOR_ROWS(x, dst, r) {
		if (is_column(b, a)) {
			matrix_add_one(row(dst, r), row(a, r), *row(b, r), dst->ne[0]);
		} else {
			matrix_add(row(dst, r), row(a, r), row(b, is_row(b, a) ? 0 : r), dst->ne[0]);
		}
	}
}

// norm is a layer's normalisation with its weights and bias.
static void norm(accel *x, const struct ggml_tensor *norm, const struct ggml_tensor *weights, const struct ggml_tensor *bias,
                 const struct ggml_tensor *dst) {
	float epsilon;
	memcpy(&epsilon, norm->op_params, sizeof epsilon);
	FOR_ROWS(x, dst, r) {
		matrix_normalise(row(dst, r), row(norm->src[0], r), dst->ne[0], epsilon, weights->data, bias->data);
	}
}

static void normalise(accel *x, const struct ggml_tensor *dst) {
	float epsilon;
	memcpy(&epsilon, dst->op_params, sizeof epsilon);
	FOR_ROWS(x, dst, r) { matrix_normalise(row(dst, r), row(dst->src[0], r), dst->ne[0], epsilon, NULL, NULL); }
}

static void scale_rows(accel *x, const struct ggml_tensor *dst) {
	FOR_ROWS(x, dst, r) { matrix_scale_by(row(dst, r), row(dst->src[0], r), dst->src[1]->data, dst->ne[0]); }
}

// copy_row writes n floats, step bytes apart, as floats or in half precision.
static void copy_row(void *dst, enum ggml_type type, const char *src, size_t step, size_t n) {
	if (type == GGML_TYPE_F16) {
		matrix_to_half(dst, src, step, n);
	} else {
		matrix_collect(dst, src, step, n);
	}
}

// copy is for what the encoder does between its products: narrow keys and values, turn values around, and put heads side by side.
static void copy(accel *x, const struct ggml_tensor *dst) {
	const struct ggml_tensor *src = dst->src[0];
	const size_t size = ggml_type_size(dst->type);
	const bool same = ggml_are_same_shape(src, dst);
	// Columns are read side by side: those of one cache line while it is there.
	const int64_t columns = src->nb[0] == sizeof(float) ? src->ne[0] : 64, parts = (src->ne[0] + columns - 1) / columns;
#pragma omp parallel for num_threads(accel_threads(x)) collapse(2) if (accel_threads(x) > 1)
	for (int64_t i2 = 0; i2 < src->ne[2]; i2++) {
		for (int64_t part = 0; part < parts; part++) {
			for (int64_t i1 = 0; i1 < src->ne[1]; i1++) {
				const int64_t i0 = part * columns, linear = (i2 * src->ne[1] + i1) * src->ne[0] + i0;
				const char *from = (const char *)src->data + i0 * src->nb[0] + i1 * src->nb[1] + i2 * src->nb[2];
				char *to = (char *)dst->data + (same ? i0 * size + i1 * dst->nb[1] + i2 * dst->nb[2] : linear * size);
				copy_row(to, dst->type, from, src->nb[0], src->ne[0] - i0 < columns ? src->ne[0] - i0 : columns);
			}
		}
	}
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

// unfold lays out what a convolution multiplies, ggml's im2col: row r has, of each channel, the values under the kernel when it stands
// at position r.
static void unfold(accel *x, const struct ggml_tensor *dst) {
	const struct ggml_tensor *kernel = dst->src[0], *src = dst->src[1];
	const int32_t stride = dst->op_params[0], pad = dst->op_params[2];
	const int64_t width = kernel->ne[0], length = src->ne[0], n = dst->ne[0];
	int32_t at[n];
	for (int64_t i = 0; i < n; i++) {
		at[i] = (int32_t)(i / width * length + i % width);
	}
#pragma omp parallel for num_threads(accel_threads(x)) if (accel_threads(x) > 1)
	for (int64_t r = 0; r < dst->ne[1]; r++) {
		const int64_t first = r * stride - pad;
		uint16_t *to = (uint16_t *)dst->data + r * n;
		if (first >= 0 && first + width <= length) {
			matrix_pick_half(to, (const float *)src->data + first, at, n);
			continue;
		}
		float edge[n];
		for (int64_t i = 0; i < n; i++) {
			const int64_t p = first + i % width;
			edge[i] = p >= 0 && p < length ? ((const float *)src->data)[i / width * length + p] : 0;
		}
		matrix_to_half(to, (const char *)edge, sizeof(float), n);
	}
}

// plain tells whether t is of floats without gaps.
static bool plain(const struct ggml_tensor *t) { return t->type == GGML_TYPE_F32 && ggml_is_contiguous(t); }

// takes_rows leaves a few rows to ggml, as the products around them are.
static bool takes_rows(const struct ggml_tensor *op) { return plain(op) && plain(op->src[0]) && ggml_nrows(op) >= SMALLEST; }

static bool takes_add(const struct ggml_tensor *op) {
	const struct ggml_tensor *a = op->src[0], *b = op->src[1];
	return takes_rows(op) && plain(b) && (ggml_are_same_shape(a, b) || is_row(b, a) || (is_column(b, a) && ggml_n_dims(a) <= 2));
}

static bool takes_copy(const struct ggml_tensor *op) {
	const struct ggml_tensor *src = op->src[0];
	const bool order = ggml_is_contiguous(op) || (ggml_are_same_shape(src, op) && op->nb[0] == ggml_type_size(op->type));
	return src->type == GGML_TYPE_F32 && (op->type == GGML_TYPE_F32 || op->type == GGML_TYPE_F16) && order && src->ne[3] == 1 &&
	       (src->nb[0] == sizeof(float) || src->nb[1] == sizeof(float)) && src->ne[0] * src->ne[1] >= SMALLEST * SMALLEST;
}

static bool takes_unfold(const struct ggml_tensor *op) {
	const int32_t *p = op->op_params; // strides, pads and dilations in two directions, and whether there are two
	return op->type == GGML_TYPE_F16 && ggml_is_contiguous(op) && plain(op->src[1]) && op->src[1]->ne[2] == 1 && p[4] == 1 && p[6] == 0 &&
	       op->ne[1] >= SMALLEST && op->ne[0] <= 1 << 14;
}

bool accel_takes(const struct ggml_tensor *op) {
	switch (op->op) {
	case GGML_OP_MUL_MAT:
		return takes_mul_mat(op);
	case GGML_OP_SOFT_MAX:
		return takes_soft_max(op);
	case GGML_OP_UNARY:
		return ggml_get_unary_op(op) == GGML_UNARY_OP_GELU && takes_rows(op);
	case GGML_OP_NORM:
		return takes_rows(op);
	case GGML_OP_MUL:
		return takes_rows(op) && plain(op->src[1]) && is_row(op->src[1], op);
	case GGML_OP_ADD:
		return takes_add(op);
	case GGML_OP_CPY:
	case GGML_OP_CONT:
	case GGML_OP_DUP:
		return takes_copy(op);
	case GGML_OP_IM2COL:
		return takes_unfold(op);
	default:
		return false;
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

// follows tells whether node i+1 does something to node i that nobody else reads.
static bool follows(const struct ggml_cgraph *g, int i, enum ggml_op op) {
	return i + 1 < g->n_nodes && ggml_node_has_n_uses(g, i, 1) && g->nodes[i + 1]->op == op &&
	       (g->nodes[i + 1]->src[0] == g->nodes[i] || g->nodes[i + 1]->src[1] == g->nodes[i]);
}

// finish_of finds what follows the product of node i and can be done with it, and returns the last node of it.
static int finish_of(const struct ggml_cgraph *g, int i, finish *f) {
	if (g->nodes[i]->ne[2] != 1 || g->nodes[i]->ne[3] != 1) {
		return i;
	}
	for (;; i++) {
		if (!f->gelu && f->residual == NULL && follows(g, i, GGML_OP_UNARY)) {
			f->gelu = true;
			continue;
		}
		if (f->residual != NULL || !follows(g, i, GGML_OP_ADD)) {
			return i;
		}
		const struct ggml_tensor *sum = g->nodes[i + 1], *other = sum->src[sum->src[0] == g->nodes[i] ? 1 : 0];
		if (ggml_are_same_shape(other, sum)) {
			f->residual = other->data;
			f->residual_ldc = other->nb[1] / sizeof(float);
		} else if (f->row == NULL && f->column == NULL && !f->gelu && is_row(other, sum)) {
			f->row = other->data;
		} else if (f->row == NULL && f->column == NULL && !f->gelu && is_column(other, sum)) {
			f->column = other->data;
		} else {
			return i;
		}
	}
}

static bool is_norm(const struct ggml_cgraph *g, int i) {
	return follows(g, i, GGML_OP_MUL) && follows(g, i + 1, GGML_OP_ADD) && is_row(g->nodes[i + 1]->src[1], g->nodes[i]) &&
	       is_row(g->nodes[i + 2]->src[1], g->nodes[i]);
}

// compute_node computes node i and those behind it that go with it, and returns the last of them.
static int compute_node(accel *x, const struct ggml_cgraph *g, int i) {
	const struct ggml_tensor *node = g->nodes[i];
	switch (node->op) {
	case GGML_OP_SOFT_MAX:
		accel_soft_max(node);
		return i;
	case GGML_OP_UNARY:
		gelu(x, node);
		return i;
	case GGML_OP_ADD:
		add(x, node);
		return i;
	case GGML_OP_NORM:
		if (is_norm(g, i)) {
			norm(x, node, g->nodes[i + 1]->src[1], g->nodes[i + 2]->src[1], g->nodes[i + 2]);
			return i + 2;
		}
		normalise(x, node);
		return i;
	case GGML_OP_MUL:
		scale_rows(x, node);
		return i;
	case GGML_OP_CPY:
	case GGML_OP_CONT:
	case GGML_OP_DUP:
		copy(x, node);
		return i;
	case GGML_OP_IM2COL:
		unfold(x, node);
		return i;
	case GGML_OP_MUL_MAT:
		if (is_attention(g, i)) {
			accel_attention(x, node, g->nodes[i + 1], g->nodes[i + 2]);
			return i + 2;
		}
		finish f = {0};
		const int last = finish_of(g, i, &f);
		accel_mul_mat(x, node, g->nodes[last], f);
		if (last == i && node->ne[0] >= STENO_VOCABULARY) {
			steno_logits_seen(node->data, node->nb[1] / sizeof(float), node->ne[1], node->ne[0]);
		}
		return last;
	default:
		return i;
	}
}

void accel_compute(accel *x, const struct ggml_cgraph *g) {
	for (int i = 0; i < g->n_nodes; i++) {
		i = compute_node(x, g, i);
	}
}
