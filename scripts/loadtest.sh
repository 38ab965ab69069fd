#!/usr/bin/env bash
# loadtest.sh starts a fresh `steno up`, has Locust's users at it, and holds what Locust measured to bench/load/thresholds.yaml. It ends
# with 1 where a threshold does not hold. Settings, each with its default:
#   USERS=50 LENGTH=180 WARMUP=30  so many users, for so long, after so many seconds that do not count (0: a cold start)
#   FRESH=0.1                        share of the tasks that are transcribed although there is a transcript already
#   STEPS=                           USERS:SECONDS,… one after the other instead, without thresholds: where it breaks
#   STENO=bin/steno                  the program under test; STENO_FAILPOINTS reaches one built with -tags failpoints
#   OUT=.build/loadtest              where results and the node's log go
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

users=${USERS:-50} seconds=${LENGTH:-180} warmup=${WARMUP:-30} steps=${STEPS:-}
steno=${STENO:-bin/steno}
out=${OUT:-$build/loadtest}
accounts=10
rm -rf "$out" && mkdir -p "$out"

# Real speech, as people send it: the samples one after the other, again and again, as MP3.
audio=$build/load-audio
if [ ! -s "$audio/300.mp3" ]; then
    mkdir -p "$audio"
    for sample in "$build"/samples/*.wav; do printf "file '%s'\n" "$sample"; done >"$audio/list"
    for length in 30 120 300; do
        ffmpeg -nostdin -v error -y -stream_loop -1 -f concat -safe 0 -i "$audio/list" -t "$length" -ac 1 -ar 44100 -b:a 64k "$audio/$length.mp3"
    done
fi

export STENO_USER=load STENO_PASSWORD=load-test-of-steno STENO_MODELS=$build/models
export STENO_ADDRESS_RATE=0 # all users come from one address
"$steno" up --data "$out/data" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --model tiny.en >"$out/node.log" 2>&1 &
node=$!
stop() {
    kill -TERM "$node" 2>/dev/null || true
    wait "$node" 2>/dev/null || true
}
trap stop EXIT
address=
for _ in $(seq 300); do
    address=$(sed -nE 's/.*msg="the API is at" url=([^ ]*).*/\1/p' "$out/node.log")
    [ -z "$address" ] || break
    kill -0 "$node" 2>/dev/null || { tail -n 20 "$out/node.log" >&2; die "steno up ended early"; }
    sleep 0.1
done
[ -n "$address" ] || die "steno up was not ready within 30 s; its log: $out/node.log"

people=load:$STENO_PASSWORD
for i in $(seq 2 $accounts); do
    printf '%s' "$STENO_PASSWORD" | "$steno" user add "load$i" --password-stdin --data "$out/data" >>"$out/users.log" 2>&1
    people+=,load$i:$STENO_PASSWORD
done

options=(--config bench/load/locust.conf --host "$address" --csv "$out/load" --html "$out/load.html" --users "$users")
export LOAD_AUDIO=$audio LOAD_ACCOUNTS=$people LOAD_FRESH=${FRESH:-0.1} LOAD_WARMUP=$warmup LOAD_STEPS=$steps
if [ -n "$steps" ]; then
    options+=(--csv-full-history)
else
    options+=(--run-time "$((warmup + seconds))s")
fi
say "$users users${steps:+, in the steps $steps,} at $address, results in $out"
"$build/locust/bin/locust" "${options[@]}" >"$out/locust.log" 2>&1 || say "Locust says that requests failed, or ended early: $out/locust.log"
[ -s "$out/load_stats.csv" ] || { tail -n 20 "$out/locust.log" >&2; die "Locust has measured nothing"; }
if [ -n "$steps" ]; then
    "$build/locust/bin/python" scripts/steps.py "$steps" "$out/load_stats_history.csv"
    exit
fi
"$steno" bench check --results "$out/load_stats.csv" --thresholds bench/load/thresholds.yaml --users "$users" --host "$address" | tee "$out/report.md"
