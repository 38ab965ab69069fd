# Sourced by engine.sh: builds ggml's CPU backend several times, for growing instruction sets, into one library
# (docs/adr/0011-one-binary.md). models/whisper/variant.c chooses among them at run time.
# shellcheck shell=bash
# shellcheck disable=SC2154 # engine.sh has the variables

# Each with the options of ggml that it is built with, named as ggml names such builds. The first that a CPU has all of is used.
variants=(
    "cascadelake SSE42 AVX F16C FMA AVX2 BMI2 AVX512 AVX512_VNNI"
    "skylakex    SSE42 AVX F16C FMA AVX2 BMI2 AVX512"
    "alderlake   SSE42 AVX F16C FMA AVX2 BMI2 AVX_VNNI"
    "haswell     SSE42 AVX F16C FMA AVX2 BMI2"
    "sse42       SSE42"
)

# All that a variant shows to the rest of the program, under names that end in its own. What else it defines becomes local: of two
# functions of one name, as C++ makes them from templates, the linker would take any, and so one that this CPU cannot run.
faces=(ggml_backend_cpu_reg ggml_backend_cpu_init ggml_backend_cpu_set_n_threads llamafile_sgemm)

# options_of FEATURE… are ggml's for these and for no others.
options_of() {
    local feature
    echo -DGGML_NATIVE=OFF
    for feature in SSE42 AVX F16C FMA AVX2 BMI2 AVX_VNNI AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16; do
        if [[ " $* " == *" $feature "* ]]; then
            echo "-DGGML_$feature=ON"
        else
            echo "-DGGML_$feature=OFF"
        fi
    done
}

# merge NAME ARCHIVE OBJECT makes one object of a variant's. ggml's products go through gemm.c, as in other builds by engine.sh's wrap.
merge() {
    local face names=()
    for face in "${faces[@]}"; do
        names+=(--redefine-sym "$face=${face}_$1" --keep-global-symbol "${face}_$1")
    done
    ld -r --force-group-allocation --wrap=llamafile_sgemm --whole-archive -o "$3" "$2" &&
        objcopy "${names[@]}" "$3" && is_closed "$3"
}

# is_closed OBJECT: nothing but the faces is visible, and nothing runs at the program's start, before a variant is chosen.
is_closed() {
    [ "$(nm --defined-only --extern-only "$1" | wc -l)" = ${#faces[@]} ] && ! objdump -h "$1" | grep -q -E '\.(init_array|ctors)'
}

# build_variant NAME FEATURE…: the target ggml-cpu/fast is that library without those it is linked with. Symbols that are unique in a
# program (static variables of templates) could not be made local.
build_variant() {
    local at=$obj/$1 chosen
    mapfile -t chosen < <(options_of "${@:2}")
    configure "$at" -G "Unix Makefiles" "${chosen[@]}" -DCMAKE_CXX_FLAGS_RELEASE="-O3 -DNDEBUG -fno-gnu-unique" || return
    compile "$at" ggml-cpu/fast || return
    merge "$1" "$at/ggml/src/libggml-cpu.a" "$obj/ggml-cpu-$1.o" || return
    printf 'VARIANT(%s,%s true)\n' "$1" "$(printf ' HAS_%s &&' "${@:2}")" >>"$engine/include/variants.h"
}

# build_variants leaves the rest of whisper.cpp as it is built for any x86-64: nearly all its time is spent in ggml's CPU backend.
build_variants() {
    local variant words at
    [ "$(uname -sm)" = "Linux x86_64" ] || die "a binary for all CPUs is built on Linux and for x86-64 only"
    say "building whisper.cpp $version for ${#variants[@]} instruction sets with $(nproc) jobs (about five CPU-minutes)"
    for variant in "${variants[@]}"; do
        read -r -a words <<<"$variant"
        build_variant "${words[@]}" || did_not_build "ggml for ${words[0]}"
    done
    at=$obj/${words[0]}
    compile "$at" whisper || did_not_build whisper.cpp
    find "$at" -name 'lib*.a' ! -name libggml-cpu.a -exec cp {} "$engine/lib/" \;
    ar rcs "$engine/lib/libggml-cpu.a" "$obj"/ggml-cpu-*.o
}
