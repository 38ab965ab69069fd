// What the backend of accel.h computes: the operations of an encoder, on matrices of at least 32 rows.
#pragma once

#include <ggml.h>

#include <stdbool.h>

// accel holds scratch memory; one thread uses it at a time.
typedef struct accel accel;

// accel_new is NULL where there is no memory.
accel *accel_new(void);
void accel_free(accel *x);

// accel_set_threads sets how many threads a graph is computed by, 1 at first.
void accel_set_threads(accel *x, int threads);

// accel_takes tells whether an operation can be computed here.
bool accel_takes(const struct ggml_tensor *op);

// accel_compute computes a graph of which accel_takes takes every node that computes something.
void accel_compute(accel *x, const struct ggml_cgraph *g);
