#!/usr/bin/env bash
# run.sh starts `steno up`, submits the samples, prints their transcripts and where the time went, and stops it again.
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

data=$build/data
log=$build/up.log
export STENO_MODELS=$build/models

bin/steno up --data "$data" --listen 127.0.0.1:0 --admin off >"$log" 2>&1 &
up=$!

stop() {
    kill -INT "$up" 2>/dev/null || true
    wait "$up" || true
}
trap stop EXIT

ready() { bin/steno status --data "$data" >/dev/null 2>&1; }

for _ in $(seq 300); do
    ready && break
    kill -0 "$up" 2>/dev/null || { tail -n 20 "$log" >&2; die "steno up ended early; its log: $log"; }
    sleep 0.1
done
ready || { tail -n 20 "$log" >&2; die "steno up was not ready within 30 s; its log: $log"; }

for sample in "$build"/samples/*.wav; do
    say "${sample##*/}"
    bin/steno submit --data "$data" --wait "$sample"
done
