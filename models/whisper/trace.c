//go:build cgo

#define _GNU_SOURCE // names of registers
#include "trace.h"

#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

// What the Go runtime hands over (runtime.SetCgoTraceback).
typedef struct {
	uintptr_t context;
	uintptr_t signal; // a ucontext_t
	uintptr_t *pcs;
	uintptr_t max;
} trace_arg;

void steno_trace(void *arg) {
	trace_arg *a = arg;
	uintptr_t pc = 0;
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
	const ucontext_t *u = (const ucontext_t *)a->signal;
	if (u != NULL) {
#ifdef __x86_64__
		pc = (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#else
		pc = (uintptr_t)u->uc_mcontext.pc;
#endif
	}
#endif
	if (a->max > 0) {
		a->pcs[0] = pc;
	}
	if (a->max > 1) {
		a->pcs[1] = 0;
	}
}
