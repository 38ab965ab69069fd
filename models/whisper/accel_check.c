//go:build cgo

#include "accel.h"
#include "columns.h"
#include "gemm.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

// fill writes values in [-1, 1) from a fixed sequence, so that a failure can be repeated.
static void fill(struct ggml_tensor *t, struct ggml_tensor *floats, uint32_t *seed) {
	float *x = floats->data;
	const int64_t n = ggml_nelements(t);
	for (int64_t i = 0; i < n; i++) {
		*seed = *seed * 1664525u + 1013904223u;
		x[i] = (float)(*seed >> 8) / (1 << 23) - 1;
	}
	if (t->type == GGML_TYPE_F32) {
		memcpy(t->data, x, n * sizeof(float));
	} else {
		ggml_quantize_chunk(t->type, x, t->data, 0, ggml_nrows(t), t->ne[0], NULL);
	}
}

static struct ggml_tensor *random_tensor(struct ggml_context *ctx, enum ggml_type type, int64_t a, int64_t b, int64_t c, uint32_t *seed) {
	struct ggml_tensor *t = ggml_new_tensor_3d(ctx, type, a, b, c);
	fill(t, ggml_new_tensor_1d(ctx, GGML_TYPE_F32, a * b * c), seed);
	return t;
}

static struct ggml_tensor *build_layer(struct ggml_context *ctx, steno_shape s) {
	uint32_t seed = 1;
	struct ggml_tensor *heard = random_tensor(ctx, GGML_TYPE_F32, 2 * s.rows, 40, 1, &seed);
	struct ggml_tensor *x = ggml_conv_1d_ph(ctx, random_tensor(ctx, GGML_TYPE_F16, 3, 40, s.depth, &seed), heard, 2, 1);
	x = ggml_add(ctx, x, random_tensor(ctx, GGML_TYPE_F32, 1, s.depth, 1, &seed));
	x = ggml_cont(ctx, ggml_transpose(ctx, ggml_gelu(ctx, x)));
	struct ggml_tensor *weights = random_tensor(ctx, GGML_TYPE_F32, s.depth, 1, 1, &seed);
	struct ggml_tensor *shift = random_tensor(ctx, GGML_TYPE_F32, s.depth, 1, 1, &seed);
	struct ggml_tensor *cur = ggml_add(ctx, ggml_mul(ctx, ggml_norm(ctx, x, 1e-5f), weights), shift);
	cur = ggml_mul_mat(ctx, random_tensor(ctx, s.type, s.depth, s.columns, 1, &seed), cur);
	cur = ggml_gelu(ctx, ggml_add(ctx, cur, random_tensor(ctx, GGML_TYPE_F32, s.columns, 1, 1, &seed)));
	cur = ggml_mul_mat(ctx, random_tensor(ctx, s.type, s.columns, s.depth, 1, &seed), cur);
	cur = ggml_add(ctx, ggml_add(ctx, cur, random_tensor(ctx, GGML_TYPE_F32, 1, s.rows, 1, &seed)), x);
	cur = ggml_cont(ctx, ggml_transpose(ctx, ggml_cont(ctx, ggml_transpose(ctx, cur))));
	struct ggml_tensor *heads = ggml_permute(ctx, ggml_reshape_3d(ctx, cur, s.depth / s.heads, s.heads, s.rows), 1, 2, 0, 3);
	struct ggml_tensor *p = random_tensor(ctx, GGML_TYPE_F32, s.rows, 64, s.heads, &seed);
	cur = ggml_mul_mat(ctx, ggml_cast(ctx, heads, GGML_TYPE_F16), p);
	return ggml_cont_2d(ctx, ggml_permute(ctx, cur, 0, 2, 1, 3), s.depth, 64);
}

