#!/usr/bin/env bash
# onnxruntime.sh FILE gets the library that computes the networks which tell voices apart, of the project's own wheel. A file that is
# there is left alone.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

[ ! -s "$1" ] || exit 0
scripts/tools.sh pip
case $(uname -m) in
x86_64 | aarch64) platform=manylinux_2_28_$(uname -m) ;;
*) die "there is no ONNX Runtime for $(uname -m) here: build it and name it with --onnxruntime, or do without speakers." ;;
esac
work=$build/onnxruntime
rm -rf "$work"
trap 'rm -rf "$work"' EXIT
say "fetching ONNX Runtime (17 MB)"
python3 -m pip download -q --no-deps --dest "$work" --only-binary :all: --implementation cp --python-version 3.11 \
    --platform "$platform" --platform "${platform/2_28/2_27}" --require-hashes -r scripts/onnxruntime.txt ||
    die "ONNX Runtime could not be fetched: check the network and run make models again."
python3 -m zipfile -e "$work"/onnxruntime-*.whl "$work"
mv "$work"/onnxruntime/capi/libonnxruntime.so.* "$1"
