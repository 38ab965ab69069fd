#!/usr/bin/env bash
# spread.sh measures one long recording over several workers, each with one core of its own where there are as many, and compares their
# transcripts. Settings, each with its default:
#   WORKERS="1 2 4"   how many, one after the other
#   AUDIO=            the recording; 60 minutes of the samples, again and again, where it is empty
#   MODEL=tiny.en     the model
#   STENO=bin/steno   the program; one built with -tags failpoints heeds STENO_SCRIPT, a scripted engine that sleeps instead of computing
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

steno=${STENO:-bin/steno} model=${MODEL:-tiny.en} audio=${AUDIO:-}
out=$build/spread
rm -rf "$out/run" && mkdir -p "$out/run"
if [ -z "$audio" ]; then
    audio=$out/hour.mp3
    if [ ! -s "$audio" ]; then
        for sample in "$build"/samples/*.wav; do printf "file '%s'\n" "$sample"; done >"$out/list"
        ffmpeg -nostdin -v error -y -stream_loop -1 -f concat -safe 0 -i "$out/list" -t 3600 -ac 1 -ar 16000 -b:a 48k "$audio"
    fi
fi
export STENO_MODELS=$build/models STENO_MODEL=$model STENO_ADMIN=off
cores=$(nproc)
pids=()
stop() {
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    pids=()
}
trap stop EXIT

echo "| workers | seconds | times real time | speed-up | efficiency | chunks | of those elsewhere | transcript |"
echo "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
alone='' first=''
for n in ${WORKERS:-1 2 4}; do
    at=$out/run/$n
    mkdir -p "$at"
    printf 'listen: "127.0.0.1:-1"\nports_file_dir: "%s"\njetstream { store_dir: "%s", sync_interval: always }\n' "$at" "$at/store" >"$at/nats.conf"
    .build/fault/nats-server -c "$at/nats.conf" >"$at/nats.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 100); do
        compgen -G "$at/*.ports" >/dev/null && break
        sleep 0.1
    done
    url=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["nats"][0])' "$at"/*.ports)
    for w in $(seq "$n"); do
        taskset -c "$(((w - 1) % cores))" "$steno" worker --data "$at/worker$w" --nats "$url" --jobs 1 >"$at/worker$w.log" 2>&1 &
        pids+=($!)
    done
    for w in $(seq "$n"); do
        for _ in $(seq 600); do
            grep -q 'msg="model loaded"' "$at/worker$w.log" && break
            sleep 0.1
        done
    done
    began=$(date +%s.%N)
    "$steno" submit --nats "$url" --wait --json --model "$model" "$audio" >"$at/result.json"
    took=$(python3 -c 'import sys; print(float(sys.argv[2]) - float(sys.argv[1]))' "$began" "$(date +%s.%N)")
    stop
    alone=${alone:-$took}
    sum=$(python3 -c 'import json, sys; t = json.load(open(sys.argv[1])); print([(s["start"], s["end"], s["text"]) for s in t["segments"]])' "$at/result.json" | sha256sum | cut -c1-12)
    first=${first:-$sum}
    python3 - "$at/result.json" "$n" "$took" "$alone" "$([ "$sum" = "$first" ] && echo "$sum" || echo "DIFFERS: $sum")" <<'PY'
import json
import sys

path, n, took, alone, transcript = sys.argv[1:]
t, n, took, alone = json.load(open(path)), int(n), float(took), float(alone)
print(f"| {n} | {took:.1f} | {t['duration'] / took:.0f} | {alone / took:.2f} | {alone / took / n:.0%} | {t['chunks_count']} | "
      f"{t.get('chunks_elsewhere', 0)} | {transcript} |")
PY
done