static struct ggml_tensor *build(struct ggml_context *ctx, steno_shape s) {
	if (s.layer) {
		return build_layer(ctx, s);
	}
	uint32_t seed = 1;
	struct ggml_tensor *a = random_tensor(ctx, s.type, s.depth, s.columns, s.heads, &seed);
	if (!s.attention) {
		struct ggml_tensor *product = ggml_mul_mat(ctx, a, random_tensor(ctx, GGML_TYPE_F32, s.depth, s.rows, s.heads, &seed));
		return s.gelu ? ggml_gelu(ctx, product) : product;
	}
	struct ggml_tensor *q = ggml_permute(ctx, random_tensor(ctx, GGML_TYPE_F32, s.depth, s.heads, s.rows, &seed), 0, 2, 1, 3);
	struct ggml_tensor *v = random_tensor(ctx, s.type, s.columns, s.depth, s.heads, &seed);
	struct ggml_tensor *out = ggml_mul_mat(ctx, v, ggml_soft_max_ext(ctx, ggml_mul_mat(ctx, a, q), NULL, 1 / sqrtf(s.depth), 0));
	out->data = q->data; // as ggml's allocator has it: nobody reads q once the scores are there
	return out;
}

// compute runs a graph of the same numbers on a backend and returns its result, which lies in ctx.
static struct ggml_tensor *compute(struct ggml_context *ctx, ggml_backend_t backend, steno_shape s) {
	struct ggml_tensor *out = build(ctx, s);
	struct ggml_cgraph *g = ggml_new_graph(ctx);
	ggml_build_forward_expand(g, out);
	return ggml_backend_graph_compute(backend, g) == GGML_STATUS_SUCCESS ? out : NULL;
}

static double distance(const struct ggml_tensor *got, const struct ggml_tensor *want) {
	const float *x = got->data, *y = want->data;
	double difference = 0, size = 0;
	for (int64_t i = 0; i < ggml_nelements(want); i++) {
		difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
		size += (double)y[i] * y[i];
	}
	return sqrt(difference / size);
}

static size_t memory_for(steno_shape s) {
	if (s.layer) {
		return 64 * sizeof(float) * ((size_t)s.depth + s.rows + 64) * ((size_t)s.columns + s.rows + 64) + (16 << 20);
	}
	const size_t values = (size_t)s.heads * ((size_t)s.depth * (3 * (size_t)s.columns + 2 * (size_t)s.rows) + 3 * (size_t)s.rows * s.columns);
	return 4 * values * sizeof(float) + (16 << 20);
}

double steno_accel_check(steno_shape s) {
	ggml_backend_dev_t dev = ggml_backend_dev_by_name("steno");
	if (dev == NULL || !steno_accel_enabled()) {
		return -1;
	}
	ggml_backend_t ours = ggml_backend_dev_init(dev, NULL), cpu = ggml_backend_cpu_init();
	struct ggml_context *ctx = ggml_init((struct ggml_init_params){.mem_size = memory_for(s)});
	double result = INFINITY;
	if (ours != NULL && cpu != NULL && ctx != NULL) {
		ggml_backend_set_n_threads_t set_threads = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(dev), "ggml_backend_set_n_threads");
		set_threads(ours, s.threads);
		ggml_backend_cpu_set_n_threads(cpu, s.threads);
		struct ggml_tensor *got = compute(ctx, ours, s), *want = compute(ctx, cpu, s);
		result = got == NULL || want == NULL ? INFINITY : distance(got, want);
	}
	ggml_free(ctx);
	ggml_backend_free(ours);
	ggml_backend_free(cpu);
	return result;
}

double steno_gemm_check(steno_shape s) {
	const kernels before = columns_used();
	if (!steno_gemm_enabled()) {
		return -1;
	}
	ggml_backend_t cpu = ggml_backend_cpu_init();
	struct ggml_context *ctx = ggml_init((struct ggml_init_params){.mem_size = memory_for(s)});
	double result = INFINITY;
	if (cpu != NULL && ctx != NULL) {
		ggml_backend_cpu_set_n_threads(cpu, s.threads);
		struct ggml_tensor *got = compute(ctx, cpu, s);
		columns_use(KERNELS_NONE);
		struct ggml_tensor *want = compute(ctx, cpu, s);
		result = got == NULL || want == NULL ? INFINITY : distance(got, want);
	}
	columns_use(before);
	ggml_free(ctx);
	ggml_backend_free(cpu);
	return result;
}
