// gemm takes the products with few columns, a decoder's, out of ggml's hands, at the function by which ggml itself takes them
// to its llamafile kernels: the linker puts ours in its place (--wrap).
#pragma once

#include <stdbool.h>

// steno_gemm_enabled tells whether they are taken: whether columns_use has chosen kernels, and this build's linker wraps.
bool steno_gemm_enabled(void);
