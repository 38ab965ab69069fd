# Shared by the scripts of this folder: sourced, never run.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=$PWD/.build
mkdir -p "$build"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "$*"
    exit 1
}

# only_one NAME makes a second run of the same script wait, so that two makes do not write into one folder.
only_one() {
    exec 9>"$build/.$1.lock"
    flock 9
}

# sha256_is FILE SUM tells whether the file has that checksum.
sha256_is() { echo "$2  $1" | sha256sum --check --status 2>/dev/null; }
