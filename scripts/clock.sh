#!/usr/bin/env bash
# clock.sh PROGRAM builds steno with failpoints and a wall clock that a test can set: the file that STENO_CLOCK names holds the
# seconds that it is off. Go's own time package is built with one line more for that (go build -overlay), so all that the program is
# made of sees the same clock. It takes some minutes the first time, for all is built anew.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

program=$1
overlay=$build/clock
original=$(go env GOROOT)/src/time/time.go
mkdir -p "$overlay"
sed 's/^\tsec, nsec, mono := runtimeNow()$/&\n\tsec += shift/' "$original" >"$overlay/time.go.txt"
grep -q 'sec += shift' "$overlay/time.go.txt" || die "this Go's time.Now is not as clock.sh knows it"
printf '\n// shift is added to the wall clock.\n//\n//go:linkname shift\nvar shift int64\n' >>"$overlay/time.go.txt"
printf '{"Replace":{"%s":"%s"}}\n' "$original" "$overlay/time.go.txt" >"$overlay/overlay.json"
# shellcheck disable=SC1091 # it is made by engine.sh
source "$build/engine/env"
go build -overlay "$overlay/overlay.json" -tags failpoints,clock -o "$program" ./cmd/steno
