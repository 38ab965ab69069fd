#!/usr/bin/env bash
# python.sh NAME makes .build/NAME, a Python environment of its own with the packages that scripts/NAME.txt pins; nothing is done
# where it is there.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

name=${1:?which environment}
env=$build/$name
pins=scripts/$name.txt

scripts/tools.sh venv
only_one "$name"
want=$({ cat "$pins"; python3 --version; echo "$env"; } | sha256sum | cut -c1-16)
if [ "$(cat "$env/key" 2>/dev/null)" != "$want" ]; then
    say "installing what $pins pins into .build/$name"
    rm -rf "$env"
    python3 -m venv "$env"
    "$env/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$pins" ||
        die "the packages could not be installed: check the network and run make again."
    echo "$want" >"$env/key"
fi
