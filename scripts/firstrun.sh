#!/usr/bin/env bash
# firstrun.sh times what somebody does who has just heard of steno: a clone, `make run`, and a browser until the first transcript is on
# the page. Nothing that this user or checkout has built or fetched is used; what is installed on the machine is.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

new=$(mktemp -d)
trap 'chmod -R u+w "$new" && rm -rf "$new"' EXIT # Go's modules are read-only
mkdir "$new/home"
git clone --quiet . "$new/steno"

newly() { env -u GOPATH -u GOCACHE -u GOMODCACHE -u GOFLAGS HOME="$new/home" "$@"; }

began=$(date +%s)
newly make -C "$new/steno" run
took=$(($(date +%s) - began))
CONSOLE_STENO=$new/steno/bin/steno CONSOLE_MODELS=$new/steno/.build/models CONSOLE_SPEECH=$new/steno/.build/samples \
    CONSOLE_CHROMIUM=$(scripts/browser.sh) scripts/console.sh playwright test first.spec.ts
echo "first-run: make run took $took s from a new clone; what came after it is told above"
