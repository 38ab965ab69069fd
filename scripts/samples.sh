#!/usr/bin/env bash
# samples.sh adds a second speech sample to the engine's jfk.wav: .build/samples/sense.wav, five sentences of a read novel
# (public domain) with pauses between them, longer than one chunk. They lie in a Debian package, which is unpacked and not
# installed. Where apt-get is missing, jfk.wav has to do.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

samples=$build/samples
out=$samples/sense.wav
only_one samples
[ ! -s "$out" ] || exit 0

dir=$samples/deb
rm -rf "$dir" && mkdir -p "$dir"
if ! (cd "$dir" && apt-get -q download pocketsphinx-testdata >/dev/null 2>&1 && dpkg -x ./*.deb .); then
    say "no package of speech samples here: going on with jfk.wav alone"
    rm -rf "$dir"
    exit 0
fi
inputs=()
graph=
joined=
for clip in "$dir"/usr/share/pocketsphinx/test/data/librivox/*.wav; do
    n=$((${#inputs[@]} / 2))
    inputs+=(-i "$clip")
    graph+="[$n]apad=pad_dur=2[$n.padded];"
    joined+="[$n.padded]"
done
ffmpeg -nostdin -v error -y "${inputs[@]}" -filter_complex "${graph//./_}${joined//./_}concat=n=$((${#inputs[@]} / 2)):v=0:a=1" \
    -ar 16000 -ac 1 "$dir/sense.wav"
mv "$dir/sense.wav" "$out"
rm -rf "$dir"
