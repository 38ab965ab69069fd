#!/usr/bin/env bash
# peers.sh makes .build/peers, what `steno bench run` measures beside steno: bin/ with whisper-cli and whisper-server from the
# engine's own pinned source, and python/, an environment of its own with faster-whisper as peers.txt pins it. What is there is
# left alone. Weights that only comparisons need come into .build/models: f16 of tiny.en, and q5_1.
# peers.sh --with-torch adds openai-whisper, by version and not by hash: its torch is another for each platform, and hundreds of
# megabytes. Its weights are looked for at .build/peers/openai/MODEL.pt. Without it the reports name it as absent.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

peers=$build/peers
python=$peers/python

install_python() {
    local want
    want=$({ cat scripts/peers.txt; python3 --version; echo "$python"; } | sha256sum | cut -c1-16)
    [ "$(cat "$python/key" 2>/dev/null)" != "$want" ] || return 0
    say "installing faster-whisper into .build/peers/python (200 MB)"
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/python" -m pip install -q --disable-pip-version-check --require-hashes --only-binary :all: \
        -r scripts/peers.txt ||
        die "faster-whisper could not be installed: check the network and run it again."
    echo "$want" >"$python/key"
}

install_torch() {
    [ ! -d "$(echo "$python"/lib/python3*/site-packages/whisper)" ] || return 0
    say "installing openai-whisper with torch into .build/peers/python"
    "$python/bin/python" -m pip install -q --disable-pip-version-check openai-whisper==20250625 ||
        die "openai-whisper could not be installed: check the network, or go without --with-torch."
}

scripts/tools.sh venv
scripts/engine.sh peer
only_one peers
mkdir -p "$peers/bin"
for program in whisper-cli whisper-server; do
    if [ -e "$build/engine/bin/$program" ]; then
        cp "$build/engine/bin/$program" "$peers/bin/"
    else
        say "$program is not built, so reports will name it as absent"
    fi
done
sed -n 's/^version=//p' scripts/engine.sh >"$peers/bin/version"
scripts/weights-fallback.sh
scripts/models.sh compared
install_python
if [ "${1-}" = --with-torch ]; then
    install_torch
fi
say "the peers are in .build/peers"
