// variant says which of the library's kernels run. A portable build (scripts/variants.sh) holds ggml's CPU backend once for each of
// some instruction sets; the first that the CPU has is used, from the first call until the process ends.
#pragma once

// steno_variant names the one that is used, "native" in a build for one CPU only.
const char *steno_variant(void);
