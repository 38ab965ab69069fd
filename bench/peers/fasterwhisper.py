"""Transcribe files with faster-whisper, for steno bench. Prints each segment as a JSON line as it comes, and after the last one
of a file a line with its text, the seconds that loading took (import included) and those that the file took."""

import argparse
import json
import time

begin = time.perf_counter()

from faster_whisper import BatchedInferencePipeline, WhisperModel  # noqa: E402 (the import is a part of a cold start)

parser = argparse.ArgumentParser()
parser.add_argument("--weights", required=True)
parser.add_argument("--language", default="en")
parser.add_argument("--compute", default="int8")
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--beam", type=int, default=1)
parser.add_argument("--batch", type=int, default=0)
parser.add_argument("files", nargs="+")
args = parser.parse_args()

model = WhisperModel(args.weights, device="cpu", compute_type=args.compute, cpu_threads=args.threads)
options = {"language": args.language, "beam_size": args.beam}
if args.batch:
    model = BatchedInferencePipeline(model)
    options["batch_size"] = args.batch
load = time.perf_counter() - begin

for path in args.files:
    begin = time.perf_counter()
    segments, _ = model.transcribe(path, **options)
    texts = []
    for segment in segments:
        texts.append(segment.text.strip())
        print(json.dumps({"segment": texts[-1], "start": segment.start, "end": segment.end}), flush=True)
    print(json.dumps({"text": " ".join(texts), "load": load, "run": time.perf_counter() - begin}), flush=True)
    load = 0.0
