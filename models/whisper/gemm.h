// gemm takes the products with few columns, a decoder's, out of ggml's hands, at the function by which ggml itself takes them
// to its llamafile kernels: the linker puts ours in its place (--wrap).
#pragma once

#include <stdbool.h>

// steno_gemm_enable lets ggml use columns.h for such products, where the CPU has the instructions, or leaves them to its own
// kernels (the default). It says which.
bool steno_gemm_enable(bool on);

// steno_gemm_enabled tells what is used.
bool steno_gemm_enabled(void);
