#!/usr/bin/env bash
# cuda.sh builds bin/libggml-cuda.so, ggml's part for NVIDIA's GPUs, from the pinned source of the engine. steno loads it where it
# lies beside the program, so one binary serves machines with GPUs and without. Nothing is done where source, toolkit and choices are
# as before.
#
# CUDA_ARCHS   the GPUs to build for, as CMake names them ("80", "86-real;90-virtual"); all that ggml is optimised for by default
# CUDA_TOOLKIT "pip" gets the compiler from PyPI into .build where there is none (600 MB, unpacked 1.3 GB)
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

archs=${CUDA_ARCHS:-75-virtual;80-virtual;86-real;89-real;90-virtual;120a-real}
src=$build/engine/src
cuda=$build/cuda
out=bin/libggml-cuda.so

# toolkit prints the folder that has bin/nvcc.
toolkit() {
    local nvcc
    for nvcc in "${CUDA_HOME:-}/bin/nvcc" "${CUDA_PATH:-}/bin/nvcc" "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc "$cuda/toolkit/bin/nvcc"; do
        if [ -x "$nvcc" ]; then
            dirname "$(dirname "$(readlink -f "$nvcc")")"
            return
        fi
    done
    return 1
}

# from_pip unpacks NVIDIA's wheels, and adds the names that linkers look for.
from_pip() {
    local new=$cuda/toolkit.new lib
    scripts/tools.sh pip
    say "fetching CUDA's compiler (600 MB)"
    rm -rf "$new" && mkdir -p "$new"
    python3 -m pip install -q --no-deps --require-hashes --target "$new" -r scripts/cuda-toolkit.txt ||
        die "CUDA's compiler could not be fetched: check the network, or install NVIDIA's toolkit and set CUDA_HOME"
    new=$new/nvidia/cu13
    chmod +x "$new"/bin/* "$new"/nvvm/bin/*
    for lib in "$new"/lib/lib*.so.*; do
        ln -sf "$(basename "$lib")" "${lib%%.so.*}.so"
    done
    rm -rf "$cuda/toolkit" && mv "$new" "$cuda/toolkit"
    rm -rf "$cuda/toolkit.new"
}

key() { { echo "$archs" "$1"; cat "$0"; cat "$build/engine/key"; "$1/bin/nvcc" --version; } | sha256sum | cut -c1-16; }

only_one cuda
mkdir -p "$cuda" bin
if ! home=$(toolkit); then
    [ "${CUDA_TOOLKIT:-}" = pip ] ||
        die "nvcc is not here: install NVIDIA's CUDA toolkit (CUDA_HOME names its folder), or let CUDA_TOOLKIT=pip make cuda fetch it"
    from_pip
    home=$(toolkit)
fi
want=$(key "$home")
if [ "$(cat "$cuda/key" 2>/dev/null)" = "$want" ] && [ -e "$out" ]; then
    exit 0
fi

say "building for $archs with $("$home/bin/nvcc" --version | sed -n 's/^.*release \([^,]*\),.*$/CUDA \1/p'): this takes a while"
rm -rf "$cuda/obj" "$cuda/key"

# The library is loaded into a program that has the rest of ggml in it and shows it (-Wl,--export-dynamic), so it is linked below, without a
# second copy of that. No flash attention: it excludes windows of their own length (docs/adr/0003-one-pass.md). No VMM: its memory pools
# want to be freed in the order of their making, and decode states end in any.
configure() {
    cmake -S "$src" -B "$cuda/obj" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_CPU=OFF \
        -DWHISPER_BUILD_TESTS=OFF -DWHISPER_BUILD_EXAMPLES=OFF \
        -DGGML_CUDA=ON -DGGML_NATIVE=OFF -DGGML_CCACHE=OFF -DGGML_CUDA_FA=OFF -DGGML_CUDA_NO_VMM=ON -DGGML_CUDA_NCCL=OFF \
        -DCUDAToolkit_ROOT="$home" -DCMAKE_CUDA_COMPILER="$home/bin/nvcc" -DCMAKE_CUDA_ARCHITECTURES="$archs"
}
if ! { configure && cmake --build "$cuda/obj" -j "${CUDA_JOBS:-$(nproc)}" --target ggml-cuda; } >"$cuda/build.log" 2>&1; then
    tail -n 20 "$cuda/build.log" >&2
    die "ggml's CUDA part did not build; all output: $cuda/build.log"
fi
lib=$home/lib64
[ -d "$lib" ] || lib=$home/lib
mapfile -d '' objects < <(find "$cuda/obj/ggml/src/ggml-cuda" -name '*.o' -print0)
c++ -shared -o "$out.new" "${objects[@]}" -L"$lib" -lcudart_static -lcublas -ldl -lrt -lpthread \
    -Wl,-rpath,"\$ORIGIN:$lib" -Wl,--gc-sections || die "ggml's CUDA part could not be linked"
mv "$out.new" "$out"
echo "$want" >"$cuda/key"
say "$out is $(du -h "$out" | cut -f1)"
