// accel gives ggml a backend of type ACCEL, as its BLAS backend is one: of every graph it takes the large matrix products, the
// attention and what lies between them, which accel_ops.h computes; all else stays with ggml's CPU backend.
#pragma once

#include <stdbool.h>

// steno_accel_register makes the backend known to ggml, once, where the CPU has kernels for it. It must come before the first
// decode state is made. Graphs that start afterwards use it while matrix_use has chosen one.
void steno_accel_register(void);

// steno_accel_enabled tells whether graphs use the backend.
bool steno_accel_enabled(void);

// steno_shape is one product b·aᵀ, or one attention softmax(b·aᵀ/sqrt(depth))·v.
typedef struct {
	int type; // ggml_type of a and v; b is always of floats
	int depth, columns, rows, heads;
	int threads;
	bool attention;
	bool gelu; // of the product
	bool layer; // what an encoder does around two products, and the cut of its result into heads for a third
} steno_shape;

// steno_accel_check computes a shape from fixed random numbers with this backend and with ggml's, and returns the length of the
// difference over that of the result; bfloat16 keeps 8 bits, so 0.01 is plenty. -1 if graphs do not use the backend.
double steno_accel_check(steno_shape s);

// steno_gemm_check compares a product (heads of it, by threads) with and without gemm.h in the same way. No window may be decoded
// meanwhile.
double steno_gemm_check(steno_shape s);
