"""Transcribe files with openai-whisper, for steno bench. Prints for each file a JSON line with its text, the seconds that loading
took (import included) and those that the file took."""

import argparse
import json
import time

begin = time.perf_counter()

import torch  # noqa: E402 (the import is a part of a cold start)
import whisper  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--weights", required=True)
parser.add_argument("--language", default="en")
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("files", nargs="+")
args = parser.parse_args()

if args.threads:
    torch.set_num_threads(args.threads)
model = whisper.load_model(args.weights, device="cpu")
load = time.perf_counter() - begin

for path in args.files:
    begin = time.perf_counter()
    result = model.transcribe(path, language=args.language, fp16=False)
    print(json.dumps({"text": result["text"].strip(), "load": load, "run": time.perf_counter() - begin}), flush=True)
    load = 0.0
