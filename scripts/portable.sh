#!/usr/bin/env bash
# portable.sh checks bin/steno-portable: the same words with each instruction set that it was compiled for, and on an emulated CPU
# that has the least of them, where anything newer ends the process.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

scripts/tools.sh qemu
words="And so my fellow Americans ask not what your country can do for you, ask what you can do for your country."

# check NAME COMMAND… transcribes with the command.
check() {
    local name=$1 got
    shift
    got=$("$@" transcribe "$build/samples/jfk.wav" -m tiny.en -l en --models "$build/models") || die "$name: it failed"
    [ "$(echo "$got" | tr -d ',.' | tr '[:upper:]' '[:lower:]')" = "$(echo "$words" | tr -d ',.' | tr '[:upper:]' '[:lower:]')" ] ||
        die "$name: it wrote \"$got\""
    say "$name: the words are right"
}

for set in cascadelake skylakex haswell sse42; do
    if GGML_CPU_VARIANT=$set bin/steno-portable doctor --models "$build/models" 2>&1 | grep -q "no kernels that this CPU runs"; then
        say "$set: this CPU lacks it"
        continue
    fi
    check "$set" env GGML_CPU_VARIANT="$set" bin/steno-portable
done
# In one process: a child would not be emulated.
check "an emulated Nehalem" env GOMP_SPINCOUNT=0 timeout -k 5 1200 qemu-x86_64 -cpu Nehalem \
    bin/steno-portable --in-process true --sandbox off --threads 1
