//go:build cgo

#include "accel.h"
#include "accel_ops.h"
#include "matrix.h"

#include <ggml-backend-impl.h>
#include <ggml-cpu.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_bool registered;

bool steno_accel_enabled(void) { return atomic_load(&registered) && matrix_used() != KERNELS_NONE; }

static bool supports_op(ggml_backend_dev_t dev, const struct ggml_tensor *op) {
	(void)dev;
	switch (op->op) {
	case GGML_OP_NONE:
	case GGML_OP_RESHAPE:
	case GGML_OP_VIEW:
	case GGML_OP_PERMUTE:
	case GGML_OP_TRANSPOSE:
		return true;
	default:
		return steno_accel_enabled() && accel_takes(op);
	}
}

static enum ggml_status graph_compute(ggml_backend_t backend, struct ggml_cgraph *g) {
	accel_compute(backend->context, g);
	return GGML_STATUS_SUCCESS;
}

// What follows is the form that ggml asks of a backend.

static const char *backend_name(ggml_backend_t backend) {
	(void)backend;
	return "steno";
}

static void backend_free(ggml_backend_t backend) {
	accel_free(backend->context);
	free(backend);
}

static void set_threads(ggml_backend_t backend, int threads) { accel_set_threads(backend->context, threads); }

static ggml_backend_t init_backend(ggml_backend_dev_t dev, const char *params) {
	(void)params;
	static ggml_guid guid = {0x5e, 0x1d, 0x0c, 0x9a, 0x37, 0x42, 0x4b, 0xe1, 0x8f, 0x60, 0x2b, 0xd4, 0x71, 0xa9, 0x03, 0xc6};
	accel *x = accel_new();
	struct ggml_backend *b = calloc(1, sizeof *b);
	if (x == NULL || b == NULL) {
		if (x != NULL) {
			accel_free(x);
		}
		free(b);
		return NULL;
	}
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
	return "matrix products and what lies between them";
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

void steno_accel_register(void) {
	static struct ggml_backend_reg reg = {
		.api_version = GGML_BACKEND_API_VERSION,
		.iface = {
			.get_name = reg_name,
			.get_device_count = reg_device_count,
			.get_device = reg_device,
			.get_proc_address = reg_proc_address,
		},
	};
	if (matrix_best(KERNELS_AMX) != KERNELS_NONE && !atomic_exchange(&registered, true)) {
		ggml_backend_register(&reg);
	}
}
